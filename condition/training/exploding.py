"""A training that has exploded and gives finite numbers: norms and softmax keep those of absurd weights in bounds.

Two signs, of which neither is seen in a training that learns:

weights     One is larger than 65504, the largest number of fp16: the network could not be served in it, and in fp32 a
            step of the usual size is rounded away there. Looked at before anything is logged, measured or written.
surprise    In most of ten steps what is to become likely was absurdly unlikely, and a step was twice as good. A token
            is absurd from 0.9 ln(vocabulary) nats on: a network that knows nothing, and says the same of all tokens,
            gives ln(vocabulary). A pair is absurd at odds of e^100 for the worse one.

What begins high, as soft prompts and networks rounded to two bits may, is no explosion: it was never twice as good. Nor
are rows of noise, which are few steps of ten, nor what is to become less likely: of pairs and thumbs only the better
and the good ones count, and rows of weight 0 do not.

SmolLM2-135M begins with 0.3 ln(vocabulary) a token. LoRA at rates of 1 and 100 ends at 0.96 and more. Prompts and
prefixes at 0.3, P-tuning at 0.05 and IA3 at 0.5, all of which learn, see 0.76 at most, and below 0.6 behind ten steps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import get_total_norm
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import ExportableState

from condition.errors import ModelError
from condition.training.processes import summed
from condition.training.sharded import whole

LARGEST = 65504.0
"""Of fp16."""
STEPS = 10
TOKEN = 0.9
"""Times ln(vocabulary), nats."""
PAIR = 100.0
"""Nats."""
_WHAT_TO_DO = "Lower Settings.learning_rate; checkpoints written before are intact"


class Surprise(NamedTuple):
    """What a batch says of whether a training has exploded."""

    nats: Tensor
    """`[items]`, of what is to become likely."""
    absurd: float
    """From here on an item is what a network that knows nothing would give it, or worse."""


def of_tokens(network: PreTrainedModel, logprobs: Tensor) -> Surprise:
    """Of log-probabilities of tokens, or means of them, that are to become likely: `[items]`."""
    return Surprise(-logprobs.detach(), TOKEN * math.log(network.config.get_text_config().vocab_size))


def of_pairs(better: Tensor, worse: Tensor) -> Surprise:
    """Of rewards of pairs: `[pairs]` each."""
    return Surprise(softplus(worse - better).detach(), PAIR)


@final
class Exploding(TrainerCallback, ExportableState):
    """Raises ModelError at either sign. What it has seen is in each checkpoint, so that a resumed run sees the same."""

    def __init__(self, recent: Sequence[float] = (), lowest: float | None = None) -> None:
        self.recent, self.lowest = list(recent), lowest
        self.trained: list[tuple[str, nn.Parameter]] = []

    def state(self) -> dict[str, Any]:
        """As transformers writes it into checkpoints."""
        return {"args": {"recent": self.recent, "lowest": self.lowest}, "attributes": {}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = state.stateful_callbacks.setdefault(type(self).__name__, self.state())  # none in older checkpoints
        self.recent, self.lowest = list(kept["args"]["recent"]), kept["args"]["lowest"]

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._look_at_surprise(model, state.global_step, args.device)
        if control.should_log or control.should_evaluate or control.should_save:
            self._look_at_weights(model, state.global_step)

    def _look_at_surprise(self, objective: Any, step: int, device: torch.device) -> None:
        total, count = objective.surprise.take(training=True).get("share", (0.0, 0))
        total, count = summed(torch.tensor([total, float(count)], device=device)).tolist()
        if not count:
            return
        share = total / count
        self.recent = [*self.recent, share][-STEPS:]
        self.lowest = share if self.lowest is None else min(share, self.lowest)
        if len(self.recent) == STEPS and statistics.median(self.recent) > max(1.0, 2 * self.lowest):
            raise ModelError(
                f"step {step}: the training has exploded: in most of {STEPS} steps the network was no better than one "
                f"that knows nothing, and it had been. {_WHAT_TO_DO}"
            )

    def _look_at_weights(self, objective: Any, step: int) -> None:
        self.trained = self.trained or [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
        with torch.no_grad():
            if _largest([parameter for _, parameter in self.trained]) <= LARGEST:
                return
            name, largest = next((n, of) for n, p in self.trained if not (of := _largest([p])) <= LARGEST)
        raise ModelError(
            f"step {step}: the training has exploded: a weight of {name} has become {largest:.3g}. {_WHAT_TO_DO}"
        )


def _largest(parameters: Sequence[nn.Parameter]) -> float:
    return float(whole(get_total_norm([p.detach() for p in parameters], norm_type=math.inf)))
