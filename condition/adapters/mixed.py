"""Several ways at once, each behind a gate that learns how far to open. UniPELT, Mao et al. 2021, arXiv 2110.07577.

    Mixed()                                                   LoRA, a bottleneck and a prefix
    Mixed((LoRA(rank=8, targets=["q_proj"]), Bottleneck()))   those two

Gates of LoRA and bottleneck read the token that they change, so they differ token by token and never look ahead; the
prefix has one gate a layer, because its keys and values are the same for every token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, final

import torch
from pydantic import Field, model_validator
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.attach import check_network, freeze, is_learned, marked, shared_copy
from condition.adapters.blocks import blocks, is_product, sizes
from condition.adapters.bottleneck import PART as NARROW
from condition.adapters.bottleneck import Bottleneck, put_bottlenecks
from condition.adapters.injected import ALL, check_names, configs
from condition.adapters.learned import FILE, load_tensors, save_tensors, tensors_under
from condition.adapters.lora import LoRA
from condition.adapters.parts import parts_of
from condition.adapters.soft_prompts import PrefixTuning, prefix_module
from condition.errors import SettingsError
from condition.prefix_sharing.learned import NAME as PREFIX
from condition.types import Options

Part = Annotated[LoRA | Bottleneck | PrefixTuning, Field(discriminator="kind")]
KINDS = (LoRA, PrefixTuning, Bottleneck)
PART = "learned_gated"


class Mixed(Options):
    """A gated combination of at most one LoRA, one Bottleneck and one PrefixTuning."""

    parts: tuple[Part, ...] = (LoRA(rank=8), Bottleneck(placement="pfeiffer"), PrefixTuning())
    kind: Literal["mixed"] = "mixed"

    def __init__(self, parts: Any = None, *more: Any, **rest: Any) -> None:
        if parts is not None or more:
            rest["parts"] = parts_of("Mixed", parts, more, KINDS)
        super().__init__(**rest)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        kinds = [part.kind for part in self.parts]
        if len(kinds) < 2 or len(set(kinds)) < len(kinds):
            raise ValueError("Mixed takes two or three different parts of LoRA, Bottleneck and PrefixTuning")
        for part in self.parts:
            if isinstance(part, LoRA) and (part.weight_decomposed or part.whole or part.initialisation != "uniform"):
                raise ValueError("a gated LoRA is a plain one: no weight_decomposed, whole modules or initialisation")
            if isinstance(part, PrefixTuning) and part.size is not None:
                raise ValueError("a gated prefix has no perceptron: leave size out")
        return self

    def attach(self, network: PreTrainedModel, /, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
        """The network with all parts and their gates; the one given is left as it is.

        Raises SettingsError where a part does not fit, or the network has another adapter.
        """
        check_network(network, self)
        if configs(network) or any(is_learned(name) for name, _ in network.named_modules()):
            raise SettingsError("Mixed can't lie over another adapter: merge that one first, or fit the base")
        prefix = next((part for part in self.parts if isinstance(part, PrefixTuning)), None)
        twin = shared_copy(network) if prefix is None else prefix.attach(network, tokenizer)
        if prefix is None:
            freeze(twin)
        else:
            prefix_module(twin).open_gates(len(blocks(twin, "Mixed")))
        for part in self.parts:
            if isinstance(part, LoRA):
                _put_low_rank(twin, part)
            elif isinstance(part, Bottleneck):
                put_bottlenecks(twin, part, gated=True)
        return marked(twin, self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write the tensors of all parts."""
        save_tensors(_tensors(network), folder, self.kind)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the parts of a folder."""
        lengths = [
            part.model_copy(update={"length": _saved_length(folder), "text": None})
            if isinstance(part, PrefixTuning)
            else part
            for part in self.parts
        ]
        twin = Mixed(lengths).attach(network)
        load_tensors(_tensors(twin), folder)
        return marked(twin, self)


def _tensors(network: PreTrainedModel) -> dict[str, Tensor]:
    return {name: t for part in (PART, NARROW, PREFIX) for name, t in tensors_under(network, part).items()}


def _saved_length(folder: Path) -> int:
    with safe_open(folder / FILE, "pt") as content:
        name = next(n for n in content.keys() if n.endswith(f"{PREFIX}.rows"))  # noqa: SIM118 - not a mapping
        return int(content.get_slice(name).get_shape()[0])


def _put_low_rank(network: PreTrainedModel, options: LoRA) -> None:
    head = network.get_output_embeddings()
    wanted = [options.targets] if isinstance(options.targets, str) else options.targets
    check_names(network, [name for name in wanted if name != ALL], "Mixed: LoRA.targets")
    hosts = [
        module
        for name, module in network.named_modules()
        if is_product(module)
        and module is not head
        and not is_learned(name)
        and (ALL in wanted or any(name == w or name.endswith(f".{w}") for w in wanted))
    ]
    if not hosts:
        raise SettingsError(f"Mixed: LoRA fits no layer of {type(network).__name__} by targets={options.targets!r}")
    for host in hosts:
        host.add_module(PART, _GatedLowRank(host, options).to(network.device))
        host.register_forward_hook(_add)


@final
class _GatedLowRank(nn.Module):
    """`sigmoid(g x) s B A x`, beside a linear layer of any kind."""

    def __init__(self, host: nn.Module, options: LoRA) -> None:
        super().__init__()
        inside, outside = sizes(host)
        self.down = nn.Linear(inside, options.rank, bias=False)
        self.up = nn.Linear(options.rank, outside, bias=False)
        self.gate = nn.Linear(inside, 1)
        self.dropout = nn.Dropout(options.dropout)
        self.scale = options.alpha / (options.rank**0.5 if options.rank_stabilised else options.rank)
        self.off = False
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        wide = x.to(self.down.weight.dtype)
        return cast(Tensor, torch.sigmoid(self.gate(wide)) * self.scale * self.up(self.down(self.dropout(wide))))


def _add(host: nn.Module, given: Any, output: Tensor) -> Tensor:
    low_rank = cast(_GatedLowRank, getattr(host, PART))
    return output if low_rank.off else output + low_rank(given[0]).to(output.dtype)
