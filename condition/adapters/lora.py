"""LoRA: a low-rank change beside each frozen linear layer. Hu et al. 2021, arXiv 2106.09685.

    x ──► W x ────────────┐
    │                     + ──► y        A: [rank, in]   B: [out, rank], zero at the start
    └──► A x ──► B ─ × alpha/rank

On a quantized base it is QLoRA (Dettmers et al. 2023, arXiv 2305.14314): nothing else changes. The layers are PEFT's.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Literal

from peft import LoraConfig
from pydantic import Field
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from condition.adapters.attach import freeze, in_float32, shared_copy
from condition.errors import SettingsError
from condition.types import Options


class LoRA(Options):
    """A low-rank adapter. `attach` gives a network of its own over the base's tensors; only A and B are trained."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    """The change is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: str | Sequence[str] = "all-linear"
    """Names of linear layers, or `all-linear`: every one but the output head."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank). Kalajdzievski 2023, arXiv 2312.03732."""
    weight_decomposed: bool = False
    """DoRA. Liu et al. 2024, arXiv 2402.09353."""
    kind: Literal["lora"] = "lora"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with LoRA layers; the one given is left as it is.

        Raises SettingsError where no layer has a targeted name.
        """
        twin = shared_copy(network)
        freeze(twin)
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT scales by any number, its annotation says int
            lora_dropout=self.dropout,
            target_modules=targets,
            use_rslora=self.rank_stabilised,
            use_dora=self.weight_decomposed,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in network.modules()),  # GPT-2 keeps W transposed
            task_type="CAUSAL_LM",
        )
        try:
            twin.add_adapter(config)
        except ValueError as error:
            raise SettingsError(
                f"LoRA fits no layer of {type(network).__name__} by targets={self.targets!r}: {error}"
            ) from error
        return in_float32(twin)


def save_lora(network: PreTrainedModel, folder: Path, base: str) -> None:
    """Write a plain PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""
    (config,) = _configs(network)
    config.base_model_name_or_path = None  # PEFT would ask the hub whether the base's vocabulary has changed
    network.save_pretrained(folder)
    told: LoraConfig = copy(config)
    told.base_model_name_or_path, told.inference_mode = base, True
    if isinstance(config.target_modules, set):
        told.target_modules = sorted(config.target_modules)  # a set has no order; the same model is the same file
    told.save_pretrained(str(folder))


def load_lora(network: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The network with the adapter of a PEFT folder, ready to be used or trained on."""
    twin = shared_copy(network)
    freeze(twin)
    twin.load_adapter(str(folder), is_trainable=True)
    return in_float32(twin)


def lora_of(network: PreTrainedModel) -> LoRA | None:
    """The adapter that a network has, read from its layers; none where it has none."""
    configs = _configs(network)
    if not configs:
        return None
    config = configs[0]
    targets = config.target_modules
    return LoRA(
        rank=config.r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=targets if isinstance(targets, str) else sorted(targets or ()),
        rank_stabilised=config.use_rslora,
        weight_decomposed=config.use_dora,
    )


def _configs(network: PreTrainedModel) -> list[LoraConfig]:
    found: dict[str, object] = getattr(network, "peft_config", {})
    return [config for config in found.values() if isinstance(config, LoraConfig)]
