"""What each way of storing weights costs and gives: size, perplexity and speed, measured on this machine.

print(quantization_report())                       # the embedded model
report = quantization_report("org/model", [Quantization(bits=4, kind="intx"), Quantization()], texts=texts)
report.rows[0].perplexity
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from condition.adapters.quantized import is_torchao, parts, scales
from condition.adapters.registry import adapter_of
from condition.data.shipped import sample
from condition.errors import DataError, ModelError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization, group_of
from condition.types import Message, Sampling, Value

ALL = (
    Quantization(bits=8),
    Quantization(bits=4),
    Quantization(bits=4, kind="fp4"),
    *(Quantization(bits=bits, kind="intx") for bits in (8, 4, 3, 2)),
    Quantization(bits=8, kind="int8-dynamic"),
)
NEW_TOKENS = 32


class QuantizationRow(Value):
    """One way of storing the weights."""

    name: str
    """The quantization's, and `double=False` where its scales are not quantized too."""
    megabytes: float
    """Of all weights and scales, as they lie in memory here: torchao's intx takes a byte a weight, whatever its bits,
    and bitsandbytes' nf4 and fp4 keep tables of a kilobyte for each layer."""
    bits: float
    """A weight of the quantized layers, with its share of the scales, as it could be packed."""
    perplexity: float
    """Of the texts, a token: less is better."""
    tokens_per_second: float
    """Written, one prompt at a time."""


class QuantizationReport(Value):
    """Rows in the order asked for; the unquantized network comes first."""

    model: str
    rows: tuple[QuantizationRow, ...]

    def __str__(self) -> str:
        head = f"{'':18}{'MB':>9}{'bits':>7}{'perplexity':>12}{'tokens/s':>10}"
        lines = [
            f"{row.name:18}{row.megabytes:9.0f}{row.bits:7.2f}{row.perplexity:12.2f}{row.tokens_per_second:10.1f}"
            for row in self.rows
        ]
        return "\n".join([self.model, head, *lines])


def quantization_report(
    model: LocalModel | str | Path | None = None,
    quantizations: Sequence[Quantization] = ALL,
    *,
    texts: Sequence[str] | None = None,
) -> QuantizationReport:
    """Load a base again in each of several quantizations, and measure. One is in memory at a time.

    `texts` are for the perplexity; passages that the library ships where none are given.
    A tuned model is measured by its folder, adapter and all. Raises ModelError for a model that can't be loaded by its
    name, DataError for texts that are none or too short.
    """
    name = _name_of(model)
    if not isinstance(quantizations, Sequence):
        raise SettingsError("quantization_report takes several settings: quantization_report(model, [Quantization()])")
    if isinstance(texts, str) or any(not isinstance(text, str) for text in texts or ()):
        raise DataError("quantization_report takes texts in a list: texts=['The first text.', ...]")
    passages = list(dict.fromkeys(row["context"] for row in sample("validation")))[:8] if texts is None else list(texts)
    if not any(text.strip() for text in passages):
        raise DataError("quantization_report needs texts with words: leave texts out for passages that are shipped")
    rows = [_measured(load(name), passages)]
    rows += [_measured(load(name, quantization=quantization), passages) for quantization in quantizations]
    return QuantizationReport(model=str(name or "embedded"), rows=tuple(rows))


def _name_of(model: LocalModel | str | Path | None) -> str | Path | None:
    if not isinstance(model, LocalModel):
        return model
    if adapter_of(model.network) is not None:  # its source is the base, which would be measured in its place
        raise ModelError(
            f"{model.name!r} is tuned, and is loaded anew for each row: save it, and give its folder: "
            f"tuned.save_pretrained(folder); quantization_report(folder)"
        )
    if model.source.kind == "memory":
        raise ModelError(f"{model.name!r} was made in memory and can't be loaded again: save it, and give its folder")
    return None if model.source.kind == "embedded" else model.source.name


def _measured(model: LocalModel, texts: Sequence[str]) -> QuantizationRow:
    quantization = model.quantization
    model.generate("Tell me of the sea.", Sampling(max_tokens=1))  # looks at the network and lays weights out, once
    began = time.perf_counter()
    [[written]] = model.generate("Tell me of the sea.", Sampling(max_tokens=NEW_TOKENS))
    seconds = time.perf_counter() - began
    return QuantizationRow(
        name=_told(quantization) if quantization else str(model.network.dtype).removeprefix("torch."),
        megabytes=_bytes(model.network) / 1e6,
        bits=_bits(quantization, model.network) if quantization else model.network.dtype.itemsize * 8.0,
        perplexity=_perplexity(model, texts),
        tokens_per_second=len(written.token_ids) / seconds,
    )


def _perplexity(model: LocalModel, texts: Sequence[str]) -> float:
    """Of the tokens of texts but the first of each."""
    total, tokens = 0.0, 0
    for text in texts:
        ids = model.render((Message("text", text),)).ids
        if len(ids) < 2:
            continue
        ids = ids[: model.context]
        row = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            logits = model.network(input_ids=row, use_cache=False).logits[0, :-1].float()
        total += float(nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))
        tokens += len(ids) - 1
    if not tokens:
        raise DataError("quantization_report needs texts of two tokens or more: the first of each has none before it")
    return math.exp(min(total / tokens, 99.0))


def _told(quantization: Quantization) -> str:
    return quantization.name if quantization.double else f"{quantization.name} double=False"


def _bits(quantization: Quantization, network: nn.Module) -> float:
    """Bits a weight, with its share of the scales."""
    if quantization.kind == "intx":  # a scale in fp32 for each group, or for each row of a layer without groups
        layers = [m for m in network.modules() if isinstance(m, nn.Linear) and is_torchao(m.weight)]
        count = sum(m.weight.numel() // (group_of(m) or m.in_features) for m in layers)
        return quantization.bits + 32 * count / max(1, sum(m.weight.numel() for m in layers))
    if quantization.bits == 8:  # one for each row of a layer
        stored = [p for p in network.parameters() if type(p).__name__ == "Int8Params" or is_torchao(p)]
        return 8 + 32 * sum(p.shape[0] for p in stored) / max(1, sum(p.numel() for p in stored))
    return 4 + (8 / 64 + 32 / (64 * 256) if quantization.double else 32 / 64)


def _bytes(network: nn.Module) -> int:
    """Of all that a network holds, each tensor once, by whatever name it is reached."""
    held = {(t.device, t.data_ptr(), t.numel()): t.numel() * t.element_size() for t in _held(network)}
    return sum(held.values())


def _held(network: nn.Module) -> Iterator[Tensor]:
    for tensor in (*network.parameters(), *network.buffers()):
        yield from parts(tensor)
        yield from scales(tensor)
    for module in network.modules():
        yield from scales(module)
