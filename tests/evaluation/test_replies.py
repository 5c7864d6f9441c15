"""What a judge wrote is kept: a run that was killed goes on, and nothing else is served for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.errors import ModelError, SettingsError
from condition.evaluation import replies, tasks
from condition.evaluation.evaluate import evaluate
from condition.evaluation.judge import Pair, PairwiseJudge, RubricJudge
from condition.evaluation.replies import Replies
from condition.protocols import Control
from condition.types import Completion, Message, Messages, Sampling
from tests.conftest import TinyModel

GREEDY = Sampling(temperature=0.0, max_tokens=3)


class Reader:
    """Rates all alike, and stops after some calls."""

    name = "reader"

    def __init__(self, calls: int = 99) -> None:
        self.asked: list[str] = []
        self.left = calls

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked += [messages[-1].content for messages in prompts]
        return [[Completion("[[5]]")] for _ in prompts]


def chat(*words: str) -> list[Messages]:
    return [(Message("user", word),) for word in words]


def test_what_was_said_is_not_asked_again(tmp_path: Path) -> None:
    reader = Reader()
    judge = RubricJudge(reader, cache=tmp_path, key="reader")
    first = judge.rate([("Q", "one"), ("Q", "two"), ("Q", "one")])
    assert len(reader.asked) == 2
    again = RubricJudge(reader, cache=tmp_path, key="reader").rate([("Q", "two"), ("Q", "three")])
    assert len(reader.asked) == 3
    assert [one.points for one in (*first, *again)] == [5] * 5
    RubricJudge(reader, "Is it short?", cache=tmp_path, key="reader").rate([("Q", "two")])
    RubricJudge(reader, cache=tmp_path, key="reader", sampling=GREEDY).rate([("Q", "two")])
    RubricJudge(reader, cache=tmp_path, key="reader 2").rate([("Q", "two")])
    assert len(reader.asked) == 6


def test_a_judge_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "BATCH", 2)
    task = tasks.dialogue(
        [{"question": f"Q{i}"} for i in range(6)], RubricJudge(Reader(2), cache=tmp_path, key="reader")
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate(lambda inputs: "a reply", task)
    reader = Reader()
    again = tasks.dialogue([{"question": f"Q{i}"} for i in range(6)], RubricJudge(reader, cache=tmp_path, key="reader"))
    assert evaluate(lambda inputs: "a reply", again).metrics["rating"].value == 5
    assert len(reader.asked) == 2


def test_a_local_model_is_known_by_its_weights_as_they_are_now(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("llama")
    asked = chat("Is it good?", "Is it short?")
    keeping, plain = Replies(model, GREEDY, tmp_path), Replies(model, GREEDY)
    first = keeping(asked)
    assert first == plain(asked) == keeping(asked)
    (file,) = tmp_path.iterdir()
    with torch.no_grad():
        model.network.lm_head.weight.neg_()
    assert keeping(asked) == plain(asked) != first
    assert len(list(tmp_path.iterdir())) == 2
    assert file.exists()


def test_what_has_no_name_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader()
    judge = PairwiseJudge(reader, cache=tmp_path)
    assert "nothing is kept" in caplog.text
    for _ in range(2):
        judge([Pair("Q", "a", "b")])
    assert len(reader.asked) == 4
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match="name the subject"):
        PairwiseJudge(reader, cache=tmp_path, key="")


def test_no_prompts_and_no_replies(tmp_path: Path) -> None:
    class Silent(Reader):
        def generate(self, prompts: Any, /, *given: Any, **named: Any) -> Any:
            return [[] for _ in prompts]

    for cache in (None, tmp_path):
        assert Replies(Reader(), GREEDY, cache, "k")([]) == []
        with pytest.raises(ModelError, match="gave completions for 0 of 1 prompts"):
            Replies(Silent(), GREEDY, cache, "k")(chat("x"))
