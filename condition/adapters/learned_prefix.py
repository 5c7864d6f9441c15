"""The module behind soft prompts and prefixes: rows of numbers, perhaps through an encoder, as keys and values."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from condition.prefix_sharing.learned import KeysAndValues, record


@final
class LearnedPrefix(nn.Module):
    """What stands before every row: embeddings that the network reads, or keys and values themselves."""

    def __init__(self, rows: Tensor, heads: int | None = None, encoder: nn.Module | None = None) -> None:
        """rows `[length, width]`, or with `heads`, `[length, layers * 2 * heads * size]` as PEFT lays them out."""
        super().__init__()
        self.rows = nn.Parameter(rows.detach().float().clone())
        self.encoder = encoder
        self.heads = heads
        self.gates: nn.Parameter | None = None
        self.off = False

    @property
    def length(self) -> int:
        """Tokens."""
        return self.rows.shape[0]

    def served(self) -> Tensor:
        """What the rows are after the encoder."""
        return self.rows if self.encoder is None else self.encoder(self.rows)

    def keys_and_values(self, base: nn.Module, /) -> KeysAndValues:
        """`[layers, shared heads, length, size]` each."""
        rows = self.served()
        if self.heads is None:
            return record(base, rows.to(embeddings_of(base).weight.dtype))
        keys, values = unfolded(rows, self.heads, _layers(base))
        if self.gates is None:
            return keys, values
        share = torch.sigmoid(self.gates)[:, None, None, None]
        return keys * share, values * share

    def open_gates(self, layers: int) -> None:
        """Put a gate, half open, before the keys and values of each layer."""
        self.gates = nn.Parameter(torch.zeros(layers, device=self.rows.device))


def folded(keys: Tensor, values: Tensor) -> Tensor:
    """Keys and values `[layers, heads, length, size]` as PEFT's rows `[length, layers * 2 * heads * size]`."""
    pairs = torch.stack([keys, values], 1)  # [layers, 2, heads, length, size]
    return pairs.permute(3, 0, 1, 2, 4).reshape(keys.shape[2], -1)


def unfolded(rows: Tensor, heads: int, layers: int) -> KeysAndValues:
    """The reverse of `folded`."""
    pairs = rows.view(rows.shape[0], layers, 2, heads, -1).permute(1, 2, 3, 0, 4)
    return pairs[:, 0], pairs[:, 1]


def perceptron(inside: int, size: int, outside: int) -> nn.Module:
    """Two layers with a tanh between them."""
    return nn.Sequential(nn.Linear(inside, size), nn.Tanh(), nn.Linear(size, outside))


@final
class Recurrent(nn.Module):
    """A bidirectional LSTM and a perceptron."""

    def __init__(self, inside: int, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inside, size, num_layers=2, bidirectional=True, batch_first=True)
        self.head = perceptron(2 * size, 2 * size, inside)

    def forward(self, rows: Tensor) -> Tensor:
        """[length, width] -> [length, width]."""
        found: Tensor = self.head(self.lstm(rows[None])[0][0])
        return found


def embeddings_of(base: nn.Module) -> Any:
    """The table of words of a base model."""
    return base.get_input_embeddings()  # type: ignore[operator]  # nn.Module types its attributes so


def _layers(base: nn.Module) -> int:
    return int(base.config.get_text_config().num_hidden_layers)  # type: ignore[union-attr, operator]
