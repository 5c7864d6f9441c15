"""The gallery as a script: a run for each page, and each technique on the three kinds of models."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import condition as cd
from condition.models.embedded import converted, embedded_file
from condition.models.local import LocalModel
from tests.models.test_served import client, serving

ROOT = Path(__file__).resolve().parents[2]
SHORT = cd.Sampling(max_tokens=4, temperature=0.0)


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("techniques", ROOT / "examples" / "techniques.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["techniques"] = module  # its NamedTuple looks itself up there
    spec.loader.exec_module(module)
    return module


def test_every_page_has_a_run(example: Any) -> None:
    pages = {page.stem for page in (ROOT / "docs" / "techniques").glob("*.md")} - {"index"}
    assert set(example.TECHNIQUES) == pages


@pytest.mark.real
def test_it_prints_question_trace_answer_and_tokens(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(["few-shot", "selection-inference", "best-of", "--tokens", "12"])
    few, inference, best, _ = re.split(r"\n\n(?=== |$)", capsys.readouterr().out)
    assert few.startswith("== few-shot ==\nquestion  Italy\ntrace     Rome\nanswer    Rome ")
    assert "trace     Mice fear cats. Emma is a mouse. Therefore: Emma fears cats." in inference
    assert "\nanswer    cats " in inference
    assert re.search(r"\ntokens    [1-9]\d* computed, [1-9]\d* saved$", best)


def test_an_unknown_name(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example.main(["few-shots"])
    assert "no technique 'few-shots'" in capsys.readouterr().err


def check(example: Any, model: Any, names: set[str]) -> None:
    """Each gives an answer, or says why there is none, and what it cost."""
    for name in sorted(names):
        run = example.TECHNIQUES[name](model, SHORT)
        assert isinstance(run.answer, cd.Answer), name
        assert run.answer.text or run.answer.error, name
        if name not in ("calibration", "explanations"):  # these score, or give rows
            assert run.answer.usage.total_tokens > 0, name
        assert example.page(name, run).startswith(f"== {name} ==\nquestion  ")


@pytest.mark.real
def test_each_on_the_embedded_model(example: Any, embedded: LocalModel) -> None:
    check(example, embedded, set(example.TECHNIQUES))


@pytest.mark.real
def test_each_on_a_tuned_adapter(example: Any, embedded: LocalModel, tmp_path: Path) -> None:
    settings = cd.Settings(max_steps=1, batch_size=1, precision="fp32")
    trainer = cd.SFTTrainer(adapter=cd.LoRA(rank=2), settings=settings)
    rows = [cd.Example({"country": "Italy"}, "Rome")]
    trainer.fit(embedded, rows, prompt=cd.ChatPrompt([("user", example.CAPITAL)])).save_pretrained(tmp_path / "tuned")
    check(example, cd.load(tmp_path / "tuned"), set(example.TECHNIQUES))


@pytest.mark.real
def test_each_behind_an_api(example: Any, tmp_path: Path) -> None:
    folder = converted(embedded_file())
    with serving(folder, tmp_path / "log") as (url, _):
        check(example, client(url, folder), set(example.TECHNIQUES) - example.SCORED)
