"""How much is written at once: what rows take of the memory, against what `LocalModel.memory_bytes` allows.

Half of that is for prompts and samples, the other for the weights in a second layout, which a CPU multiplies by faster.
"""

from __future__ import annotations

from typing import Any, final

from transformers import PreTrainedModel

from condition.errors import SettingsError

MEMORY_BYTES = 2 << 30
"""What writing may take beside the weights, where nobody says otherwise."""
DRAWING_BYTES = 32
"""For each token of the vocabulary, of a row that is drawn: logits, what a control lets through, and their sums."""


@final
class Room:
    """What a network takes of some memory, by its configuration. Raises SettingsError for what is no size."""

    def __init__(self, network: PreTrainedModel, memory_bytes: int) -> None:
        self.network, self.bytes = network, checked_bytes(memory_bytes) // 2
        """For prompts and samples."""
        config: Any = network.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 1
        shared = getattr(config, "num_key_value_heads", None) or heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.token_bytes = int(2 * config.num_hidden_layers * shared * size * network.dtype.itemsize)
        """Keys and values of a token."""
        self.drawing_bytes = DRAWING_BYTES * int(config.vocab_size)
        """What a row takes beside them."""

    @property
    def copies(self) -> bool:
        """Whether the weights may be laid out once more."""
        return sum(w.numel() * w.element_size() for w in self.network.parameters()) <= self.bytes

    def fits(self, tokens: int, rows: int) -> bool:
        """Whether so many stored tokens, and rows that are drawn, have room."""
        return tokens * self.token_bytes + rows * self.drawing_bytes <= self.bytes

    def samples(self, prompts: int, stored: int, most: int) -> int:
        """How many of each prompt are written at once, one at least: `most` tokens each, beside `stored` ones."""
        left = self.bytes - stored * self.token_bytes
        return max(1, left // (prompts * (most * self.token_bytes + self.drawing_bytes)))


def checked_bytes(given: object) -> int:
    """Raises SettingsError for what is no size."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise SettingsError(f"memory_bytes={given!r:.80}: give a whole number of bytes, such as 4 << 30 for 4 GiB")
    return given
