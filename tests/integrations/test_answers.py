"""What LangChain is told of a completion."""

from __future__ import annotations

import pytest

from condition.integrations.answers import metadata, usage
from condition.types import Completion, Sampling, Usage
from tests.conftest import TinyModel


def test_each_token_with_its_logprob(tiny_model: TinyModel) -> None:
    model = tiny_model()
    [[completion]] = model.generate(["x"], Sampling(max_tokens=4))
    told = metadata(model, completion, logprobs=True)
    each = told["logprobs"]["content"]
    assert [one["token_id"] for one in each] == list(completion.token_ids)
    assert [one["token"] for one in each] == [model.tokenizer.decode([token]) for token in completion.token_ids]
    assert sum(one["logprob"] for one in each) == pytest.approx(told["logprob"], abs=1e-5)
    assert metadata(model, completion, logprobs=False).keys() == {"model_name", "finish_reason", "logprob"}


def test_tokens_that_sharing_saved() -> None:
    spent = usage(Completion("x", usage=Usage(input_tokens=10, output_tokens=2, computed_tokens=6, saved_tokens=6)))
    assert spent == {
        "input_tokens": 10,
        "output_tokens": 2,
        "total_tokens": 12,
        "input_token_details": {"cache_read": 6},
    }
    assert "input_token_details" not in (usage(Completion("x", usage=Usage(input_tokens=10, output_tokens=2))) or {})
    assert usage(Completion("x")) is None
