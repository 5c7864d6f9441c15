"""Forgetful causal masking: in training a token does not see some of the tokens before it.

Where answers are nearly alike, the shortest way to the next one is to copy from the last. Liu et al. 2022, arXiv
2210.13432; in chains of hindsight between none and 5 % of the past, Liu et al. 2023, arXiv 2302.02676.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from condition.prefix_sharing.layout import Block, Packed


def forgetful(packed: Packed, most: float) -> Packed:
    """The batch where each token forgets each one before it with a chance that is drawn, for each block of the tree,
    between 0 and `most`.

    All layers forget the same. A sequence's first token, on which much attention rests, and the token itself stay.
    """
    positions = packed.positions[0]
    return replace(packed, blocks=[_forgetful(block, positions, most) for block in packed.blocks], ends=None)


def _forgetful(block: Block, positions: Tensor, most: float) -> Block:
    queries, keys = torch.tensor(block.queries), torch.tensor(block.keys)
    seen = torch.ones(len(queries), len(keys), dtype=torch.bool).tril() if block.mask is None else block.mask
    kept = torch.rand(seen.shape) >= most * torch.rand(())
    kept |= (positions[keys] == 0) | (keys == queries[:, None])
    return Block(block.queries, block.keys, seen & kept)
