"""Packs: what goes through the network together, and what is kept between two passes."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest

from condition.errors import SharingWarning
from condition.models import packs
from condition.models.packs import passes
from condition.models.remember import remember
from condition.prefix_sharing.probe import shareable
from tests.conftest import TinyModel

Ids = tuple[int, ...]


def drawn(count: int, seed: int) -> Ids:
    numbers = random.Random(seed)
    return tuple(numbers.randrange(10, 500) for _ in range(count))


def test_what_begins_alike_is_read_once(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt whose answers do not fit into one pack is kept, up to its last pack."""
    monkeypatch.setattr(packs, "LONG", 30)
    prompts = [drawn(60, 0), drawn(60, 1)]
    sequences = [(*prompt, *drawn(20, 10 * i + j)) for i, prompt in enumerate(prompts) for j in range(6)]
    found = list(passes(tiny_model().network, sequences, 120))
    assert sorted(place for pack, _ in found for place in pack) == list(range(12))
    for pack, past in found:
        (prompt,) = {sequences[place][:60] for place in pack}  # never answers to both
        assert past is not None
        assert past.ids == prompt


@pytest.mark.parametrize(("remembered", "read"), [(0, 80 + 4 * 40), (80, 4 * 40), (120, 3 * 40)])
def test_a_header_is_not_read_again_for_each_prompt_that_fills_several_packs(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, remembered: int, read: int
) -> None:
    """Whether nothing of it is kept before, or the header, or one of the prompts behind it."""
    monkeypatch.setattr(packs, "LONG", 30)
    header, network = drawn(80, 0), tiny_model().network
    prompts = [(*header, *drawn(40, i)) for i in range(1, 5)]
    sequences = [(*prompt, *drawn(20, 10 * i + j)) for i, prompt in enumerate(prompts, 1) for j in range(4)]
    assert shareable(network)
    kept = remember(network, prompts[2][:remembered], 512) if remembered else nullcontext()
    tokens: list[int] = []

    def count(network: object, args: object, given: dict[str, Any]) -> None:
        tokens.append(given["input_ids"].numel())

    with kept, network.base_model.register_forward_pre_hook(count, with_kwargs=True):
        found = list(passes(network, sequences, 170))
    assert sum(tokens) == read
    assert len(found) == 8
    for pack, past in found:
        assert past is not None
        assert [past.ids] * 2 == [sequences[place][:120] for place in pack]


def test_a_prompt_is_not_cut_apart(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it fits into a pack with all its answers, and something else would have left no room for the last."""
    monkeypatch.setattr(packs, "LONG", 30)
    few, many = (0, *drawn(39, 0)), (1, *drawn(59, 1))
    sequences = [(*few, 5), (*few, 6), *((*many, *drawn(10, j)) for j in range(6))]
    found = list(passes(tiny_model().network, sequences, 130))
    assert [(sorted(pack), past) for pack, past in found] == [([0, 1], None), ([2, 3, 4, 5, 6, 7], None)]


def test_short_beginnings_do_not_cut(tiny_model: TinyModel) -> None:
    """A pass more takes longer than to read some tokens again."""
    sequences = [(i // 3, *drawn(20, i // 3), *drawn(10, i)) for i in range(30)]
    sizes = [len(pack) for pack, _ in passes(tiny_model().network, sequences, 256)]
    assert len(sizes) <= 3


def test_without_sharing_rows_are_padded(tiny_model: TinyModel) -> None:
    """A pack holds as many tokens as it says, however much its rows begin alike."""
    windowed = tiny_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)
    sequences = [(*range(10, 60), *drawn(1 + j % 4, j)) for j in range(20)]
    with pytest.warns(SharingWarning):
        found = list(passes(windowed.network, sequences, 200))
    assert sorted(place for pack, _ in found for place in pack) == list(range(20))
    assert all(past is None for _, past in found)
    assert all(len(pack) * max(len(sequences[place]) for place in pack) <= 200 for pack, _ in found)
