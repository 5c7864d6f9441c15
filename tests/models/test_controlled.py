from __future__ import annotations

from typing import Any

import pytest
import torch
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from condition.control.grammar import Choice
from condition.errors import ControlError, ModelError
from condition.evaluation.evaluate import evaluate
from condition.evaluation.tasks import Task, TaskRow
from condition.models.controlled import Controlled
from condition.prompts.template import ChatPrompt
from condition.protocols import Model
from condition.types import Completion, Message, Sampling
from tests.conftest import TinyModel

ASKED = [(Message("user", "Is the sky blue?"),)]


class Foreign:
    """A control of somebody else's."""

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> LogitsProcessor:
        class Nothing(LogitsProcessor):
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                return scores

        return Nothing()


def test_it_writes_under_its_control(tiny_model: TinyModel) -> None:
    model = Controlled(tiny_model(), Choice(["yes", "no", "perhaps"]))
    assert isinstance(model, Model)
    assert model.name == "tiny llama within Choice"
    [found] = model.generate(ASKED, Sampling(temperature=1.0, n=16, seed=0))
    assert {c.text for c in found} <= {"yes", "no", "perhaps"}


def test_a_call_can_only_narrow_it(tiny_model: TinyModel) -> None:
    model = Controlled(tiny_model(), Choice(["yes", "no"]))
    [[said]] = model.generate(ASKED, control=Choice(["no", "perhaps"]))
    assert said.text == "no"
    with pytest.raises(ControlError):
        model.generate(ASKED, control=Foreign())
    with pytest.raises(ControlError, match="can't be joined"):
        Controlled(tiny_model(), Foreign()).generate(ASKED, control=Choice(["no"]))


def test_it_is_measured_like_any_model(tiny_model: TinyModel) -> None:
    def is_yes(prediction: str, target: Any, /) -> dict[str, float]:
        return {"yes": float(prediction == target)}

    prompt = ChatPrompt([("user", "{question}")])
    rows = [TaskRow(id="1", inputs={"question": "Is it blue?"}, target="yes", cluster="1")]
    task = Task(name="t", rows=rows, prompt=prompt, metric=is_yes, sampling=Sampling(max_tokens=8))
    model = tiny_model()
    for subject in (
        (Controlled(model, Choice(["yes"])), prompt),
        Controlled(model, Choice(["yes"])),
        Controlled(model.with_prompt("{question}"), Choice(["yes"])),
    ):
        assert evaluate(subject, task).metrics["yes"].value == 1.0


def test_what_is_no_control_is_refused(tiny_model: TinyModel) -> None:
    for other in ("yes", Choice):
        with pytest.raises(ControlError, match="is no control"):
            Controlled(tiny_model(), other)  # type: ignore[arg-type]
    with pytest.raises(ControlError, match="use the model itself"):
        Controlled(tiny_model(), None)  # type: ignore[arg-type]


def test_a_model_elsewhere_says_that_it_cannot() -> None:
    with pytest.raises(ControlError, match="token by token"):
        Controlled(FakeListChatModel(responses=["yes"]), Choice(["no"])).generate(ASKED)


def test_it_streams_under_its_control(tiny_model: TinyModel) -> None:
    model = Controlled(tiny_model(), Choice(["yes", "no"]))
    *pieces, whole = model.stream("Is it?", Sampling(max_tokens=8))
    assert isinstance(whole, Completion)
    assert "".join(map(str, pieces)) == whole.text
    assert whole.text in ("yes", "no")


def test_a_model_that_does_not_stream_says_so() -> None:
    model = Controlled(FakeListChatModel(responses=["yes"]), Choice(["yes", "no"]))
    with pytest.raises(ModelError, match="does not stream under a control"):
        model.stream("Is it?")
