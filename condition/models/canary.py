"""A short text whose numbers a saved model must give again.

Three kinds of numbers: the log-probability of each token; the gain of each layer (linear layer, norm, embedding), which
is how much longer its output is than its input; and the strength of each linear layer, which is its gain of vectors
that are always the same. Gains are local: a layer whose weights are wrong shows there even where the text's
probabilities barely move, and rounding, also to four bits, hardly changes them; strengths hold in two bits too
(`strengths.py`). An adapter's factors are never rounded: for them it is the norm of the weights.

    saved   gain |W x| / |x|  = 1.31          loaded in NF4 = 1.29: rounding      loaded with 3 W = 3.93: other weights
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.adapters.attach import LEARNED
from condition.errors import ContractError, PromptError
from condition.models.render import Renderer
from condition.models.strengths import STRENGTH_DRIFT, strengths
from condition.types import Message, Value

_MESSAGES = (
    Message("system", "Answer from the passage."),
    Message(
        "user", "The bridge at Orla was built of oak in 1784 and rebuilt in stone.\n\nWhen was the bridge first built?"
    ),
)
_ANSWER = "It was first built in 1784, of oak."

# Measured on SmolLM2-135M-Instruct with LoRAs of rank 1 and 16, fp32 against: bf16 0.056 nats and 0.007, fp16 0.006 and
# 0.001, int8 0.19 and 0.024, NF4 0.50 and 0.113, FP4 0.73 and 0.089 (NF4 against FP4 0.92 and 0.137). A three-fold MLP
# layer, attention projection or norm: 1.03 to 1.17 in fp32, bf16, int8, NF4 and FP4. Without a LoRA, torchao's: 8 bits
# 0.031 and 0.003, 4 bits 0.71 and 0.080, 3 bits 1.76 and 0.369, 2 bits 12.5 and 0.891, int8-dynamic 0.20 and 0.023.
TOKEN_DRIFT = {"float32": 2e-3, "bfloat16": 0.2, "float16": 0.03, "int8": 0.6, "nf4": 1.2, "fp4": 1.8}
TOKEN_DRIFT |= {"int8-dynamic": 0.6, "intx8": 0.1, "intx4": 1.8, "intx3": 4.0, "intx2": 25.0}
"""Mean absolute difference of a token's log-probability (nats) that a precision may cause."""
GAIN_DRIFT = {"float32": 5e-3, "bfloat16": 0.03, "float16": 0.01, "int8": 0.1, "nf4": 0.35, "fp4": 0.35}
GAIN_DRIFT |= {"int8-dynamic": 0.1, "intx8": 0.02, "intx4": 0.35, "intx3": 0.8, "intx2": 1.05}
"""Natural log of the ratio of a layer's gains that a precision may cause; three-fold weights give log 3 = 1.1."""

_WHAT_TO_DO = "The weights are not those that were saved; check base and adapter"

FACTORS = ("lora_", "ia3_", LEARNED)
"""What the names of adapters' parts begin with: they are measured by the norms of their weights."""


class Canary(Value):
    """A rendered text with its expected numbers, and the precision that they were taken in."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of every token after the first, natural log."""
    gains: Mapping[str, float]
    """Of each layer, by name: mean ratio of the lengths of its output and input vectors; an adapter's norms."""
    precision: str
    strengths: Mapping[str, float] = {}
    """Of each linear layer of the base, by name; none in folders of before there were any."""


def sing(network: PreTrainedModel, renderer: Renderer, precision: str) -> Canary:
    """The canary of a network as it is now."""
    ids = _ids(renderer)
    logprobs, gains = numbers(network, ids)
    strong = strengths(network, FACTORS)
    return Canary(ids=ids, logprobs=tuple(logprobs.tolist()), gains=gains, precision=precision, strengths=strong)


def listen(canary: Canary, network: PreTrainedModel, renderer: Renderer, precision: str) -> None:
    """Raises ContractError where the network does not give the canary's numbers, or renders another text."""
    if _ids(renderer) != canary.ids:
        raise ContractError(
            "the tokenizer or its chat template renders the canary differently than when the model was saved; "
            "use the saved one"
        )
    compare_strengths(canary, strengths(network, FACTORS), precision)
    compare(canary, *numbers(network, canary.ids), precision)


def compare_strengths(canary: Canary, found: Mapping[str, float], precision: str) -> None:
    """Raises ContractError where `strengths` of a network in a precision are not the canary's."""
    layer, drift = worst_gain(canary.strengths, found)
    allowed = _allowed(STRENGTH_DRIFT, canary.precision, precision)
    if not drift <= allowed:
        raise ContractError(
            f"the canary does not reproduce: from {canary.precision} to {precision} {layer} makes the same vectors "
            f"{_times(drift)} as long, or as short, as it did (allowed {_times(allowed)}). {_WHAT_TO_DO}"
        )


