"""Attention over a packed tree through `flex_attention` and a block mask: what a GPU takes for long trees.

    header ┬ question 1 ┬ answer      The row lies depth first, so what lies below a node is one stretch of it, and each
           │            └ answer      key is seen from its own place to the end of that stretch: two numbers a key are
           └ question 2               the whole mask. Tiles of 128 x 128 that nobody sees are never computed, tiles that
                                      everybody sees need no mask, and nothing is gathered for each branch.

(Dong et al. 2024, Flex Attention, arXiv 2412.05496.) The kernel is compiled when it is first used, which takes tens of
seconds for each shape of heads, forward and backward, and is then reused for rows of every length. So it is taken
where it pays, see `due` and `flex_pays`, and blocks are attended to one by one elsewhere. `CONDITION_FLEX=1` in the
environment takes it wherever it can run (on the CPU uncompiled, without gradients), `CONDITION_FLEX=0` nowhere.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from condition.errors import SharingWarning

FORCED: bool | None = {"1": True, "0": False}.get(os.environ.get("CONDITION_FLEX", ""))
"""True: wherever it can run. False: nowhere. None: where it pays."""
SHORTEST = 1024
"""Tokens of a row, those before it included, from which on the kernel is faster than blocks."""
WORTH_COMPILING = 1_000_000
"""Tokens in such rows that a process reads by blocks before it compiles: what takes an H100 about as long as compiling
does (8 to 19 s, at 80,000 tokens a second), so that a few long rows never wait for it and many lose little."""
NUMBERS = (torch.bfloat16, torch.float16)
"""In fp32 the kernel has no tensor cores to use, and its backward pass not enough registers."""
TILE = 128
"""Queries, and keys, of a tile of the mask. Rows are padded to a multiple."""
AGREES = 0.02
"""Largest difference from the plain kernel, relative to the norm, that is still rounding in 16 bits."""
OPTIONS: Any = {"IS_DIVISIBLE": True}
"""Whole tiles: nothing guards the ends of rows. The compiler can't know that of lengths that it leaves open."""
Kernel = Callable[[Tensor, Tensor, Tensor, BlockMask], Tensor]

_read = 0
"""Tokens that this process has had in long rows."""


def due(tokens: int, device: torch.device) -> bool:
    """Whether a row of `tokens` is long enough, and the process has had enough of them. Asked once a batch."""
    global _read
    if device.type != "cuda" or tokens < SHORTEST:
        return False
    _read += tokens
    return _read > WORTH_COMPILING


def flex_pays(query: Tensor, key: Tensor, value: Tensor, dropout: float, is_due: bool) -> bool:
    """Whether heads `[1, heads, tokens, size]` go through the kernel: the place that decides, for a row that is `due`.

    On CUDA, in 16 bits, without dropout, for heads of 16 to 256 numbers, and only where a trial compiled and agreed.
    """
    sizes = (query.shape[-1], value.shape[-1])
    if FORCED is False or dropout > 0:
        return False
    if query.device.type != "cuda":
        return FORCED is True
    if not all(16 <= size <= 256 for size in sizes) or not (FORCED or (is_due and _numbers(query) in NUMBERS)):
        return False
    heads, inference = (query.shape[1], key.shape[1]), torch.is_inference_mode_enabled()
    return _sound(query.device, _numbers(query), heads, sizes, _learns(query, key, value), inference)


