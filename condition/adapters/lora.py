"""LoRA: a low-rank change beside each frozen linear layer. Hu et al. 2021, arXiv 2106.09685.

    x ──► W x ────────────┐
    │                     + ──► y        A: [rank, in]   B: [out, rank], zero at the start
    └──► A x ──► B ─ × alpha/rank

On a quantized base it is QLoRA (Dettmers et al. 2023, arXiv 2305.14314): nothing else changes. The layers are PEFT's.

    LoRA(rank=16)
    LoRA(rank=16, targets=["all-linear", "embed_tokens"])     # the embedding too
    LoRA(rank=16, whole=["lm_head"])                          # the output head is trained as a whole
    LoRA(rank=16, initialisation="pissa")                     # begins in the base's own directions
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, get_args

from peft import LoraConfig
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, marked
from condition.adapters.injected import (
    Targets,
    check_names,
    configs,
    injected,
    keeps_weights_transposed,
    load_injected,
    not_ours,
    save_injected,
    targets_for,
)
from condition.adapters.principal import STARTS, as_lora, begin, from_lora, save_start
from condition.errors import SettingsError
from condition.types import Options, Texts

Initialisation = Literal["uniform", "gaussian", "orthogonal", "pissa", "olora"]
KNOWN: dict[object, Initialisation] = {name: name for name in get_args(Initialisation)}
PEFTS: dict[str, Literal["gaussian", "orthogonal"]] = {"gaussian": "gaussian", "orthogonal": "orthogonal"}
"""Those that PEFT has by these names and that leave the base alone."""


class LoRA(Options):
    """A low-rank adapter. `attach` gives a network of its own over the base's tensors; only A and B are trained."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    """The change is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: Targets = "all-linear"
    """Names of linear or embedding layers, or `all-linear`: every linear one but the output head."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank). Kalajdzievski 2023, arXiv 2312.03732."""
    weight_decomposed: bool = False
    """DoRA. Liu et al. 2024, arXiv 2402.09353."""
    initialisation: Initialisation = "uniform"
    """Of A, with B zero; `orthogonal` starts with orthogonal factors on both sides, whose product is zero. `pissa` and
    `olora` start in directions of the base's weights, see `condition.adapters.principal`: they are computed, and saved,
    as a LoRA of twice the rank. Dropout and weight decay act on what has been learned, not on where it began."""
    whole: Texts = ()
    """Names of modules that are trained as a whole beside it, such as `embed_tokens` and `lm_head`. Where embedding
    and head are one tensor they stay one."""
    kind: Literal["lora"] = "lora"

    @model_validator(mode="after")
    def _halves_are_orthogonal(self) -> Self:
        if self.initialisation == "orthogonal" and self.rank % 2:
            raise ValueError(f"rank {self.rank} has no two halves: initialisation='orthogonal' needs an even rank")
        return self

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with LoRA layers; the one given is left as it is.

        Raises SettingsError where no layer has a targeted name, and for a start that does not fit the base.
        """
        check_network(network, self)
        made = injected(network, self._config(network), "LoRA")
        return marked(made if self.initialisation not in STARTS else begin(made, self.initialisation), self)

    def _config(self, network: PreTrainedModel) -> LoraConfig:
        targets, whole, tied = self._with_ties(network)
        if self.initialisation == "orthogonal" and getattr(network, "is_quantized", False):
            raise SettingsError(
                "LoRA.initialisation = 'orthogonal' can't begin on a quantized base but torchao's intx: take 'gaussian'"
            )
        if self.weight_decomposed and any(type(m).__name__ == "Linear8bitLt" for m in network.modules()):
            raise SettingsError(
                "LoRA.weight_decomposed can't stand on bitsandbytes' int8 weights, whose scales PEFT loses on the way: "
                "load the base as nf4, or leave it out"
            )
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT scales by any number, its annotation says int
            lora_dropout=self.dropout,
            target_modules=targets,
            exclude_modules=not_ours(network),
            modules_to_save=whole or None,
            ensure_weight_tying=tied,
            use_rslora=self.rank_stabilised,
            use_dora=self.weight_decomposed,
            init_lora_weights=PEFTS.get(self.initialisation, True),
            fan_in_fan_out=keeps_weights_transposed(network),
            task_type="CAUSAL_LM",
        )

    def _with_ties(self, network: PreTrainedModel) -> tuple[str | list[str], list[str], bool]:
        """Targets, whole modules, and whether they touch a tensor that is embedding and head at once.

        Raises SettingsError where PEFT can't keep it one.
        """
        targets, whole = targets_for(network, self.targets, "LoRA", tables=True), list(self.whole)
        check_names(network, whole, "LoRA.whole", tables=True)
        names = {module: name for name, module in network.named_modules()}
        table, head = network.get_input_embeddings(), network.get_output_embeddings()
        if head is None or getattr(head, "weight", None) is not table.weight:
            return targets, whole, False
        ends = {names[table].rpartition(".")[2], names[head].rpartition(".")[2]}
        touched = [n for n in (*whole, *([] if isinstance(targets, str) else targets)) if n.rpartition(".")[2] in ends]
        if not touched:
            return targets, whole, False
        if names[table].rpartition(".")[2] not in EMBEDDING_LAYER_NAMES:
            raise SettingsError(
                f"LoRA: {touched[0]!r} is one tensor with {' and '.join(sorted(ends - {touched[0]}))} in "
                f"{type(network).__name__}, and PEFT would make them two: leave it out"
            )
        first = names[table].rpartition(".")[2]
        whole = list(dict.fromkeys(first if n in touched else n for n in whole))
        if not isinstance(targets, str):
            targets = list(dict.fromkeys(first if n in touched else n for n in targets))
        return targets, whole, True

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder."""
        if self.initialisation not in STARTS:
            save_injected(network, folder, base)
            return
        save_injected(as_lora(network), folder, base)
        save_start(network, folder)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the adapter of a PEFT folder."""
        made = load_injected(network, folder, LoraConfig)
        if self.initialisation in STARTS:
            made = from_lora(made, folder, self._config(network), self.initialisation)
        return marked(made, self)


def lora_of(network: PreTrainedModel) -> LoRA | None:
    """The LoRA that a network has, read from its layers; none where it has none."""
    config = next((c for c in configs(network) if type(c) is LoraConfig), None)
    return None if config is None else lora_from(config)


def lora_from(config: LoraConfig) -> LoRA:
    """The same of a PEFT configuration."""
    targets = config.target_modules
    return LoRA(
        rank=config.r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=targets if isinstance(targets, str) else sorted(targets or ()),
        rank_stabilised=config.use_rslora,
        weight_decomposed=config.use_dora,
        initialisation=KNOWN.get(config.init_lora_weights, "uniform"),
        whole=tuple(sorted(config.modules_to_save or ())),
    )
