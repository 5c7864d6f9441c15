"""A tuned model without its adapter: the change added to the weights.

    plain = tuned.merge()                       # on a base in full precision
    drift = tuned.export("folder")              # on a quantized base: dequantized first, and held against what it was

On a quantized base the adapter was trained beside rounded weights. So those are what it is merged into, in fp32, not
the weights before rounding, which say something else.
"""

from __future__ import annotations

import tempfile
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel

from condition.adapters.merge import dequantized, merged, without_adapter
from condition.adapters.registry import adapter_of, load_adapter, save_adapter, told_of
from condition.errors import ModelError, SettingsError
from condition.models.contract import Source
from condition.types import Message, Value

if TYPE_CHECKING:
    from condition.models.local import LocalModel

READ = (
    Message("system", "Answer in one sentence."),
    Message("user", "The mill at Arrow Ford was built in 1802 and ground its last corn in 1957. When was it built?"),
    Message("assistant", "It was built in 1802, and it worked for 155 years."),
)
"""What both networks read to be compared."""


class Drift(Value):
    """How far the log-probabilities of one text have moved, in nats a token."""

    mean: float
    largest: float
    tokens: int

    def __str__(self) -> str:
        return f"{self.mean:.2g} nats a token, at most {self.largest:.2g}, over {self.tokens} tokens"


def merge(model: LocalModel) -> LocalModel:
    """A model of the base's kind with the adapter added to its weights; it keeps prompt and history.

    Raises SettingsError where there is no adapter, where it can't be merged, and for a quantized base.
    """
    return _plain(model, merged(model.network))


def export(model: LocalModel, folder: Path, tolerance: float) -> Drift:
    """Write the merged model, in fp32 where the base is quantized.

    Raises ModelError, and writes nothing, where the mean drift is above `tolerance` nats a token; SettingsError where
    that is no number.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not tolerance >= 0:
        raise SettingsError(f"tolerance={tolerance!r:.80}: give nats a token, a number of 0 or more such as 0.01")
    network = model.network if model.quantization is None else _on_dequantized(model.network)
    plain = _plain(model, merged(network))
    drift = _drift(model, plain)
    if not drift.mean <= tolerance:
        raise ModelError(
            f"merged, the model says something else: {drift}, and {tolerance:g} is allowed. Keep the adapter beside "
            f"its base (save_pretrained), or allow more with export(folder, tolerance=...)"
        )
    plain.save_pretrained(folder)
    return drift


def _on_dequantized(network: PreTrainedModel) -> PreTrainedModel:
    """The same adapter on a base of plain layers."""
    adapter = adapter_of(network)
    base = dequantized(without_adapter(network))
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(network, Path(folder), "")
        told = None if adapter is None else told_of(adapter)
        return load_adapter(base, Path(folder), told)


def _plain(model: LocalModel, network: PreTrainedModel) -> LocalModel:
    contract = model.contract
    kind = getattr(adapter_of(model.network), "kind", "adapter")
    return type(model)(
        network,
        model.tokenizer,
        source=Source(kind="memory", name=f"{model.source.name} with {kind} merged"),
        prompt=model.prompt,
        contract=None if contract is None else contract.model_copy(update={"adapter": None, "quantization": None}),
        history=model.history,
        memory_bytes=model.memory_bytes,
    )


def _drift(model: LocalModel, plain: LocalModel) -> Drift:
    ids = torch.tensor([model.render(READ).ids], device=model.device)
    apart = (_logprobs(model.network, ids) - _logprobs(plain.network, ids)).abs()
    return Drift(mean=float(apart.mean()), largest=float(apart.max()), tokens=apart.numel())


@torch.no_grad()
def _logprobs(network: PreTrainedModel, ids: Tensor) -> Tensor:
    """Of each token behind the first, `[tokens - 1]`."""
    found = network(ids).logits[0, :-1].double().log_softmax(-1)
    chosen: Tensor = found.gather(1, ids[0, 1:, None])[:, 0]
    return chosen