def tree_mask(ends: Tensor, past: int, device: torch.device) -> BlockMask:
    """The mask of a row whose token j is seen from its own place up to, not including, `ends[j]`, `[tokens]`.

    `past` keys before the row are seen by all. Padding sees padding. Made from two numbers a key without a dense mask.
    """
    tokens = len(ends)
    queries, keys = _whole(tokens), _whole(past + tokens)
    begins = torch.full((keys,), tokens, dtype=torch.int32)
    stops = torch.full((keys,), queries, dtype=torch.int32)
    begins[:past] = 0
    begins[past : past + tokens] = torch.arange(tokens, dtype=torch.int32)
    stops[past : past + tokens] = ends
    begins, stops = begins.to(device), stops.to(device)

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (begins[k] <= q) & (q < stops[k])

    first = torch.arange(0, queries, TILE, dtype=torch.int32, device=device)[:, None]
    some = ((begins < first + TILE) & (stops > first) & (begins < stops)).unflatten(1, (-1, TILE)).any(-1)
    every = ((begins <= first) & (stops >= first + TILE)).unflatten(1, (-1, TILE)).all(-1)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~every), *_listed(every), BLOCK_SIZE=TILE, mask_mod=sees, seq_lengths=(queries, keys)
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles `[query tiles, key tiles]` each query tile has, and which, the chosen ones first."""
    number = tiles.sum(-1, dtype=torch.int32)
    which = tiles.int().argsort(dim=-1, descending=True, stable=True).int()
    return number[None, None], which[None, None]


def tree_attention(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None) -> Tensor:
    """Query `[1, heads, tokens, size]`, key and value `[1, shared heads, keys, size]` to `[1, tokens, heads, size]`."""
    tokens, size, numbers = query.shape[2], query.shape[3], _numbers(query)
    if scaling is not None and scaling != size**-0.5:
        query = query * (scaling * size**0.5)  # a number among the arguments would be compiled in
    learns = _learns(query, key, value)
    with torch.autocast(query.device.type, enabled=False), torch.set_grad_enabled(learns):
        # All or none want a gradient: for each other choice of them it would be compiled anew.
        q, k, v = (_padded(x.to(numbers)).requires_grad_(learns) for x in (query, key, value))
        kernel: Kernel = _attend
        if query.device.type == "cuda":
            kernel = _compiled(numbers, query.shape[1], key.shape[1], size, value.shape[-1])
        output = kernel(q, k, v, mask)
    return output.transpose(1, 2)[:, :tokens]


def _numbers(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _learns(*heads: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in heads)


def _whole(tokens: int) -> int:
    return -(-tokens // TILE) * TILE


def _padded(x: Tensor) -> Tensor:
    """`[1, heads, tokens, size]` with whole tiles of tokens, in memory token by token as the network's layers write and
    read them."""
    rows = x.transpose(1, 2)
    rest = rows.new_zeros(1, _whole(rows.shape[1]) - rows.shape[1], *rows.shape[2:])
    return torch.cat([rows, rest], 1).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> Tensor:
    output: Tensor = flex_attention(query, key, value, block_mask=mask, enable_gqa=True, kernel_options=OPTIONS)
    return output


@cache
def _compiled(*shape: torch.dtype | int) -> Kernel:
    """One function for each shape of heads: torch gives up on one that it has compiled more than a few times."""
    own = FunctionType(_attend.__code__.replace(), _attend.__globals__)
    kernel: Kernel = torch.compile(own, dynamic=True, fullgraph=True)
    return kernel


@cache
def _sound(
    device: torch.device,
    dtype: torch.dtype,
    heads: tuple[int, int],
    sizes: tuple[int, int],
    learns: bool,
    inference: bool,  # other tensors, for which it is compiled anew
) -> bool:
    """Compile for a shape of heads, and compare with the plain kernel. Warns where it does not work."""
    try:
        worst = trial(device, dtype, heads, sizes, learns)
    except Exception as error:  # no C compiler, a card that lacks what the kernel needs, a fault of torch: many kinds
        reason = f"it does not run here ({type(error).__name__}: {error!s:.300})"
    else:
        if worst <= AGREES:
            return True
        reason = f"it differs from the plain kernel by {worst:.1e}"
    warnings.warn(
        f"flex_attention is off for packed trees: {reason}. Results are the same.", SharingWarning, stacklevel=2
    )
    return False


def trial(
    device: torch.device, dtype: torch.dtype, heads: tuple[int, int], sizes: tuple[int, int], learns: bool
) -> float:
    """Largest difference from the plain kernel, relative to the norm, of output and gradients on random numbers.

    `heads` of queries and shared ones, `sizes` of keys and values.
    """
    # Lengths that equal nothing else: torch takes equal numbers for the same one, and would compile that in.
    short, long = [n for n in range(3, 9) if n not in heads][:2]
    past, tokens = (long - short) * TILE, short * TILE - 5
    ends = torch.full((tokens,), tokens)
    ends[100:200], ends[200:300] = 200, 300
    numbers = torch.Generator(device).manual_seed(0)
    shapes = [(heads[0], tokens, sizes[0]), *((heads[1], past + tokens, size) for size in sizes)]
    # Hooks of its own, since those of a checkpointed layer around it listen to what is saved for backward.
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with hooks, torch.autocast(device.type, enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's advice
        given = [torch.randn(1, *shape, device=device, dtype=dtype, generator=numbers) for shape in shapes]
        exact = [x.detach().float().requires_grad_(learns) for x in given]
        query, key, value = (x.requires_grad_(learns) for x in given)
        found = [tree_attention(query, key, value, tree_mask(ends, past, device), None)]
        place = torch.arange(tokens, device=device)
        seen = (place <= place[:, None]) & (place[:, None] < ends.to(device))
        seen = torch.cat([seen.new_ones(tokens, past), seen], 1)
        key, value = (x.repeat_interleave(heads[0] // heads[1], 1) for x in exact[1:])
        wanted = [scaled_dot_product_attention(exact[0], key, value, attn_mask=seen).transpose(1, 2)]
        if learns:
            slope = torch.randn(wanted[0].shape, device=device, generator=numbers)
            found += torch.autograd.grad(found[0], given, slope.to(dtype))
            wanted += torch.autograd.grad(wanted[0], exact, slope)
        worst = torch.stack([(a.float() - b).norm() / b.norm() for a, b in zip(found, wanted, strict=True)]).max()
    return float(worst.detach())
