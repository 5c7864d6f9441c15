"""Log-probabilities of candidates, and what is watched beside them, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from condition.prefix_sharing.probe import shareable
from condition.training.candidates import Candidates, Pair
from condition.training.reading import first_places, read_completions
from tests.conftest import Tiny

ROWS = [
    Candidates((5, 6, 7), ((8, 9, 2), (10, 2)), (Pair(0, 1),), reference=((-1.0, -2.0, -3.0), (-4.0, -5.0))),
    Candidates(
        (5, 6),
        ((8, 2), (10, 11, 2), (12, 2)),
        (Pair(0, 1), Pair(1, 2)),
        reference=((-1.0,) * 2, (-1.0,) * 3, (-1.0,) * 2),
    ),
]


@pytest.mark.parametrize("shared", [True, False])
def test_they_are_the_network_s_own(tiny: Tiny, family: str, shared: bool) -> None:
    network = tiny(family)
    assert shareable(network)
    read = read_completions(network, ROWS, shared)
    sequences = [(row.start, sequence) for row in ROWS for sequence in row.sequences]
    entropies = []
    for (start, sequence), tokens, total, length in zip(sequences, read.tokens, read.sums, read.lengths, strict=True):
        with torch.no_grad():
            logs = network(input_ids=torch.tensor([sequence])).logits[0].log_softmax(-1)
        own = logs[start - 1 : -1].gather(1, torch.tensor(sequence[start:])[:, None])[:, 0]
        torch.testing.assert_close(tokens.detach(), own, atol=1e-4, rtol=1e-4)
        assert float(total.detach()) == pytest.approx(float(own.sum()), abs=1e-3)
        assert float(length) == len(own)
        entropies += (-(logs.exp() * logs).sum(-1))[start - 1 : -1].tolist()
    assert read.references.tolist() == [-6.0, -9.0, -2.0, -3.0, -2.0]
    apart = torch.cat([torch.tensor(r) for row in ROWS for r in row.reference]) - torch.cat(read.tokens).detach()
    torch.testing.assert_close(read.watched["kl"], apart.exp() - 1 - apart)
    assert not any(value.requires_grad for value in read.watched.values())  # what is watched keeps no graph
    assert sorted(read.watched["entropy"].tolist()) == pytest.approx(sorted(entropies), abs=1e-3)
    assert not network._forward_hooks


def test_places(tiny: Tiny) -> None:
    read = read_completions(tiny("llama"), ROWS, shared=False)
    better, worse = read.places(ROWS)
    assert (better.tolist(), worse.tolist()) == ([0, 2, 3], [1, 3, 4])
    assert first_places(ROWS) == [0, 2]


def test_without_a_reference_it_is_zero(tiny: Tiny) -> None:
    bare = [replace(row, reference=()) for row in ROWS]
    read = read_completions(tiny("llama"), bare, shared=False)
    assert not read.references.any()
    assert "kl" not in read.watched
