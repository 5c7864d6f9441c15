"""Beginnings in chunks and beginnings that are kept, against the whole prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from condition.prefix_sharing import past as module
from condition.prefix_sharing.decode import Decoder
from condition.prefix_sharing.logprobs import logprobs, plain_logprobs
from condition.prefix_sharing.memory import store
from condition.prefix_sharing.past import Past, remember
from condition.prefix_sharing.probe import shareable
from condition.types import Sampling

HEADER = [(7 * i) % 90 + 5 for i in range(50)]
PROMPTS = [[*HEADER, 11, 12, 13], [*HEADER, 14], [*HEADER, 15, 16, 17, 18, 19, 21], HEADER]


def greedy(network: PreTrainedModel, prompts: list[list[int]], kept: Past | None = None) -> tuple[list[Any], int]:
    """Tokens and log-probabilities of three steps, and how many tokens were computed."""
    stored = store(network, prompts, kept)
    decoder = Decoder(network, stored, prompts, Sampling(max_tokens=3), [()] * len(prompts))
    drawn = decoder.step()
    while not decoder.done:
        decoder.read()
        drawn += decoder.step()
    return [(d.sample, d.token, pytest.approx(d.logprob, abs=1e-4)) for d in drawn], stored.computed


@pytest.mark.parametrize("chunk", [1, 7, 50])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["tree", "one"])
def test_chunks_change_nothing(
    tiny: Any, family: str, prompts: list[list[int]], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny(family)
    assert shareable(network)
    whole, _ = greedy(network, prompts)
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert greedy(network, prompts)[0] == whole
    in_chunks = remember(network, HEADER)
    monkeypatch.undo()
    torch.testing.assert_close(in_chunks.keys, remember(network, HEADER).keys, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("known", [1, 20, 49])
def test_a_beginning_goes_on_from_what_is_kept_of_it(tiny: Any, family: str, known: int) -> None:
    network = tiny(family)
    assert shareable(network)
    whole, longer = remember(network, HEADER), remember(network, HEADER, remember(network, HEADER[:known]))
    assert longer.ids == whole.ids
    for one, other in ((longer.keys, whole.keys), (longer.values, whole.values)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kept", "used"),
    [(HEADER, 50), (HEADER[:20], 20), ([*HEADER, 11, 12], 50), ([*HEADER[:30], 1, 2, 3], 30), ([1, 2, 3], 0)],
    ids=["header", "a part", "more", "then another way", "another"],
)
def test_what_is_kept_is_not_computed_again(tiny: Any, family: str, kept: list[int], used: int) -> None:
    network = tiny(family)
    assert shareable(network)
    prompts = PROMPTS[:3]
    said, computed = greedy(network, prompts)
    assert greedy(network, prompts, remember(network, kept)) == (said, computed - used)


@settings(max_examples=30)
@given(st.data())
def test_scores_behind_what_is_kept_are_those_of_the_plain_path(tiny: Any, data: st.DataObject) -> None:
    network = tiny("llama")
    assert shareable(network)
    tokens = st.lists(st.integers(5, 8), min_size=1, max_size=9)
    kept, header = data.draw(tokens), data.draw(tokens)
    sequences = [header + end for end in data.draw(st.lists(tokens, min_size=1, max_size=4))]
    starts = [data.draw(st.integers(1, len(s) - 1)) for s in sequences]
    with torch.inference_mode():
        found = logprobs(network, sequences, starts, kept=remember(network, kept))
        plain = plain_logprobs(network, sequences, starts)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_of_a_prompt_that_is_kept_whole_the_last_token_is_read(tiny: Any, family: str) -> None:
    network = tiny(family)
    assert shareable(network)
    said, _ = greedy(network, [HEADER])
    assert greedy(network, [HEADER], remember(network, HEADER)) == (said, 1)


def test_nothing_to_keep(tiny: Any) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        remember(tiny("llama"), [])
