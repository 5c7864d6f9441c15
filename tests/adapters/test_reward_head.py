"""A head that starts at zero, lies in the network, and is a file of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from condition.adapters.attach import trainable
from condition.adapters.reward_head import FILE, add_head, head_of, load_head, save_head, without_head
from tests.conftest import Tiny


def test_it_starts_at_zero_and_is_trained(tiny: Tiny, family: str) -> None:
    network = tiny(family)
    assert head_of(network) is None
    add_head(network)
    head = head_of(network)
    assert head is not None
    assert (head.in_features, head.out_features, head.bias) == (64, 1, None)
    assert not head.weight.any()
    assert "score.weight" in trainable(network)
    head.weight.data.fill_(0.5)
    add_head(network)  # what is trained already stays
    assert head_of(network) is head


def test_a_folder_holds_it_beside_the_network(tiny: Tiny, tmp_path: Path) -> None:
    network, other = tiny("llama"), tiny("llama")
    save_head(network, tmp_path)
    load_head(other, tmp_path)
    assert head_of(other) is None
    add_head(network)
    network.get_submodule("score").weight.data.normal_()
    with without_head(network):
        assert not any(name.startswith("score") for name in network.state_dict())
    save_head(network, tmp_path)
    assert (tmp_path / FILE).is_file()
    load_head(other, tmp_path)
    torch.testing.assert_close(other.get_submodule("score").weight, network.get_submodule("score").weight)
