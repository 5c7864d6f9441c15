"""The adapter of a training: which one is trained, the network that it is trained in, and what it does at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from transformers import PreTrainedModel, TrainerCallback

from condition.adapters.adalora import AdaLoRA
from condition.adapters.attach import private_copy
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.registry import KINDS, KeptAdapter, adapter_of, attached, check_switched_on, told_of
from condition.adapters.soft_prompts import PromptTuning, tokens_before
from condition.adapters.stack import PLACES
from condition.errors import SettingsError
from condition.models.local import LocalModel
from condition.prefix_sharing.probe import trust
from condition.protocols import Adapter
from condition.training.checkpoints import digest
from condition.training.settings import Settings
from condition.training.sharded import gathered


def check_adapter(given: object) -> None:
    """Raises SettingsError for what is no adapter, and for one that can be attached but not saved."""
    if isinstance(given, Adapter) and not isinstance(given, type | KeptAdapter):
        lacks = [name for name in ("kind", "save", "load", "model_dump") if not hasattr(given, name)]
        raise SettingsError(
            f"{type(given).__name__} can be attached, but what is trained is saved too: it lacks {', '.join(lacks)}; "
            "see condition.adapters.registry.KeptAdapter"
        )
    if isinstance(given, type) or not isinstance(given, (KeptAdapter, *KINDS.values())):
        meant = _meant(given)
        others = ", ".join(
            f"cd.{kind.__name__}" for kind in (PromptTuning, IA3, Bottleneck) if kind.__name__ not in meant
        )
        raise SettingsError(f"adapter={given!r:.80} is no adapter: give one, {meant}, or another such as {others}")


def _meant(given: object) -> str:
    """The adapter that was meant, as it is written."""
    if isinstance(given, type) and issubclass(given, tuple(KINDS.values())):
        return f"cd.{given.__name__}()"
    named = str(given).lower().replace("-", "_") if isinstance(given, str) else ""
    kind = KINDS.get(named) or next((k for k in KINDS.values() if k.__name__.lower() == named), None)
    if kind is not None:
        return f"cd.{kind.__name__}()"
    settings = given if isinstance(given, Mapping) else {"rank": given if type(given) is int and given > 0 else 16}
    return f"cd.LoRA({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


def check_gradients(model: LocalModel, settings: Settings) -> None:
    """Raises SettingsError for a base whose weights pass no gradient on, or can't be rounded a second time."""
    if model.quantization is None:
        return
    if not model.quantization.trains:
        raise SettingsError(
            f"the base is loaded as {model.quantization.name!r}, whose products have no gradient: "
            "load it without quantization, or as nf4, fp4, int8 or intx, and quantize what comes out"
        )
    if settings.quantization_aware is not None:
        raise SettingsError(
            "quantization_aware rounds the weights of a whole base, and this one is quantized already: "
            "leave it out, or load the base without quantization"
        )


def adapter_for(model: LocalModel, asked: KeptAdapter) -> KeptAdapter:
    """What will be trained: the model's own adapter where it is tuned already.

    Raises SettingsError where it differs from the one asked for, or is switched off.
    """
    own = adapter_of(model.network)
    if own is None:
        return asked
    check_switched_on(model.network)
    if asked != LoRA() and (different := _differences(own, asked)):
        raise SettingsError(
            f"this model is tuned already and keeps its adapter, which differs in {', '.join(different)}: "
            f"leave `adapter` out to tune it on, {_over(model, own)}{_together(own, asked)}or fit the base"
        )
    return own


def _over(model: LocalModel, own: KeptAdapter) -> str:
    """How another adapter comes over one that is a change of weights."""
    if not isinstance(own, LoRA | AdaLoRA | IA3 | FullFineTuning | LastLayers):
        return ""
    if model.quantization is not None:
        return "fit what model.export(folder) writes, for the new one over it, "
    return "fit model.merge() for the new one over it, "


def _together(own: KeptAdapter, asked: KeptAdapter) -> str:
    """How both are trained, where they stack."""
    if PLACES.get(own.kind) == PLACES.get(asked.kind) or not {own.kind, asked.kind} <= PLACES.keys():
        return ""
    both = ", ".join(f"cd.{type(adapter).__name__}()" for adapter in (own, asked))
    return f"fit the base with cd.Stack(({both})) for both together, "


def _differences(own: KeptAdapter, asked: KeptAdapter) -> list[str]:
    was, now = told_of(own), told_of(asked)
    if was["kind"] != now["kind"]:
        return [f"kind ({was['kind']!r}, asked for {now['kind']!r})"]
    if now.get("targets") == "all-linear":  # a folder of PEFT's tells the names
        was["targets"] = now["targets"]
    return [f"{n} ({was.get(n)!r}, asked for {now[n]!r})" for n in now if was.get(n) != now[n]]


def adapted(model: LocalModel, adapter: KeptAdapter) -> PreTrainedModel:
    """A network to train: over the model's frozen tensors, with an adapter of its own."""
    is_tuned = adapter_of(model.network) is not None
    network = private_copy(model.network) if is_tuned else attached(adapter, model.network, model.tokenizer)
    trust(network, model.network)
    return network


def made_whole(
    pieces: PreTrainedModel, model: LocalModel, adapter: KeptAdapter, extend: Callable[[PreTrainedModel], None]
) -> PreTrainedModel:
    """A network as `adapted` and `extend` make it, with what was learned in one that is shared out.

    DeepSpeed leaves tensors whole, but they are slices of its own and call it at each backward pass.
    """
    network = adapted(model, adapter)
    extend(network)
    gathered(pieces, network)
    return network


def tokens_taken(model: LocalModel, adapter: KeptAdapter) -> int:
    """How much of the context a soft prompt or prefix takes before each row.

    Raises SettingsError where nothing is left for rows.
    """
    taken = 0 if adapter_of(model.network) is not None else tokens_before(adapter, model.tokenizer)
    if taken and model.context - taken < 2:
        raise SettingsError(f"the adapter takes {taken} tokens of a context of {model.context}: make it shorter")
    return taken


def tuned_on(model: LocalModel) -> str | None:
    """Hash of what a model was tuned to already; none for a base."""
    return digest(model.network) if adapter_of(model.network) is not None else None


def steps_of(adapter: object, network: PreTrainedModel) -> list[TrainerCallback]:
    """What calls an adapter's own work between the steps, where it has some."""
    return [_Steps(adapter, network)] if hasattr(adapter, "after_step") or hasattr(adapter, "before_step") else []


@final
class _Steps(TrainerCallback):
    """Calls an adapter's `before_step` when gradients are whole, and `after_step` while they are still there."""

    def __init__(self, adapter: Any, network: PreTrainedModel) -> None:
        self.adapter, self.network = adapter, network

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._call("before_step", state)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._call("after_step", state)

    def _call(self, name: str, state: Any) -> None:
        if hasattr(self.adapter, name):
            getattr(self.adapter, name)(self.network, state.global_step + 1, state.max_steps)
