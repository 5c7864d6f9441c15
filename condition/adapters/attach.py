"""Attaching without touching: an adapted network has modules of its own and the base's very tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from peft.tuners.lora.layer import Embedding, Linear
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.quantized import kept, settle
from condition.errors import ModelError

LEARNED = "learned_"
"""What the names of our own modules inside a network begin with."""
_ADAPTER = "_condition_adapter"


def check_network(network: object, adapter: object) -> None:
    """Raises ModelError where something else is to be adapted, such as a model around a network."""
    if not isinstance(network, PreTrainedModel):
        who = type(adapter).__name__
        raise ModelError(
            f"{who}.attach takes a network of transformers, not {network!r:.80}: give the `network` of a loaded model, "
            f"or the model itself to a trainer: cd.SFTTrainer(cd.{who}(...)).fit(model, rows, prompt=...)"
        )


def shared_copy(network: PreTrainedModel) -> PreTrainedModel:
    """A second network over the same tensors.

    Adapters put their layers into the copy; whoever holds the base goes on with a base. Costs no memory to speak of.
    """
    return _copied(network, {id(tensor): tensor for tensor in _tensors(network)})


def private_copy(network: PreTrainedModel) -> PreTrainedModel:
    """Like `shared_copy`, but trainable tensors are copied, so that training the copy leaves the original as it was."""
    own = [p for p in network.parameters() if p.requires_grad]
    return with_shared_factors(copy_with_own(network, own + list(_states(network))))


def copy_with_own(network: PreTrainedModel, own: list[Any]) -> PreTrainedModel:
    """Like `shared_copy`, but some tensors are copied. What is tied stays tied."""
    mine = {id(tensor) for tensor in own}
    return _copied(network, {id(t): t for t in _tensors(network) if id(t) not in mine})


def _copied(network: PreTrainedModel, memo: dict[int, Any]) -> PreTrainedModel:
    hooks = network.__dict__.pop("_hf_hook", None)
    try:
        twin = copy.deepcopy(network, memo)
    finally:
        if hooks is not None:
            network.__dict__["_hf_hook"] = hooks
    return twin


def freeze(network: PreTrainedModel) -> None:
    """Ask for no gradient anywhere."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)


def in_float32(network: PreTrainedModel) -> PreTrainedModel:
    """The network with its trained numbers in fp32: a small step would be rounded away in a narrower type."""
    for parameter in trainable(network).values():
        parameter.data = parameter.data.float()
    return network


def with_shared_factors(network: PreTrainedModel) -> PreTrainedModel:
    """The network, where a head that is its embedding's tensor has that one's LoRA, transposed, in the same storage.

    PEFT begins so; copies and other types of number part them.
    """
    table, head = network.get_input_embeddings(), network.get_output_embeddings()
    if isinstance(table, Embedding) and isinstance(head, Linear) and table.weight is head.weight:
        for name in head.lora_A:
            head.lora_A[name].weight.data = table.lora_embedding_B[name].data.T
            head.lora_B[name].weight.data = table.lora_embedding_A[name].data.T
    return network


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that ask for a gradient, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """What a training changes, by name: its parameters, and what an adapter counts meanwhile."""
    buffers = {name: b for name, b in network.named_buffers() if is_learned(name)}
    return {**trainable(network), **buffers}


def is_learned(name: str) -> bool:
    """Whether a module or tensor is one that our adapters have put in, by its name."""
    return any(part.startswith(LEARNED) for part in name.split("."))


def marked(network: PreTrainedModel, adapter: object) -> PreTrainedModel:
    """The network, which says from now on that it has this adapter."""
    network.__dict__[_ADAPTER] = adapter
    return network


def mark_of(network: PreTrainedModel) -> Any:
    """The adapter that was marked; none where there is none."""
    return network.__dict__.get(_ADAPTER)


def _states(network: nn.Module) -> Iterator[Tensor]:
    return (buffer for name, buffer in network.named_buffers() if is_learned(name))


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    settle(network)
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))
        yield from kept(module)
