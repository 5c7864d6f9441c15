"""Every control of ours through the same checks."""

from __future__ import annotations

import pickle

import pytest
import torch
from transformers import LogitsProcessor

from condition.control.grammar import Choice, Grammar, JSONSchema, Regex
from condition.control.words import Words
from condition.protocols import Control, RowProcessor
from condition.types import Message, Sampling
from tests.conftest import TinyModel

CONTROLS: list[Control] = [
    Choice(["yes", "no"]),
    Grammar('start: "yes" | "no"'),
    JSONSchema({"enum": ["yes", "no"]}),
    Regex("yes|no"),
    Words(require=["yes"], ban=["no"]),
    Choice(["yes", "no"]) & Words(ban=["no"]),
]
ASKED = [(Message("user", "Is it blue?"),), (Message("user", "And the other one, which is green?"),)]
SAMPLING = Sampling(max_tokens=12, temperature=1.0, n=3, seed=0)


@pytest.fixture(params=CONTROLS, ids=lambda control: type(control).__name__)
def control(request: pytest.FixtureRequest) -> Control:
    made: Control = request.param
    return made


def test_is_one(control: Control, tiny_model: TinyModel) -> None:
    assert isinstance(control, Control)
    processor = control.processor(tiny_model().tokenizer)
    assert isinstance(processor, LogitsProcessor)
    assert isinstance(processor, RowProcessor)


def test_is_a_value(control: Control) -> None:
    again = pickle.loads(pickle.dumps(control))  # noqa: S301  # our own
    assert again == control
    assert hash(again) == hash(control)
    assert repr(again) == repr(control)


def test_takes_tokens_away_and_leaves_the_others_as_they_are(control: Control, tiny_model: TinyModel) -> None:
    scores = torch.randn(2, 512)
    before = scores.clone()
    limited = control.processor(tiny_model().tokenizer)(torch.tensor([[5, 6], [7, 8]]), scores)
    assert torch.equal(scores, before)
    kept = limited != float("-inf")
    assert torch.equal(limited[kept], before[kept])
    assert 0 < int(kept.sum()) < kept.numel()


def test_a_batch_is_its_singles(control: Control, tiny_model: TinyModel) -> None:
    model = tiny_model()
    together = model.generate(ASKED, SAMPLING, control=control)
    for prompt, found in zip(ASKED, together, strict=True):
        [alone] = model.generate([prompt], SAMPLING, control=control)
        assert [(c.text, c.finish_reason) for c in found] == [(c.text, c.finish_reason) for c in alone]


def test_a_stream_says_what_generate_says(control: Control, tiny_model: TinyModel) -> None:
    model = tiny_model()
    greedy = Sampling(max_tokens=12)
    *pieces, last = model.stream(ASKED[0], greedy, control=control)
    [[whole]] = model.generate(ASKED[:1], greedy, control=control)
    assert "".join(map(str, pieces)) == whole.text
    assert last == whole.model_copy(update={"usage": getattr(last, "usage", None)})
