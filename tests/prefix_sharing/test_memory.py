"""What is stored of prompts, and attention over its three parts, against one softmax over whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from condition.prefix_sharing import past
from condition.prefix_sharing.memory import FIRST_ROOM, Memory, Stored, store
from condition.prefix_sharing.past import remember
from condition.prefix_sharing.probe import shareable

HEADER = [(7 * i) % 90 + 5 for i in range(12)]
PROMPTS = [[*HEADER, 11, 12, 13], [*HEADER, 14], HEADER]


def made(header: int, rests: Sequence[int], *, shared: int = 2, size: int = 4, wide: int = 6) -> Stored:
    """Two layers of random keys and values; behind a shorter rest stand numbers that nobody may read."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    longest = max(rests)
    bias = torch.full((len(rests), 1, longest), float("-inf"))
    for prompt, rest in enumerate(rests):
        bias[prompt, :, :rest] = 0
    return Stored(
        header_keys=random(2, shared, size, header),
        header_values=random(2, shared, header, wide),
        keys=random(2, shared, len(rests), size, longest),
        values=random(2, shared, len(rests), longest, wide),
        bias=bias,
        lengths=torch.tensor([header + rest for rest in rests]),
        hidden=random(len(rests), 8),
        computed=header + sum(rests),
    )


