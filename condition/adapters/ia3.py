"""IA3: keys, values and the feed-forward's inner numbers, each stretched by a learned vector.

Liu et al. 2022, arXiv 2205.05638. The layers are PEFT's. A few thousand numbers; it wants a high learning rate (1e-2).

    SFTTrainer(IA3(), Settings(learning_rate=1e-2)).fit(base, rows, prompt=prompt)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from peft import IA3Config
from peft.utils import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from pydantic import model_validator
from transformers import PreTrainedModel

from condition.adapters.attach import check_network, marked
from condition.adapters.injected import (
    check_names,
    injected,
    keeps_weights_transposed,
    load_injected,
    not_ours,
    save_injected,
)
from condition.errors import SettingsError
from condition.types import Options, Texts


class IA3(Options):
    """Learned vectors on outputs of attention layers and on inputs of feed-forward layers, one at the start."""

    targets: Texts | None = None
    """Names of layers, all of them; those of the paper where it is not given and the family is known."""
    feed_forward: Texts | None = None
    """Those among them whose input is stretched, not their output."""
    kind: Literal["ia3"] = "ia3"

    @model_validator(mode="after")
    def _feed_forward_is_among_targets(self) -> Self:
        if self.targets is None and self.feed_forward is not None:
            raise ValueError("feed_forward names some of targets: give both")
        if other := set(self.feed_forward or ()) - set(self.targets or ()):
            raise ValueError(f"feed_forward names {sorted(other)}, which stand not among targets")
        return self

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network with IA3 layers; the one given is left as it is.

        Raises SettingsError where no layer has a targeted name, or the family is unknown and none are given.
        """
        check_network(network, self)
        family = network.config.model_type
        targets, inner = list(self.targets or ()), list(self.feed_forward or ())
        if self.targets is None:
            if family not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
                raise SettingsError(
                    f"IA3 does not know which layers of {type(network).__name__} hold keys, values and the "
                    f"feed-forward: name them, IA3(targets=['k_proj', 'v_proj', 'down_proj'], "
                    f"feed_forward=['down_proj'])"
                )
            targets = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[family]
            inner = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[family]
        else:
            check_names(network, targets, "IA3.targets")
        config = IA3Config(
            target_modules=targets,
            feedforward_modules=inner,
            exclude_modules=not_ours(network),
            fan_in_fan_out=keeps_weights_transposed(network),
            task_type="CAUSAL_LM",
        )
        return marked(injected(network, config, "IA3"), self)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder."""
        save_injected(network, folder, base)

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the adapter of a PEFT folder."""
        return marked(load_injected(network, folder, IA3Config), self)


def ia3_from(config: IA3Config) -> IA3:
    """The adapter of a PEFT configuration."""
    return IA3(
        targets=tuple(sorted(config.target_modules or ())), feed_forward=tuple(sorted(config.feedforward_modules or ()))
    )
