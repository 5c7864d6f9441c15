"""Adding an adapter's change to the weights it stands beside: a plain network that says the same.

    W x + B A x × alpha/rank   ──►   (W + B A × alpha/rank) x

For adapters whose layers are PEFT's. The network given stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from transformers import PreTrainedModel

from condition.adapters.adalora import AdaLoRA
from condition.adapters.attach import is_learned, marked, shared_copy
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.quantized import is_quantized, is_torchao
from condition.adapters.registry import adapter_of
from condition.errors import SettingsError


def merged(network: PreTrainedModel) -> PreTrainedModel:
    """A network of the same architecture as the base, over the base's tensors where no adapter changes them.

    Raises SettingsError for a network without adapter, one whose adapter is no change of weights, and a quantized one.
    """
    adapter = adapter_of(network)
    if isinstance(adapter, FullFineTuning | LastLayers):
        return marked(_frozen(shared_copy(network)), None)
    _check_mergeable(adapter)
    if is_quantized(network):
        raise SettingsError(
            "a change is smaller than the steps of quantized weights and would be rounded away: "
            "use model.export(folder), which dequantizes them first"
        )
    return _frozen(_without_layers(shared_copy(network)))


def without_adapter(network: PreTrainedModel) -> PreTrainedModel:
    """The base below PEFT's layers, as a network of its own over the same tensors.

    Raises SettingsError for an adapter that is no change of weights.
    """
    _check_mergeable(adapter_of(network))
    return _frozen(_without_layers(shared_copy(network), merge=False))


def dequantized(network: PreTrainedModel) -> PreTrainedModel:
    """A network whose linear layers of bitsandbytes and torchao are plain ones with the very numbers they stand for."""
    twin = shared_copy(network)
    for name, module in list(twin.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt") or is_torchao(module.weight):
            _put(twin, name, _plain(module))
    config: Any = twin.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        twin.__dict__[name] = False
    for name in ("hf_quantizer", "quantization_method"):
        twin.__dict__.pop(name, None)
    return twin


def _check_mergeable(adapter: object) -> None:
    if adapter is None:
        raise SettingsError(
            "there is no adapter to merge: this is a base, or its own weights were tuned as FullFineTuning does. "
            "model.save_pretrained(folder) writes it as it is"
        )
    if not isinstance(adapter, LoRA | AdaLoRA | IA3):
        raise SettingsError(
            f"{type(adapter).__name__} is no change of the base's weights, so it can't be merged into them: "
            f"save the model as it is"
        )


def _plain(module: nn.Linear) -> nn.Linear:
    weight = dequantize_module_weight(module).detach()
    linear = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.to(torch.float32), requires_grad=False)
    linear.bias = None if module.bias is None else nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return linear


def _without_layers(twin: PreTrainedModel, *, merge: bool = True) -> PreTrainedModel:
    head, words = twin.get_output_embeddings(), twin.get_input_embeddings()
    were_tied = head is not None and words is not None and getattr(head, "weight", 0) is getattr(words, "weight", 1)
    for name, layer in list(twin.named_modules()):
        if isinstance(layer, AuxiliaryTrainingWrapper):
            _put(twin, name, layer.modules_to_save[layer.active_adapters[0]] if merge else layer.original_module)
        elif isinstance(layer, BaseTunerLayer) and isinstance(layer, nn.Module):
            base = layer.get_base_layer()
            if merge:
                for own, parameter in list(base.named_parameters(recurse=False)):
                    setattr(base, own, nn.Parameter(parameter.detach().clone(), requires_grad=False))
                layer.merge(safe_merge=True)
            _put(twin, name, base)
    for name, _ in list(twin.named_children()):
        if is_learned(name):  # what AdaLoRA counts
            delattr(twin, name)
    twin.__dict__.pop("peft_config", None)
    twin.__dict__["_hf_peft_config_loaded"] = False
    head, words = twin.get_output_embeddings(), twin.get_input_embeddings()
    if were_tied and head.weight is not words.weight:
        twin.config.tie_word_embeddings = False
    return marked(twin, None)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


def _frozen(network: PreTrainedModel) -> PreTrainedModel:
    network.requires_grad_(False)
    network.eval()
    return network
