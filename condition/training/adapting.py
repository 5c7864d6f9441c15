"""The adapter of a training: which one is trained, and the network that it is trained in."""

from __future__ import annotations

from transformers import PreTrainedModel

from condition.adapters.attach import private_copy
from condition.adapters.lora import LoRA, lora_of
from condition.errors import SettingsError
from condition.models.arguments import check_options
from condition.models.local import LocalModel
from condition.prefix_sharing.probe import trust
from condition.training.checkpoints import digest


def check_adapter(given: object) -> None:
    """Raises SettingsError for what is no adapter."""
    check_options(given, LoRA, "adapter", {"rank": given}, {"rank": 16})


def adapter_for(model: LocalModel, asked: LoRA) -> LoRA:
    """What will be trained: the model's own adapter where it is tuned already.

    Raises SettingsError where it differs from the one asked for.
    """
    own = lora_of(model.network)
    if own is None:
        return asked
    names = [n for n in LoRA.model_fields if n != "targets" or asked.targets != "all-linear"]
    pairs = {n: (getattr(own, n), getattr(asked, n)) for n in names}
    different = [f"{n} ({was!r}, asked for {now!r})" for n, (was, now) in pairs.items() if was != now]
    if different and asked != LoRA():
        raise SettingsError(
            f"this model is tuned already and keeps its adapter, which differs in {', '.join(different)}: "
            f"leave `adapter` out to tune it on, or fit the base"
        )
    return own


def adapted(model: LocalModel, adapter: LoRA) -> PreTrainedModel:
    """A network to train: over the model's frozen tensors, with an adapter of its own."""
    is_tuned = lora_of(model.network) is not None
    network = private_copy(model.network) if is_tuned else adapter.attach(model.network)
    trust(network, model.network)
    return network


def tuned_on(model: LocalModel) -> str | None:
    """Hash of what a model was tuned to already; none for a base."""
    return digest(model.network) if lora_of(model.network) is not None else None
