"""Where things are in a decoder: its blocks, their sublayers, and what stands behind the last one."""

from __future__ import annotations

from typing import cast

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from condition.errors import SettingsError

FEED_FORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe")


def blocks(network: PreTrainedModel, who: str) -> list[nn.Module]:
    """The blocks of a decoder, first to last. Raises SettingsError, which names who asks, where there are none."""
    base = network.base_model
    lists = [list(module) for module in base.modules() if isinstance(module, nn.ModuleList) and len(module)]
    alike = [found for found in lists if len({type(module) for module in found}) == 1 and _holds(found)]
    if not alike:
        raise SettingsError(f"{who} finds no list of blocks in {type(network).__name__}: use LoRA there")
    return max(alike, key=len)


def attention_of(block: nn.Module) -> nn.Module | None:
    """The attention sublayer of a block."""
    found = [m for name, m in block.named_children() if "attn" in name or "attention" in name]
    return next((m for m in found if not _is_norm(m)), None)


def feed_forward_of(block: nn.Module) -> nn.Module | None:
    """The feed-forward sublayer of a block."""
    return next((m for name, m in block.named_children() if name in FEED_FORWARD), None)


def last_norms(network: PreTrainedModel) -> list[nn.Module]:
    """The norms behind the last block."""
    return [module for module in network.base_model.children() if _is_norm(module)]


def width(network: PreTrainedModel) -> int:
    """Numbers in a hidden state."""
    return int(cast(int, network.config.get_text_config().hidden_size))


def is_product(module: nn.Module) -> bool:
    """A linear layer: of torch, quantized, or GPT-2's."""
    return isinstance(module, nn.Linear | Conv1D)


def sizes(linear: nn.Module) -> tuple[int, int]:
    """Numbers in and out of a linear layer."""
    if isinstance(linear, Conv1D):
        return int(linear.nx), int(linear.nf)
    return int(cast(nn.Linear, linear).in_features), int(cast(nn.Linear, linear).out_features)


def _holds(found: list[nn.Module]) -> bool:
    """Blocks have parts; experts and adapters' lists of plain layers do not attend."""
    return attention_of(found[0]) is not None


def _is_norm(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "norm" in name and next(module.parameters(recurse=False), None) is not None
