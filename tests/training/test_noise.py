"""Noise on embeddings: of the paper's size, in training only, gone afterwards."""

from __future__ import annotations

import math

import torch

from condition.training.noise import noisy
from tests.conftest import Tiny


def test_its_size_follows_the_length_of_a_row(tiny: Tiny) -> None:
    network = tiny("llama").train()
    table = network.get_input_embeddings()
    ids = torch.arange(400).reshape(1, 400)
    plain = table(ids).detach()
    with noisy(network, 5.0) as noise:
        assert noise is not None
        for tokens in (10, 40):
            noise.tokens = tokens
            most = 5.0 / math.sqrt(tokens * 64)
            change = (table(ids).detach() - plain).abs()
            assert 0.99 * most < float(change.max()) <= most
            assert math.isclose(float(change.mean()), most / 2, rel_tol=0.05)
        network.eval()
        assert torch.equal(table(ids), plain)
        network.train()
    assert torch.equal(table(ids), plain)


def test_none(tiny: Tiny) -> None:
    network = tiny("llama").train()
    table = network.get_input_embeddings()
    with noisy(network, None) as noise:
        assert noise is None
        assert torch.equal(table(torch.tensor([3])), table(torch.tensor([3])))
