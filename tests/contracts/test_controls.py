"""Every control of ours through the same checks."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, SuppressTokensLogitsProcessor

from condition.control.grammar import Choice, Grammar, JSONSchema, Regex
from condition.control.words import Words
from condition.protocols import Control, RowProcessor
from condition.testing import check_control
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


def test_every_control(control: Control, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    check_control(control, tiny_tokenizer)


@pytest.mark.real
@pytest.mark.parametrize("control", [Regex("[0-9]{2,9}"), Words(ban=["the"])], ids=repr)
def test_with_the_embedded_tokenizer(control: Control) -> None:
    check_control(control)


def test_one_that_inherits_nothing(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    class NoDigits:
        def processor(self, tokenizer: Any) -> LogitsProcessor:
            return SuppressTokensLogitsProcessor([i for t, i in tokenizer.get_vocab().items() if t.isdigit()])

    check_control(NoDigits(), tiny_tokenizer)


def test_has_our_processor(control: Control, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    processor = control.processor(tiny_tokenizer)
    assert isinstance(processor, LogitsProcessor)
    assert isinstance(processor, RowProcessor)


def test_is_a_value(control: Control) -> None:
    again = pickle.loads(pickle.dumps(control))  # noqa: S301  # our own
    assert again == control
    assert hash(again) == hash(control)
    assert repr(again) == repr(control)


def test_takes_tokens_away_and_leaves_the_others_as_they_are(
    control: Control, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    scores = torch.randn(2, 512)
    limited = control.processor(tiny_tokenizer)(torch.tensor([[5, 6], [7, 8]]), scores)
    kept = limited != float("-inf")
    assert torch.equal(limited[kept], scores[kept])
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
