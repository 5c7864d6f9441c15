"""The next token of each row: greedy, or drawn with one uniform number a row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from condition.types import Sampling

FEW = 1024
"""Tokens looked at first for the nucleus of `top_p`; all are sorted only where these do not hold it."""


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Tokens `[rows]` from `logits` `[rows, vocabulary]` and a number in [0, 1) for each row `[rows]`.

    Limits come in the field's usual order: temperature, top-k, top-p, min-p. Top-p: Holtzman et al. 2020, arXiv
    1904.09751; min-p: Nguyen et al. 2024, arXiv 2407.01082.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    # The largest goes first: divided by next to nothing it would be infinite, and the row no numbers.
    temperature = max(sampling.temperature, torch.finfo(torch.float32).tiny)
    probabilities = torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, -1)
    if sampling.top_k and sampling.top_k < probabilities.shape[-1]:
        least = probabilities.topk(sampling.top_k).values[:, -1:]
        probabilities = _kept(probabilities, least)
    if sampling.top_p < 1:
        probabilities = _kept(probabilities, _nucleus(probabilities, sampling.top_p))
    if sampling.min_p > 0:
        probabilities = _kept(probabilities, probabilities.amax(-1, keepdim=True) * sampling.min_p)
    total = torch.cumsum(probabilities, -1, dtype=torch.float64)
    # The first place whose sum exceeds the number: a token without probability is never such a place.
    place = torch.searchsorted(total, uniform.to(total)[:, None] * total[:, -1:], right=True)
    if bool((place == total.shape[-1]).any()):  # rounding went past the end
        place = torch.minimum(place, (probabilities > 0).int().cumsum(-1).argmax(-1, keepdim=True))
    return place[:, 0]


def _kept(probabilities: Tensor, least: Tensor) -> Tensor:
    """Those that are at least `least` `[rows, 1]`, adding up to one."""
    kept = probabilities.masked_fill(probabilities < least, 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _nucleus(probabilities: Tensor, share: float) -> Tensor:
    """The smallest probability `[rows, 1]` in the fewest tokens that hold `share` together."""
    few = min(FEW, probabilities.shape[-1])
    ordered = probabilities.topk(few).values
    sums = ordered.cumsum(-1)
    if bool((sums[:, -1] < share).any()) and few < probabilities.shape[-1]:
        ordered = probabilities.sort(-1, descending=True).values
        sums = ordered.cumsum(-1)
    taken = (sums - ordered < share).sum(-1, keepdim=True)
    return ordered.gather(-1, (taken - 1).clamp_min(0))


def uniforms(
    seed: int | None, prompts: Sequence[Sequence[int]], numbers: range, most: int, twins: Sequence[int] | None = None
) -> Tensor:
    """A number in [0, 1) for each token of samples with some `numbers`, fp64 `[prompts * samples, most]`.

    With a seed they depend on it, on the prompt and on the sample's number only, so that a batch changes nothing.
    `twins[i]` tells prompt i from equal ones, which get samples of their own.
    """
    if seed is None:
        return torch.rand(len(prompts) * len(numbers), most, dtype=torch.float64)
    rows = []
    for prompt, twin in zip(prompts, twins or [0] * len(prompts), strict=True):
        for number in numbers:
            name = hashlib.blake2b(repr((seed, twin, number, list(prompt))).encode(), digest_size=7).digest()
            own = torch.Generator().manual_seed(int.from_bytes(name, "big"))
            rows.append(torch.rand(most, dtype=torch.float64, generator=own))
    return torch.stack(rows)
