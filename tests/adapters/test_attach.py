"""The copy has modules of its own and the base's very tensors."""

from __future__ import annotations

import torch

from condition.adapters.attach import freeze, private_copy, shared_copy, trainable
from condition.adapters.lora import LoRA
from tests.conftest import Tiny


def test_a_shared_copy_has_the_same_tensors_in_other_modules(tiny: Tiny, family: str) -> None:
    network = tiny(family)
    twin = shared_copy(network)
    mine, other = dict(network.named_modules()), dict(twin.named_modules())
    assert mine.keys() == other.keys()
    assert all(mine[name] is not other[name] for name in mine)
    for (name, one), (_, two) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        assert one is two, name
    assert {id(b) for b in network.buffers()} == {id(b) for b in twin.buffers()}


def test_the_configuration_is_the_copys_own(tiny: Tiny) -> None:
    network = tiny("llama")
    shared_copy(network).config.vocab_size = 7
    assert network.config.vocab_size == 512


def test_an_adapter_in_the_copy_leaves_the_network_as_it_was(tiny: Tiny, family: str) -> None:
    network = tiny(family)
    ids = torch.arange(3, 40)[None]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logits = network(input_ids=ids).logits
    adapted = LoRA(rank=4).attach(network)
    for parameter in trainable(adapted).values():
        parameter.data.normal_()
    assert not torch.equal(adapted(input_ids=ids).logits, logits)
    assert torch.equal(network(input_ids=ids).logits, logits)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tied_weights_stay_tied(tiny: Tiny) -> None:
    twin = shared_copy(tiny("llama", tie_word_embeddings=True))
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().weight


def test_a_private_copy_owns_what_is_trained_and_shares_the_rest(tiny: Tiny) -> None:
    first = LoRA(rank=4).attach(tiny("llama"))
    second = private_copy(first)
    mine, other = dict(first.named_parameters()), dict(second.named_parameters())
    assert mine.keys() == other.keys()
    for name, parameter in mine.items():
        assert torch.equal(parameter, other[name])
        assert (parameter is other[name]) != parameter.requires_grad, name


def test_freeze_and_trainable(tiny: Tiny) -> None:
    network = tiny("llama")
    assert trainable(network)
    freeze(network)
    assert trainable(network) == {}
