"""The history of a resumed run is that of the run that was not stopped, whichever lines it was stopped between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condition.adapters.lora import LoRA
from condition.models.local import LocalModel
from condition.training.preference import DPOTrainer
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import TinyModel
from tests.training.test_sft import interrupted

ROWS = [Ranking({"q": f"What is {i}? "}, (f"It is {i}", "no " * (1 + i % 3))) for i in range(12)]
OF_A_CALL = ("_runtime", "_per_second")


def fit(base: LocalModel, output: Path, **options: Any) -> list[dict[str, Any]]:
    settings = Settings(
        **{"batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", "save_every": 1, "keep": 99, **options},
        output=str(output),
    )
    tuned = DPOTrainer(adapter=LoRA(rank=2), settings=settings).fit(
        base, ROWS[:-2], prompt="{q}", validation=ROWS[-2:] if settings.patience else None
    )
    return [{name: v for name, v in line.items() if not name.endswith(OF_A_CALL)} for line in tuned.history]


@pytest.mark.parametrize("patience", [None, 9])
def test_a_resumed_run_has_the_same_history(tiny_model: TinyModel, tmp_path: Path, patience: int | None) -> None:
    """Five steps an epoch, a line at the first, the fourth and the last; step 10 is behind the last of them."""
    base, options = tiny_model(), {"epochs": 2, "log_every": 4, "patience": patience}
    done = fit(base, tmp_path / "done", **options)
    assert done[-1]["train_loss"] > 0
    logged = [line["step"] for line in done if "loss" in line]
    assert logged == [1, 4, 8, 10]
    mean = sum(line["loss"] * n for line, n in zip((x for x in done if "loss" in x), (1, 3, 4, 2), strict=True)) / 10
    assert done[-1]["train_loss"] == pytest.approx(mean, rel=1e-5)
    for step in (3, 5, 10):
        interrupted(tmp_path / "done", tmp_path / f"from-{step}", step)
        assert fit(base, tmp_path / f"from-{step}", **options) == done, step


def test_of_a_checkpoint_without_it_the_mean_is_of_what_follows(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    done = fit(base, tmp_path / "done", epochs=1, log_every=1)
    interrupted(tmp_path / "done", tmp_path / "older", 3)
    file = tmp_path / "older" / "checkpoint-3" / "trainer_state.json"
    told = json.loads(file.read_text())
    del told["stateful_callbacks"]["Tally"]
    file.write_text(json.dumps(told))
    found = fit(base, tmp_path / "older", epochs=1, log_every=1)
    assert found[:-1] == done[:-1]
    assert found[-1]["train_loss"] == pytest.approx((done[3]["loss"] + done[4]["loss"]) / 2, rel=1e-5)
