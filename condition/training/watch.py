"""A measure of one's own that is asked of a model while it is trained, as it will be served.

    ask = asking(watch, model, prompt, network)      # network: the one in training, over the model's tensors
    ask()                                            # the measure now, higher for better

Training lays weights out for its own speed; what the measure reads is what serving will compute.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import final

import torch
from transformers import PreTrainedModel

from condition.adapters.fused import unfused
from condition.errors import ModelError, SettingsError
from condition.models.local import LocalModel
from condition.models.seeded import seeded
from condition.prefix_sharing.head import uncast
from condition.prefix_sharing.logprobs import output_head
from condition.protocols import Prompt

log = logging.getLogger("condition")
_MEANT = "give a function of the model that returns one, higher for better, such as cd.watcher(task)"
Watch = Callable[[LocalModel], float]
"""A measure of a model, higher for better, such as `condition.evaluation.watch.watcher` gives."""


def check_watch(watch: object) -> None:
    """Raises SettingsError for what is no function of a model."""
    if not callable(watch):
        raise SettingsError(f"watch={watch!r:.80} is no function: {_MEANT}")


def number_of(given: object, when: str) -> float:
    """What a measure gave, as a number. Raises SettingsError for anything else."""
    try:
        if not isinstance(given, str | bytes):
            return float(given)  # type: ignore[arg-type]  # also numpy's and torch's numbers
    except (TypeError, ValueError, RuntimeError):
        pass
    raise SettingsError(f"{when}: watch gave {given!r:.80}, which is no number: {_MEANT}")


def asking(
    watch: Watch | None, model: LocalModel, prompt: Prompt, network: PreTrainedModel
) -> Callable[[], float] | None:
    """What asks `watch` of a network in training, behind the prompt that it will be served with; none without one."""
    if watch is None:
        return None
    asked = LocalModel(
        network,
        model.tokenizer,
        source=model.source,
        quantization=model.quantization,
        prompt=prompt,
        memory_bytes=model.memory_bytes,
    )

    def ask() -> float:
        with unfused(network), uncast(output_head(network)):
            return watch(asked)

    return ask


@final
class Asked:
    """Asks a measure between the steps of a training, and refuses what is none."""

    def __init__(self, ask: Callable[[], float], seed: int) -> None:
        self._ask, self._seed = ask, seed

    def ahead(self) -> None:
        """Once before the first step: what can't be asked is seen before anything is lost. Raises as `at` does."""
        log.info("watch gives %.4g before the first step", self._answer("before the first step", "nothing is lost yet"))

    def at(self, step: int) -> float:
        """The measure behind a step. Raises ModelError where it is not finite, or where asking raises."""
        return self._answer(f"step {step}", "checkpoints written before are intact")

    def _answer(self, when: str, left: str) -> float:
        try:
            with seeded(self._seed), torch.no_grad():  # what it draws does not move the training
                given = self._ask()
        except Exception as error:
            raise ModelError(f"{when}: watch raised {type(error).__name__}: {error}; {left}") from error
        value = number_of(given, when)
        if not math.isfinite(value):
            raise ModelError(f"{when}: watch gave {value}, which is no measure: give a finite number; {left}")
        return value
