"""Candidates read by the network that is trained: a packed tree in which each prompt stands once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.prefix_sharing.head import head_logprobs
from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.logprobs import logprobs, output_head, packed_hidden
from condition.training.candidates import Candidates

ENTROPY_POSITIONS = 64
"""Places of a batch at which the whole distribution is looked at."""


class Read(NamedTuple):
    """All completions of a batch, row after row."""

    tokens: list[Tensor]
    """Log-probability of each token: `[tokens]` a completion."""
    sums: Tensor
    """`[completions]`"""
    references: Tensor
    """`[completions]`: the same under the reference; 0 where there is none."""
    lengths: Tensor
    """`[completions]`, tokens with the stop token."""
    watched: Mapping[str, Tensor]
    compared: bool = True
    """Whether there is a reference."""

    def places(self, rows: Sequence[Candidates]) -> tuple[Tensor, Tensor]:
        """Where among all completions the better and the worse one of each pair are: `[pairs]` each."""
        return pair_places(rows, self.sums.device)


def pair_places(rows: Sequence[Candidates], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where among all completions the better and the worse one of each pair are: `[pairs]` each."""
    firsts = first_places(rows)
    better = [first + pair.better for first, row in zip(firsts, rows, strict=True) for pair in row.pairs]
    worse = [first + pair.worse for first, row in zip(firsts, rows, strict=True) for pair in row.pairs]
    return torch.tensor(better, device=device), torch.tensor(worse, device=device)


def first_places(rows: Sequence[Candidates]) -> list[int]:
    """Where among all completions each row begins."""
    places, place = [], 0
    for row in rows:
        places.append(place)
        place += len(row.completions)
    return places


def read_completions(network: PreTrainedModel, rows: Sequence[Candidates], shared: bool) -> Read:
    """Log-probabilities of all completions, gradients and all, with the reference's beside them.

    Watched: `kl`, the mean of `r - 1 - log r` with `r = p_reference / p` at the tokens of the data, which is never
    negative (Schulman 2020, "Approximating KL divergence"), and `entropy` (nats) at some of them.
    """
    sequences = [sequence for row in rows for sequence in row.sequences]
    starts = [row.start for row in rows for _ in row.completions]
    tokens, watched = (_read if shared else _plain)(network, sequences, starts)
    sums = torch.stack([value.sum() for value in tokens])
    lengths = torch.tensor([float(len(value)) for value in tokens], device=sums.device, dtype=sums.dtype)
    kept = [reference for row in rows for reference in row.reference]
    if not kept:
        return Read(tokens, sums, torch.zeros_like(sums), lengths, watched, compared=False)
    reference = torch.tensor([value for one in kept for value in one], device=sums.device, dtype=sums.dtype)
    references = torch.stack([part.sum() for part in reference.split([len(one) for one in kept])])
    apart = reference - torch.cat(tokens).detach()
    return Read(tokens, sums, references, lengths, {**watched, "kl": apart.exp() - 1 - apart})


def _read(
    network: PreTrainedModel, sequences: Sequence[Sequence[int]], starts: Sequence[int]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    packed, head = pack(sequences, starts), output_head(network)
    hidden = packed_hidden(network, packed)[packed.predictors.to(network.device)]
    values = head_logprobs(head, hidden, packed.targets.to(network.device))
    sizes = [len(s) - start for s, start in zip(sequences, starts, strict=True)]
    with torch.no_grad():
        logits = head(hidden.detach()[_spread(len(hidden), hidden.device)])
    return list(values.split(sizes)), {"entropy": _entropy(logits)}


def _plain(
    network: PreTrainedModel, sequences: Sequence[Sequence[int]], starts: Sequence[int]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """By the network's own forward pass, whose output is looked at on its way out."""
    numbers = [(i, place) for i, start in enumerate(starts) for place in range(start - 1, len(sequences[i]) - 1)]
    rows, places = torch.tensor(numbers, device=network.device)[_spread(len(numbers), network.device)].T
    found: dict[str, Tensor] = {}

    def look(network: nn.Module, given: object, output: Any) -> None:
        found["entropy"] = _entropy(output.logits.detach()[rows, places])

    hook = network.register_forward_hook(look)
    try:
        return logprobs(network, sequences, starts, shared=False), found
    finally:
        hook.remove()


def _spread(count: int, device: torch.device) -> Tensor:
    """Evenly spaced places among `count`, so many as are looked at."""
    return torch.linspace(0, count - 1, min(count, ENTROPY_POSITIONS), device=device).round().long()


@torch.no_grad()
def _entropy(logits: Tensor) -> Tensor:
    """Entropy `[places]` of the next token, nats, from `[places, vocabulary]`."""
    logs = logits.float().log_softmax(-1)
    entropy: Tensor = -(logs.exp() * logs).sum(-1)
    return entropy
