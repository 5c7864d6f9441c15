"""A side network that reads the base and never sends a gradient through it. Sung et al. 2022, arXiv 2206.06522.

    base    h1 ───► h2 ───► h3 ──────────────► + ──► head          h: hidden states of the frozen base
            │       │       │                  ▲
    side    ▼       ▼       ▼                  │
            s1 ───► s2 ───► s3 ──► up ─────────┘                   s: [tokens, width / reduction]

Each rung mixes what comes from below with what it hears, by a learned gate, and goes through a small network. Unlike
the paper's, rungs do not attend: tokens are mixed by the base alone, so serving needs no cache beside the base's. The
base keeps no activations, which is what costs memory in every other method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast, final

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, freeze, mark_of, marked, shared_copy
from condition.adapters.blocks import blocks, width
from condition.adapters.injected import configs
from condition.adapters.learned import load_tensors, save_tensors, tensors_under
from condition.errors import SettingsError
from condition.types import Options

PART = "learned_ladder"


class LadderSide(Options):
    """A ladder beside the base, a `reduction`-th as wide; only it is trained."""

    reduction: int = Field(default=8, ge=1)
    """The base's width over the ladder's."""
    expansion: int = Field(default=4, ge=1)
    """Inner width of a rung's network over its own."""
    kind: Literal["ladder_side"] = "ladder_side"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with a ladder; the one given is left as it is.

        Raises SettingsError where there are no blocks to listen to, the ladder would have no width, or the network has
        another adapter: its gradient would have to go through the base.
        """
        check_network(network, self)
        if mark_of(network) is not None or configs(network):
            raise SettingsError("LadderSide can't stand beside another adapter: merge that one first, model.merge()")
        inside = width(network)
        if inside // self.reduction < 1:
            raise SettingsError(f"LadderSide.reduction = {self.reduction} leaves nothing of a width of {inside}")
        twin = shared_copy(network)
        freeze(twin)
        rungs = blocks(twin, "LadderSide")
        ladder = _Ladder(inside, inside // self.reduction, self.expansion, len(rungs)).to(network.device)
        base = twin.base_model
        base.add_module(PART, ladder)
        for number, rung in enumerate(rungs):
            rung.register_forward_hook(_Ear(ladder, number))
        base.register_forward_hook(_add_ladder)
        return marked(twin, self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write the ladder's tensors."""
        save_tensors(tensors_under(network, PART), folder, self.kind)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the ladder of a folder."""
        twin = self.attach(network)
        load_tensors(tensors_under(twin, PART), folder)
        return twin


@final
class _Rung(nn.Module):
    """A gate between below and beside, and a small network around which numbers may pass."""

    def __init__(self, inside: int, side: int, expansion: int, *, first: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inside, side)
        self.gate = None if first else nn.Parameter(torch.zeros(()))  # below the first there is nothing to weigh
        self.norm = nn.LayerNorm(side)
        self.wide = nn.Linear(side, expansion * side)
        self.narrow = nn.Linear(expansion * side, side)

    def forward(self, below: Tensor | None, beside: Tensor) -> Tensor:
        """[..., side] and [..., width] -> [..., side]."""
        heard = self.down(beside.to(self.down.weight.dtype))
        mixed = heard
        if below is not None and self.gate is not None:
            share = torch.sigmoid(self.gate)
            mixed = share * below + (1 - share) * heard
        climbed: Tensor = mixed + self.narrow(nn.functional.gelu(self.wide(self.norm(mixed))))
        return climbed


@final
class _Ladder(nn.Module):
    """All rungs, what they have heard in this pass, and the way back up."""

    def __init__(self, inside: int, side: int, expansion: int, count: int) -> None:
        super().__init__()
        self.rungs = nn.ModuleList(_Rung(inside, side, expansion, first=number == 0) for number in range(count))
        self.norm = nn.LayerNorm(side)
        self.up = nn.Linear(side, inside)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.off = False
        self.heard: dict[int, Tensor] = {}

    def forward(self) -> Tensor:
        """What is added to the last hidden state, [..., width]."""
        heard, self.heard = self.heard, {}
        state: Tensor | None = None
        for number, rung in enumerate(self.rungs):
            state = rung(state, heard[number])
        added: Tensor = self.up(self.norm(state))
        return added


@final
class _Ear:
    """A hook behind a block that tells the ladder what was said."""

    def __init__(self, ladder: _Ladder, number: int) -> None:
        self.ladder, self.number = ladder, number

    def __call__(self, block: nn.Module, given: Any, output: Any) -> None:
        if not self.ladder.off:
            self.ladder.heard[self.number] = (output[0] if isinstance(output, tuple) else output).detach()


def _add_ladder(base: nn.Module, given: Any, output: Any) -> Any:
    ladder = cast(_Ladder, getattr(base, PART))
    if not ladder.off:
        output.last_hidden_state = output.last_hidden_state + ladder().to(output.last_hidden_state.dtype)
    return output
