"""What adapters whose layers are PEFT's have in common: putting layers in, and folders that PEFT reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from peft import PeftConfig, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora.layer import Linear
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from condition.adapters.attach import freeze, in_float32, is_learned, shared_copy, trainable, with_shared_factors
from condition.adapters.blocks import is_product
from condition.errors import ContractError, SettingsError

Targets = str | Sequence[str]
ALL = "all-linear"
PREFIX = "base_model.model."


def injected(network: PreTrainedModel, config: PeftConfig, who: str) -> PreTrainedModel:
    """A network with the layers of a PEFT adapter, over the same tensors.

    Raises SettingsError where no layer has a targeted name, and where there are layers of PEFT's already.
    """
    if configs(network):
        raise SettingsError(
            f"{who} can't lie over another adapter of its kind: merge that one first (model.merge()), or tune it on"
        )
    twin = shared_copy(network)
    freeze(twin)
    try:
        with warnings.catch_warnings():  # of merging into torchao's weights, which is not done
            warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated without")
            twin.add_adapter(config)
            _hold_constants(twin)
            _right_tied_heads(twin)
    except ValueError as error:
        asked = getattr(config, "target_modules", None)
        shown = asked if isinstance(asked, str) else sorted(asked or ())
        hint = f". A string is a pattern of whole names: give a list, [{asked!r}]" if isinstance(asked, str) else ""
        raise SettingsError(
            f"{who} fits no layer of {type(network).__name__} by targets={shown!r}: {error}{hint}"
        ) from error
    _drop_views(twin)
    return with_shared_factors(in_float32(twin))


def _hold_constants(twin: PreTrainedModel) -> None:
    """AdaLoRA's layers divide by their rank, a number that PEFT sets free to learn where it moves it to a base that is
    not in fp32 on the CPU."""
    for name, parameter in twin.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad_(False)


def _right_tied_heads(twin: PreTrainedModel) -> None:
    """PEFT makes the head of a whole, tied embedding with its sizes the wrong way round, and without its bias."""
    for module in twin.modules():
        if not isinstance(module, ModulesToSaveWrapper) or not isinstance(module.original_module, nn.Linear):
            continue
        base = module.original_module
        for head in cast(Iterable[nn.Linear], module.modules_to_save.values()):
            head.in_features, head.out_features = base.in_features, base.out_features
            if head.bias is None and base.bias is not None:
                head.bias = base.bias  # stays frozen: PEFT saves of a tied head nothing of its own


def _drop_views(twin: PreTrainedModel) -> None:
    """Of a tied embedding's factors PEFT leaves views in the head, which are no leaves: nothing could copy them."""
    for module in twin.modules():
        if isinstance(module, Linear):
            module.kwargs.pop("tied_adapter", None)


def save_injected(network: PreTrainedModel, folder: Path, base: str) -> None:
    """Write a plain PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""
    (config,) = configs(network)
    # Asked to decide by itself, PEFT would look for the base's vocabulary on the hub, and save it.
    state = get_peft_model_state_dict(network, adapter_name="default", save_embedding_layers=False)
    tensors = {f"{PREFIX}{name}": t.detach().cpu().contiguous().clone() for name, t in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    told = copy(config)
    told.base_model_name_or_path, told.inference_mode = base, True
    for name in ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules"):
        if isinstance(getattr(told, name, None), set):
            setattr(told, name, sorted(getattr(told, name)))  # a set has no order; the same model is the same file
    told.save_pretrained(str(folder))


def load_injected(network: PreTrainedModel, folder: Path, kind: type[PeftConfig]) -> PreTrainedModel:
    """The network with the adapter of a PEFT folder, ready to be used or trained on.

    Raises ContractError where the folder's adapter is of another kind, or not for this network.
    """
    config = PeftConfig.from_pretrained(str(folder))
    if type(config) is not kind:
        raise ContractError(
            f"{folder} holds an adapter of the method {config.peft_type}, and {kind.__name__} was to be loaded: "
            f"copy the whole folder again"
        )
    config.inference_mode = False
    twin = injected(network, config, f"the adapter in {folder}")
    # Not by transformers' load_adapter, which leaves DoRA's magnitudes at their start.
    saved = {name.removeprefix(PREFIX): tensor for name, tensor in load_peft_weights(str(folder), device="cpu").items()}
    result: Any = set_peft_model_state_dict(twin, saved, adapter_name="default")
    unread, learned = list(result.unexpected_keys), trainable(twin)
    missing = [name for name in result.missing_keys if name in learned]
    if unread or missing:
        raise ContractError(
            f"{folder} is not of this adapter on this base: {(unread or missing)[0]} is only in "
            f"{'the file' if unread else 'the network'}. Give the right base"
        )
    return twin


def configs(network: PreTrainedModel) -> list[PeftConfig]:
    """What PEFT knows of the adapters in a network."""
    found: dict[str, PeftConfig] = getattr(network, "peft_config", {})
    return list(found.values())


def targets_for(network: PreTrainedModel, targets: Targets, who: str, *, tables: bool = False) -> str | list[str]:
    """Names as PEFT takes them; `all-linear` may stand among others. A string is a pattern of whole names.

    Raises SettingsError for a name in a list that no layer has, of which PEFT says nothing where another one fits, and
    for no names at all.
    """
    if not targets:
        raise SettingsError(f"{who}.targets = {targets!r} names no layer: give names, or leave it out for '{ALL}'")
    if isinstance(targets, str):
        _check_pattern(targets, who)
        return targets
    check_names(network, [name for name in targets if name != ALL], f"{who}.targets", tables=tables)
    if ALL not in targets:
        return list(targets)
    head = network.get_output_embeddings()
    named = network.named_modules()
    linear = [name for name, m in named if is_product(m) and m is not head and not is_learned(name)]
    return sorted({*linear, *targets} - {ALL})


def check_names(network: PreTrainedModel, names: Sequence[str], what: str, *, tables: bool = False) -> None:
    """Raises SettingsError for a name that no module has, in full or as its last part; `tables` may be named too."""
    modules = [name for name, _ in network.named_modules() if name]
    for name in names:
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            linear = _last_parts(network, is_product)
            embeddings = _last_parts(network, lambda module: isinstance(module, nn.Embedding)) if tables else []
            near = get_close_matches(name, [*linear, *embeddings], n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            also = f", its embeddings {', '.join(embeddings)}" if embeddings else ""
            raise SettingsError(
                f"{what}: {name!r} is no module of {type(network).__name__}{meant}; its linear layers are "
                f"{', '.join(linear)}{also}"
            )


def _last_parts(network: PreTrainedModel, fits: Callable[[nn.Module], bool]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name, module in network.named_modules() if fits(module)})


def _check_pattern(pattern: str, who: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"{who}.targets = {pattern!r} is no pattern ({error}): give a list of names, such as ['q_proj', 'v_proj']"
        ) from error


def keeps_weights_transposed(network: PreTrainedModel) -> bool:
    """Whether the linear layers are GPT-2's."""
    return any(isinstance(module, Conv1D) for module in network.modules())


def not_ours(network: PreTrainedModel) -> list[str] | None:
    """Linear layers that another adapter of ours has put in: no targets."""
    return [name for name, module in network.named_modules() if is_product(module) and is_learned(name)] or None
