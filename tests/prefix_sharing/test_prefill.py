"""A cache made from a tree equals the one that the network makes for each prompt alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from condition.prefix_sharing.prefill import prefill
from condition.prefix_sharing.probe import shareable

HEADER = list(range(10, 60))
PROMPTS = [[*HEADER, 100, 101, 102], [*HEADER, 103, 104], [*HEADER, 100, 101, 102], [7, 8, 9], HEADER[:30]]


def test_stored_keys_and_values_are_each_prompts_own(tiny: Any, family: str) -> None:
    network = tiny(family)
    assert shareable(network)
    found = prefill(network, PROMPTS)
    assert found.computed == 50 + 2 + 2 + 1 + 2  # what is too short to be worth a node is read twice
    longest = max(map(len, PROMPTS)) - 1
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            own = network(torch.tensor([prompt[:-1]]), use_cache=True).past_key_values
        size = len(prompt) - 1
        for ours, theirs in zip(found.cache.layers, own.layers, strict=True):
            for name in ("keys", "values"):
                stored = getattr(ours, name)
                assert stored.shape[2] == longest
                torch.testing.assert_close(
                    stored[row, :, longest - size :], getattr(theirs, name)[0], rtol=0, atol=1e-5
                )


def test_a_prompt_of_one_token_stores_nothing(tiny: Any) -> None:
    network = tiny("llama")
    assert shareable(network)
    assert prefill(network, [[5], [6, 7]]).computed == 1
    with pytest.raises(ValueError, match="no prompt has more than one token"):
        prefill(network, [[5], [6]])
