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


def apart(tiny_model: TinyModel, sequences: list[Ids], most: int) -> list[list[int]]:
    return [pack for pack, _ in passes(tiny_model().network, sequences, most)]


def test_a_pack_holds_as_many_tokens_as_it_says(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """And from `SMALL_PACK` tokens on it ends where nothing is alike."""
    sequences = [(i, *drawn(9, i)) for i in range(6)]
    assert apart(tiny_model, sequences, 30) == [[0, 1, 2], [3, 4, 5]]
    monkeypatch.setattr(packs, "SMALL_PACK", 20)
    assert apart(tiny_model, sequences, 1000) == [[0, 1], [2, 3], [4, 5]]


def test_where_a_pack_is_cut(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the last prompt that would be cut apart, and only where to read its beginning again takes long."""
    sequences = [(i, *drawn(39, i), j) for i in (0, 1) for j in (5, 6)]
    sequences += [(2, *drawn(59, 2), *drawn(10, j)) for j in range(6)]
    assert [len(pack) for pack in apart(tiny_model, sequences, 160)] == [5, 5]
    monkeypatch.setattr(packs, "LONG", 30)
    assert [len(pack) for pack in apart(tiny_model, sequences, 160)] == [4, 6]


PROMPT = (0, *drawn(59, 0))
OTHER = (*PROMPT[:20], 505, *drawn(4, 1))


def test_what_was_kept_for_a_pack_is_what_all_of_it_begins_with(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rows behind it begin otherwise, room is left for them, and they do not take it."""
    monkeypatch.setattr(packs, "LONG", 30)
    sequences = [(*PROMPT, i, *drawn(19, i)) for i in range(5)] + [(*OTHER, i) for i in range(3)]
    found = list(passes(tiny_model().network, sequences, 130))
    assert [pack for pack, _ in found] == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert [past and past.ids for _, past in found] == [PROMPT, PROMPT, PROMPT[:20]]


def test_what_the_user_keeps_is_used(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing longer was kept of the pack before."""
    monkeypatch.setattr(packs, "LONG", 30)
    network, sequences = tiny_model().network, [(*PROMPT, i, *drawn(19, i)) for i in range(5)]
    assert [past for _, past in passes(network, sequences)] == [None]
    with remember(network, PROMPT[:20], 512):
        assert [past and past.ids for _, past in passes(network, sequences)] == [PROMPT[:20]]
        assert [past and past.ids for _, past in passes(network, sequences, 130)] == [PROMPT, PROMPT]


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