def compare(canary: Canary, logprobs: Tensor, gains: Mapping[str, float], precision: str) -> None:
    """Raises ContractError where `numbers` of a network in a precision are not the canary's."""
    token_drift = float((logprobs - torch.tensor(canary.logprobs)).abs().mean())
    layer, gain_drift = worst_gain(canary.gains, gains)
    allowed_token, allowed_gain = (_allowed(table, canary.precision, precision) for table in (TOKEN_DRIFT, GAIN_DRIFT))
    if not (token_drift <= allowed_token and gain_drift <= allowed_gain):  # so that NaN is an alarm too
        raise ContractError(
            f"the canary does not reproduce: from {canary.precision} to {precision} its log-probabilities drift by "
            f"{token_drift:.3g} nats a token (allowed {allowed_token:.3g}), and {layer} makes its input "
            f"{_times(gain_drift)} as long, or as short, as it did (allowed {_times(allowed_gain)}). {_WHAT_TO_DO}"
        )


def worst_gain(expected: Mapping[str, float], found: Mapping[str, float]) -> tuple[str, float]:
    """The layer whose gain differs most, and the natural log of the ratio. Layers of other names differ infinitely."""
    if missing := sorted(expected.keys() - found.keys()):
        return missing[0], math.inf
    drifts = {name: _log_ratio(expected[name], found[name]) for name in expected}
    worst = max(drifts, key=drifts.__getitem__, default="no layer")
    return worst, drifts.get(worst, 0.0)


def _log_ratio(one: float, other: float) -> float:
    if one == other:
        return 0.0  # zero to zero: the B of a LoRA that was never trained
    return abs(math.log(other / one)) if one > 0 and other > 0 else math.inf


def _allowed(table: Mapping[str, float], saved: str, loaded: str) -> float:
    """Two roundings are errors of their own: their squares add up. Unknown precisions count as the coarsest."""
    coarsest = max(table.values())
    return math.hypot(table.get(saved, coarsest), table.get(loaded, coarsest))


def _times(log_ratio: float) -> str:
    return f"{math.exp(min(log_ratio, 99.0)):.4g} times"


def _ids(renderer: Renderer) -> tuple[int, ...]:
    """The canary's tokens, rendered now; some chat templates refuse a system message."""
    try:
        return renderer.render(_MESSAGES, _ANSWER).ids
    except PromptError:
        return renderer.render(_MESSAGES[1:], _ANSWER).ids


@torch.inference_mode()
def numbers(network: PreTrainedModel, ids: tuple[int, ...]) -> tuple[Tensor, dict[str, float]]:
    """Log-probabilities `[tokens - 1]` in fp32 on the CPU, and the gain of each layer."""
    row = torch.tensor([ids], device=network.device)
    with _measured(network) as gains:
        logits = network(input_ids=row, use_cache=False).logits
    values = logits[0, :-1].float().log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
    return values.cpu(), gains


@contextmanager
def _measured(network: nn.Module) -> Iterator[dict[str, float]]:
    """Gains of all modules that hold weights of their own, filled in by the next forward pass."""
    owners = {name: m for name, m in network.named_modules() if next(m.parameters(recurse=False), None) is not None}
    factors = {name for name in owners if any(part.startswith(FACTORS) for part in name.split("."))}
    gains = {name: _norm(owners[name]) for name in sorted(factors)}
    hooks = [m.register_forward_hook(_meter(name, gains)) for name, m in owners.items() if name not in factors]
    try:
        yield gains
    finally:
        for hook in hooks:
            hook.remove()


def _meter(name: str, gains: dict[str, float]) -> Callable[[nn.Module, Any, Any], None]:
    def measure(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
            gains[name] = _gain(inputs[0], output, is_linear=_is_linear(module))

    return measure


def _norm(module: nn.Module) -> float:
    return math.hypot(*(float(p.float().norm()) for p in module.parameters(recurse=False)))


def _is_linear(module: nn.Module) -> bool:
    """True for a product with a matrix, of torch, bitsandbytes or GPT-2, whose output grows with its input."""
    return not isinstance(module, nn.Embedding) and any(p.ndim == 2 for p in module.parameters(recurse=False))


def _gain(given: Tensor, output: Tensor, *, is_linear: bool) -> float:
    """Mean length of a token's output; for a product, relative to its input's."""
    lengths = output.flatten(0, -2).float().norm(dim=-1)
    if is_linear:
        lengths = lengths / given.flatten(0, -2).float().norm(dim=-1).clamp_min(1e-12)
    # the first token's state is an outlier in many networks
    return float(lengths[1:].mean()) if len(lengths) > 1 else float(lengths.mean())
