"""Several adapters on one network, trained and served together.

    Stack((LoRA(rank=8), PromptTuning(length=10)))

Of PEFT's layers (LoRA, AdaLoRA, IA3) one kind, one soft prompt or prefix, one bottleneck. To use one adapter or the
other, hold two models: each tuned model has its own adapters over the same base tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.adalora import AdaLoRA
from condition.adapters.attach import check_network, mark_of, marked, trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.parts import parts_of
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning, PTuning
from condition.types import Options

Part = Annotated[LoRA | AdaLoRA | IA3 | Bottleneck | PrefixTuning | PTuning | PromptTuning, Field(discriminator="kind")]
KINDS = (LoRA, AdaLoRA, IA3, Bottleneck, PrefixTuning, PTuning, PromptTuning)
PLACES = {
    **dict.fromkeys(("lora", "adalora", "ia3"), "PEFT's layers"),
    **dict.fromkeys(("prompt_tuning", "p_tuning", "prefix_tuning"), "a soft prompt or prefix"),
    "bottleneck": "a bottleneck",
}
"""Of each place one adapter; soft prompts come last, so that they are read through the others."""


class Stack(Options):
    """Adapters that are attached together."""

    parts: tuple[Part, ...]
    kind: Literal["stack"] = "stack"

    def __init__(self, parts: Any = (), *more: Any, **rest: Any) -> None:
        super().__init__(parts=parts_of("Stack", parts, more, KINDS), **rest)

    @model_validator(mode="after")
    def _parts_stack(self) -> Self:
        if len(self.parts) < 2:
            raise ValueError("a stack has two or more adapters")
        places = [PLACES[part.kind] for part in self.parts]
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            both = [part.kind for part in self.parts if PLACES[part.kind] == twice]
            raise ValueError(f"{' and '.join(both)} can't stack: a network has room for {twice} once")
        return self

    @property
    def ordered(self) -> list[Any]:
        """As they are attached."""
        order = list(dict.fromkeys(PLACES.values()))
        order.append(order.pop(1))
        return sorted(self.parts, key=lambda part: order.index(PLACES[part.kind]))

    def attach(self, network: PreTrainedModel, /, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
        """The network with all of them, all trainable; the one given is left as it is."""
        check_network(network, self)
        for part in self.ordered:
            before = _own(network)
            if isinstance(part, PromptTuning | PrefixTuning):
                network = part.attach(network, tokenizer)
            else:
                network = part.attach(network)
            _thaw(network, before)
        return marked(network, self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write each into a folder of its own."""
        for part in self.parts:
            inside = folder / part.kind
            inside.mkdir(exist_ok=True)
            part.save(network, inside, base)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with all adapters of a folder."""
        for part in self.ordered:
            before = _own(network)
            network = part.load(network, folder / part.kind)
            _thaw(network, before)
        return marked(network, self)

    def before_step(self, network: PreTrainedModel, step: int, total: int) -> None:
        """As its parts."""
        for part in self.parts:
            if isinstance(part, AdaLoRA):
                part.before_step(network, step, total)

    def after_step(self, network: PreTrainedModel, step: int, total: int) -> None:
        """As its parts."""
        for part in self.parts:
            if isinstance(part, AdaLoRA):
                part.after_step(network, step, total)


def _own(network: PreTrainedModel) -> set[int]:
    """What the adapters attached so far train; a base that was never frozen trains nothing yet."""
    return set() if mark_of(network) is None else {id(p) for p in trainable(network).values()}


def _thaw(network: PreTrainedModel, before: set[int]) -> None:
    """An adapter freezes all that it finds: let those before it learn again."""
    for parameter in network.parameters():
        if id(parameter) in before:
            parameter.requires_grad_(True)
