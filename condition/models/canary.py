"""A short text whose numbers a saved model must give again.

Two numbers a token or layer: the log-probability of each token, and how much each layer changes the hidden state. The
second is local: weights that are wrong in one layer show there even when the text's probabilities barely move.
How far each may drift follows from the precisions: rounding to bf16 or four bits is no alarm, other weights are.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.errors import ContractError, PromptError
from condition.models.render import Renderer
from condition.types import Message, Value

_PASSAGE = "The bridge at Orla was built of oak in 1784 and rebuilt in stone."
_MESSAGES = (
    Message("system", "Answer from the passage."),
    Message(
        "user", "The bridge at Orla was built of oak in 1784 and rebuilt in stone.\n\nWhen was the bridge first built?"
    ),
)
_ANSWER = "It was first built in 1784, of oak."

TOKEN_DRIFT = {"float32": 2e-3, "bfloat16": 0.25, "float16": 0.1, "int8": 0.3, "nf4": 0.8, "fp4": 1.2}
"""Mean absolute difference of a token's log-probability (nats) that a precision may cause."""
LAYER_DRIFT = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02, "int8": 0.10, "nf4": 0.30, "fp4": 0.40}
"""Relative difference of one layer's change that a precision may cause."""


class Canary(Value):
    """A rendered text with its expected numbers, and the precision that they were taken in."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of every token after the first, natural log."""
    layers: tuple[float, ...]
    """Mean size of each layer's change to the hidden state, relative to the state."""
    precision: str


def sing(network: PreTrainedModel, renderer: Renderer, precision: str) -> Canary:
    """The canary of a network as it is now."""
    ids = _ids(renderer)
    logprobs, layers = _numbers(network, ids)
    return Canary(ids=ids, logprobs=tuple(logprobs.tolist()), layers=tuple(layers.tolist()), precision=precision)


def listen(canary: Canary, network: PreTrainedModel, renderer: Renderer, precision: str) -> None:
    """Raises ContractError where the network does not give the canary's numbers, or renders another text."""
    if _ids(renderer) != canary.ids:
        raise ContractError(
            "the tokenizer or its chat template renders the canary differently than when the model was saved; "
            "use the saved one"
        )
    logprobs, layers = _numbers(network, canary.ids)
    token_drift = float((logprobs - torch.tensor(canary.logprobs)).abs().mean())
    layer_drift = (layers / torch.tensor(canary.layers) - 1).abs()
    allowed_token = max(TOKEN_DRIFT[canary.precision], TOKEN_DRIFT[precision])
    allowed_layer = max(LAYER_DRIFT[canary.precision], LAYER_DRIFT[precision])
    if token_drift > allowed_token or not bool((layer_drift <= allowed_layer).all()):
        worst = int(layer_drift.argmax())
        raise ContractError(
            f"the canary does not reproduce: its log-probabilities drift by {token_drift:.3g} nats a token (allowed "
            f"{allowed_token:g} from {canary.precision} to {precision}), layer {worst} by "
            f"{float(layer_drift[worst]):.1%} (allowed {allowed_layer:.1%}). "
            f"The weights are not those that were saved; check base and adapter"
        )


def _ids(renderer: Renderer) -> tuple[int, ...]:
    """The canary's tokens, rendered now; some chat templates refuse a system message."""
    try:
        return renderer.render(_MESSAGES, _ANSWER).ids
    except PromptError:
        return renderer.render(_MESSAGES[1:], _ANSWER).ids


@torch.inference_mode()
def _numbers(network: PreTrainedModel, ids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[tokens - 1]` and relative layer changes `[layers]`, fp32 on the CPU."""
    row = torch.tensor([ids], device=network.device)
    output = network(input_ids=row, use_cache=False, output_hidden_states=True)
    values = output.logits[0, :-1].float().log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
    states = [state[0, 1:].float() for state in output.hidden_states]  # the first token's state is an outlier
    changes = [((b - a).norm(dim=-1) / (a.norm(dim=-1) + 1e-9)).mean() for a, b in pairwise(states)]
    return values.cpu(), torch.stack(changes).cpu()
