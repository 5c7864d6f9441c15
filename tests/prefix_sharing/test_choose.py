"""The next token: limits as transformers applies them, and draws with the right shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from condition.prefix_sharing import choose as choose_module
from condition.prefix_sharing.choose import choose, uniforms
from condition.types import Sampling

VOCABULARY = 60


def logits(rows: int = 1, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def wanted(scores: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities as transformers' own warpers leave them, in its order."""
    ids = torch.zeros(len(scores), 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(sampling.temperature)(ids, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(ids, scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(ids, scores)
    return scores.softmax(-1)


def shares(scores: Tensor, sampling: Sampling, draws: int = 4000) -> Tensor:
    """How often each token comes for numbers spread evenly."""
    uniform = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    tokens = choose(scores.expand(draws, -1), sampling, uniform)
    return torch.bincount(tokens, minlength=VOCABULARY) / draws


@pytest.mark.parametrize("few", [4, 1024])
@pytest.mark.parametrize(
    "limits",
    [{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 9, "top_p": 0.7, "min_p": 0.05}, {"top_p": 1e-6}],
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_are_those_of_transformers(
    limits: dict[str, float], temperature: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_module, "FEW", few)
    sampling = Sampling(temperature=temperature, **limits)
    scores = logits()
    torch.testing.assert_close(shares(scores, sampling), wanted(scores, sampling)[0], atol=1e-3, rtol=0)


def test_greedy_takes_the_likeliest() -> None:
    scores = logits(7)
    assert torch.equal(choose(scores, Sampling(), torch.zeros(7)), scores.argmax(-1))


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 9))
def test_a_token_without_probability_never_comes(uniform: float, seed: int) -> None:
    scores = logits(1, seed)
    scores[:, seed::3] = float("-inf")
    token = int(choose(scores, Sampling(temperature=1.0), torch.tensor([uniform], dtype=torch.float64)))
    assert scores[0, token] > float("-inf")


def test_the_ends_of_the_range() -> None:
    scores = torch.tensor([[float("-inf"), 0.0, 0.0, float("-inf")]])
    one = Sampling(temperature=1.0)
    assert int(choose(scores, one, torch.tensor([0.0], dtype=torch.float64))) == 1
    assert int(choose(scores, one, torch.tensor([1 - 1e-16], dtype=torch.float64))) == 2
    assert int(choose(scores, one, torch.tensor([1.0]))) == 2  # rounded up by whoever drew it


def test_the_nucleus_is_the_fewest_tokens_that_hold_the_share() -> None:
    """Exact halves, so that a share may be met exactly; by hand."""
    probabilities = torch.tensor([[0.125, 0.5, 0.25, 0.125]])
    for share, least in ((0.25, 0.5), (0.5, 0.5), (0.51, 0.25), (0.75, 0.25), (0.76, 0.125), (1.0, 0.125)):
        assert float(choose_module._nucleus(probabilities, share)) == least


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-30])
def test_next_to_no_temperature_is_greedy(temperature: float) -> None:
    scores = 40 + logits(7)
    scores[:, 3:9] = float("-inf")
    tokens = choose(scores, Sampling(temperature=temperature), torch.full((7,), 0.999, dtype=torch.float64))
    assert torch.equal(tokens, scores.argmax(-1))


def test_numbers_depend_on_seed_prompt_and_sample_only() -> None:
    both = uniforms(3, [[1, 2], [4]], range(2), 5)
    assert both.shape == (4, 5)
    assert torch.equal(both[2:], uniforms(3, [[4]], range(2), 5))
    assert torch.equal(both[2:3, :3], uniforms(3, [[4]], range(1), 3))
    assert len({tuple(row) for row in both.tolist()}) == 4
    assert not torch.equal(both, uniforms(4, [[1, 2], [4]], range(2), 5))
    assert torch.equal(both[1:2], uniforms(3, [[1, 2]], range(1, 2), 5))
    twins = uniforms(3, [[4], [4]], range(2), 5, [0, 1])
    assert torch.equal(twins[:2], both[2:])
    assert len({tuple(row) for row in twins.tolist()}) == 4
    assert not torch.equal(uniforms(None, [[1]], range(1), 5), uniforms(None, [[1]], range(1), 5))
