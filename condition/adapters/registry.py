"""Adapters by kind: which one a network has, how it is saved and loaded, and the network without it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.adalora import AdaLoRA, adalora_from
from condition.adapters.attach import is_learned, mark_of, marked, trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.ia3 import IA3, ia3_from
from condition.adapters.injected import configs
from condition.adapters.lora import LoRA, lora_from
from condition.adapters.mixed import Mixed
from condition.adapters.side import LadderSide
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning, PTuning, soft_prompt_from
from condition.adapters.stack import Stack
from condition.errors import ContractError, SettingsError
from condition.protocols import Adapter

KINDS: dict[str, type[Any]] = {
    "adalora": AdaLoRA,
    "bottleneck": Bottleneck,
    "full": FullFineTuning,
    "ia3": IA3,
    "ladder_side": LadderSide,
    "last_layers": LastLayers,
    "lora": LoRA,
    "mixed": Mixed,
    "p_tuning": PTuning,
    "prefix_tuning": PrefixTuning,
    "prompt_tuning": PromptTuning,
    "stack": Stack,
}
WITH_TEXT = (PromptTuning, PrefixTuning, Mixed, Stack)
"""Those that may begin with a text, and then need a tokenizer."""


@runtime_checkable
class KeptAdapter(Adapter, Protocol):
    """An adapter that can be saved and loaded: what a kind of one's own has to have beside `attach`.

    `attach` and `load` give a network whose trained parameters ask for a gradient, and leave the one given as it is.
    `model_dump` tells the settings, as JSON has them, by which the class makes the same adapter again; `register` makes
    the class known to `condition.load`. `before_step` and `after_step`, where there are such methods, are called with
    network, step and number of steps around each step of the optimizer.
    """

    @property
    def kind(self) -> str: ...

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None: ...

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel: ...

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]: ...


def register(adapter: type[KeptAdapter], kind: str) -> None:
    """Make a kind of one's own known to `load`. Raises SettingsError where the kind is taken by another class."""
    if KINDS.setdefault(kind, adapter) is not adapter:
        raise SettingsError(f"the kind {kind!r} is taken by {KINDS[kind].__name__}: choose another")


def attached(
    adapter: Adapter, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
) -> PreTrainedModel:
    """The network with an adapter, which it remembers."""
    if isinstance(adapter, WITH_TEXT):
        return adapter.attach(network, tokenizer)
    return _remembered(adapter.attach(network), adapter)


def _remembered(made: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """The network, which knows its adapter also where a class of one's own does not say so."""
    return made if mark_of(made) is not None else marked(made, adapter)


def adapter_of(network: PreTrainedModel) -> KeptAdapter | None:
    """The adapter that a network has; none where it is a base."""
    found = mark_of(network)
    if found is not None:
        return cast(KeptAdapter, found)
    config = next(iter(configs(network)), None)
    return None if config is None else _from_peft(config)


def told_of(adapter: KeptAdapter) -> dict[str, Any]:
    """Kind and settings of an adapter, as a contract keeps them."""
    return {**adapter.model_dump(mode="json"), "kind": adapter.kind}


def adapter_from(told: Mapping[str, Any]) -> KeptAdapter:
    """The adapter of a contract. Raises ContractError for a kind that is not known here."""
    kind = str(told.get("kind"))
    if kind not in KINDS:
        raise ContractError(
            f"the adapter is of the kind {kind!r}, which is not known here: known are {', '.join(sorted(KINDS))}; "
            f"make your own known with condition.adapters.registry.register"
        )
    known = getattr(KINDS[kind], "model_fields", told.keys() - {"kind"})  # our own leave out what they do not know
    try:
        return cast(KeptAdapter, KINDS[kind](**{name: value for name, value in told.items() if name in known}))
    except (SettingsError, TypeError) as error:
        raise ContractError(f"the contract's adapter can't be read: {error}") from error


def save_adapter(network: PreTrainedModel, folder: Path, base: str) -> None:
    """Write the adapter of a network. Raises SettingsError where it has no `save`."""
    adapter = adapter_of(network)
    if not isinstance(adapter, KeptAdapter):
        raise SettingsError(
            f"{type(adapter).__name__} can't be saved: give it kind, save and load (see KeptAdapter), and register it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    adapter.save(network, folder, base)


def load_adapter(network: PreTrainedModel, folder: Path, told: Mapping[str, Any] | None) -> PreTrainedModel:
    """The network with the adapter of a folder, of which a contract has `told`; a plain PEFT folder tells itself."""
    adapter = from_folder(folder) if told is None else adapter_from(told)
    return _remembered(adapter.load(network, folder), adapter)


def from_folder(folder: Path) -> KeptAdapter:
    """The adapter of a plain PEFT folder. Raises ContractError for a method that is not known here."""
    told = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if told.get("peft_type") in ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"):
        return soft_prompt_from(folder, told)
    return _from_peft(PeftConfig.from_pretrained(str(folder)))


def _from_peft(config: PeftConfig) -> KeptAdapter:
    if isinstance(config, AdaLoraConfig):
        return adalora_from(config)
    if isinstance(config, LoraConfig):
        return lora_from(config)
    if isinstance(config, IA3Config):
        return ia3_from(config)
    raise ContractError(f"a PEFT adapter of the method {config.peft_type} is not known here: use PEFT itself")


def switches(network: PreTrainedModel) -> dict[str, Any]:
    """Of each part of an adapter, by name: whether it is off; of PEFT's also which are active, and how strong."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            strong = getattr(module, "scaling", None)
            found[name] = [bool(module.disable_adapters), list(module.active_adapters), strong]
        elif is_learned(name) and hasattr(module, "off"):
            found[name] = [bool(module.off)]
    return found


def check_switched_on(network: PreTrainedModel) -> None:
    """Raises SettingsError where an adapter, or a part of one, is switched off: it would neither act nor learn."""
    if any(off for off, *_ in switches(network).values()):
        raise SettingsError(
            "the model's adapter is switched off, and would learn nothing: fit it outside of `switched_off`, "
            "call model.network.enable_adapters() first, or fit the base"
        )


@contextmanager
def switched_off(network: PreTrainedModel) -> Iterator[None]:
    """Inside, a network is the base that its adapter was attached to.

    Raises SettingsError where the base's own weights were tuned: there is nothing to switch.
    """
    if isinstance(mark_of(network), FullFineTuning | LastLayers):
        raise SettingsError(
            "the base's own weights were tuned: there is no adapter to switch off; keep the base beside"
        )
    learning = trainable(network).keys()
    _switch(network, off=True)
    try:
        yield
    finally:
        _switch(network, off=False)
        for name, parameter in network.named_parameters():  # PEFT forgets some, and lets frozen ones learn
            if parameter.requires_grad != (name in learning):
                parameter.requires_grad_(name in learning)


def _switch(network: PreTrainedModel, *, off: bool) -> None:
    if configs(network):
        (network.disable_adapters if off else network.enable_adapters)()
    for name, module in network.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            module.enable_adapters(enabled=not off)  # a whole head, which transformers leaves off
        if is_learned(name) and hasattr(module, "off"):
            module.__dict__["off"] = off