def by_hand(stored: Stored, layer: int, prompt: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one query `[heads, size]` over its whole row; key `[shared, said, size]`, value alike."""
    rest = int(stored.lengths[prompt]) - stored.header_keys.shape[-1]
    keys = torch.cat(
        [stored.header_keys[layer].transpose(1, 2), stored.keys[layer, :, prompt, :, :rest].transpose(1, 2), key], 1
    )
    values = torch.cat([stored.header_values[layer], stored.values[layer, :, prompt, :rest], value], 1)
    groups = len(query) // len(keys)
    keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
    weights = (0.5 * (query[:, None] @ keys.transpose(1, 2))).softmax(-1)
    return (weights @ values)[:, 0]


@pytest.mark.parametrize(("header", "rests"), [(5, (3, 1)), (0, (3, 2)), (5, (0, 0)), (5, (0, 2)), (3, (4,))])
@pytest.mark.parametrize("groups", [1, 3])
def test_attention_is_that_over_whole_rows(header: int, rests: tuple[int, ...], groups: int) -> None:
    """Across the first room and one more, so that what was said before stays."""
    stored, samples, steps = made(header, rests), 2, FIRST_ROOM + 3
    memory = Memory(stored, samples, 200)
    rows = len(rests) * samples
    draw = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, 2, rows, steps, 4, generator=draw), torch.randn(2, 2, rows, steps, 6, generator=draw)
    for step in range(steps):
        memory.make_room()
        assert memory.positions.tolist() == [header + rest + step for rest in rests for _ in range(samples)]
        for layer in range(2):
            query = torch.randn(2 * groups, rows, 4, generator=draw)
            found = memory.attend(layer, query, keys[layer, :, :, step], values[layer, :, :, step], 0.5)
            for row in range(rows):
                said = keys[layer, :, row, : step + 1], values[layer, :, row, : step + 1]
                wanted = by_hand(stored, layer, row // samples, query[:, row], *said)
                torch.testing.assert_close(found[row], wanted, rtol=1e-5, atol=1e-5)
        memory.said += 1


def test_those_that_go_on_keep_what_they_said(tiny: Any) -> None:
    stored = made(5, (3, 1, 2))
    memory, kept = Memory(stored, 2, 9), [1, 4, 5]
    draw = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, 6, 2, 4, generator=draw), torch.randn(2, 6, 2, 6, generator=draw)
    query = torch.randn(2, 6, 4, generator=draw)
    memory.make_room()
    memory.attend(0, query, keys[:, :, 0], values[:, :, 0], 0.5)
    memory.said += 1
    # sample 1 of prompt 0 twice, so that the prompts have equally many, and both of prompt 2
    memory.keep(torch.tensor([1, 1, 4, 5]), torch.tensor([0, 2]))
    assert memory.samples == 2
    assert memory.positions.tolist() == [9, 9, 8, 8]
    rows = [1, *kept]
    found = memory.attend(0, query[:, rows], keys[:, rows, 1], values[:, rows, 1], 0.5)
    for place, row in enumerate(rows):
        wanted = by_hand(stored, 0, row // 2, query[:, row], keys[:, row], values[:, row])
        torch.testing.assert_close(found[place], wanted, rtol=1e-5, atol=1e-5)


def test_fewer_samples_of_each_prompt_may_go_on() -> None:
    stored = made(5, (3, 1))
    memory = Memory(stored, 3, 9)
    memory.said = 2
    memory.keep(torch.tensor([1, 5]), torch.tensor([0, 1]))
    assert memory.samples == 1
    assert memory.positions.tolist() == [10, 8]


@pytest.mark.parametrize("chunk", [4, 5, 11])
def test_what_was_read_in_chunks_counts_once(tiny: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny("llama")
    assert shareable(network)
    monkeypatch.setattr(past, "CHUNK", chunk)
    for kept in (None, remember(network, HEADER[:6])):
        stored = store(network, PROMPTS[:1], kept)
        assert stored.computed == len(PROMPTS[0]) - (6 if kept else 0)


def test_a_common_beginning_is_stored_once(tiny: Any, family: str) -> None:
    network = tiny(family)
    assert shareable(network)
    stored = store(network, PROMPTS)
    before = len(HEADER) - 1  # the last token of a prompt is always read, for what comes behind it
    assert stored.header_keys.shape[-1] == stored.header_values.shape[-2] == len(HEADER)
    assert stored.keys.shape[-1] == stored.values.shape[-2] == 3
    assert stored.bias[:, 0].tolist() == [[0.0, 0.0, 0.0], [0.0, *[float("-inf")] * 2], [float("-inf")] * 3]
    assert stored.lengths.tolist() == [15, 13, 12]
    assert stored.computed == len(HEADER) + 3 + 1
    kept = remember(network, HEADER)
    # One token more is too little to be read apart from what follows it.
    assert store(network, PROMPTS, kept).computed == sum(len(prompt) - before for prompt in PROMPTS)
    alone = [store(network, [prompt]) for prompt in PROMPTS]
    for prompt, own in enumerate(alone):
        torch.testing.assert_close(stored.hidden[prompt], own.hidden[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stored.header_keys, store(network, PROMPTS, kept).header_keys, rtol=1e-4, atol=1e-4)


def test_what_is_left_for_some_prompts(tiny: Any) -> None:
    stored = made(5, (3, 1, 2))
    left = stored.only(torch.tensor([2, 0]))
    for name in ("keys", "values"):
        assert torch.equal(getattr(left, name), getattr(stored, name)[:, :, [2, 0]])
    for name in ("bias", "lengths", "hidden"):
        assert torch.equal(getattr(left, name), getattr(stored, name)[[2, 0]])
    assert (left.header_keys is stored.header_keys, left.computed) == (True, stored.computed)


def test_room_grows_as_it_is_needed_and_no_further() -> None:
    memory = Memory(made(2, (1,)), 3, FIRST_ROOM * 2 + 5)
    rooms = []
    for said in range(FIRST_ROOM * 2 + 5):
        memory.said = said
        memory.make_room()
        rooms.append(memory._keys.shape[-2])
    assert list(dict.fromkeys(rooms)) == [FIRST_ROOM, 2 * FIRST_ROOM, 2 * FIRST_ROOM + 5]
    assert rooms.index(2 * FIRST_ROOM) == FIRST_ROOM
    assert Memory(made(2, (1,)), 3, 4)._values.shape == (2, 2, 3, 4, 6)


@pytest.mark.parametrize("prompts", [[], [[]], [[5], []]])
def test_a_prompt_without_tokens(tiny: Any, prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        store(tiny("llama"), prompts)
