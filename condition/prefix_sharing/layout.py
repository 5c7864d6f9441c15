"""Token sequences that share prefixes, packed so that each shared prefix is computed once.

    the cat sat      a tree of tokens:     the cat ┬ sat           packed, depth first:
    the cat ran                                    └ ran ┬ off     the cat sat ran off on
    the cat ran on                                       └ on

The tree becomes one row of tokens `[1, tokens]` with their true positions, cut into attention blocks: a block's
tokens attend to the path above it and to their own ancestors inside it. For K branches of length C behind a prompt of
length P the network reads `P + KC` tokens instead of `K(P + C)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

MINIMUM_SAVING = 16
"""Tokens that a shared prefix has to save before it becomes a node of its own."""
DEEPEST = 400
"""Nodes below each other, after which nothing more is shared."""
DENSE_LIMIT = 384
"""Largest subtree, in tokens, that attends through one dense mask; larger ones are cut below their root."""


@dataclass
class Node:
    """Tokens that the same set of sequences share."""

    tokens: list[int]
    depth: int
    """Tokens above this node."""
    children: list[Node] = field(default_factory=list)
    members: Sequence[int] = ()
    """The sequences that run through it."""
    start: int = -1
    """Place of the first token in the packed row."""
    size: int = 0
    """Tokens of the node and all below it."""

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Block:
    """Queries that attend together: places in the packed row of its queries and keys, and who sees what."""

    queries: list[int]
    keys: list[int]
    mask: Tensor | None
    """`[queries, keys]`, true where seen; none where the block is a plain causal row."""


@dataclass(frozen=True)
class Laid:
    """A tree of tokens as one row."""

    row: list[int]
    positions: list[int]
    places: list[list[int]]
    """Where in the row each sequence's tokens lie."""
    blocks: list[Block]
    ends: Tensor
    """`[tokens]`: token j is seen from its own place on up to the place before `ends[j]`, by all that lies below it."""


@dataclass(frozen=True)
class Packed:
    """A batch of sequences as one row, with what is to be scored in it."""

    ids: Tensor
    """`[1, tokens]`"""
    positions: Tensor
    """`[1, tokens]`"""
    blocks: list[Block]
    predictors: Tensor
    """`[scored]`: place of the token that predicts each scored token."""
    targets: Tensor
    """`[scored]`: the scored tokens, sequence by sequence."""
    owners: Tensor
    """`[scored]`: the sequence that each scored token belongs to."""
    sequences: int
    saved: int
    """Tokens that sharing did not compute again."""
    ends: Tensor | None = None
    """`[tokens]`: the same that the blocks say of who sees whom, as in `Laid`; none where they say more."""


def pack(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], *, minimum_saving: int | None = MINIMUM_SAVING
) -> Packed:
    """Lay out sequences of token ids so that common prefixes are computed once.

    `starts[i]` is the first scored token of sequence i; it and all after it are scored. The last token of a sequence
    is never read, only predicted. `minimum_saving=None` shares nothing.

    Raises ValueError where a sequence has nothing to score or nothing before its first scored token.
    """
    for number, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        if not 1 <= start < len(sequence):
            raise ValueError(
                f"sequence {number}: scored from token {start} of {len(sequence)}; needs one before and one after"
            )
    laid = lay([sequence[:-1] for sequence in sequences], minimum_saving=minimum_saving)
    return Packed(
        ids=torch.tensor([laid.row]),
        positions=torch.tensor([laid.positions]),
        blocks=laid.blocks,
        predictors=torch.tensor([p for i, start in enumerate(starts) for p in laid.places[i][start - 1 :]]),
        targets=torch.tensor([t for s, start in zip(sequences, starts, strict=True) for t in s[start:]]),
        owners=torch.tensor([i for i, start in enumerate(starts) for _ in sequences[i][start:]]),
        sequences=len(sequences),
        saved=sum(map(len, laid.places)) - len(laid.row),
        ends=laid.ends,
    )


def lay(sequences: Sequence[Sequence[int]], *, minimum_saving: int | None = MINIMUM_SAVING) -> Laid:
    """The tree of all tokens of some sequences, depth first. An empty sequence has no place in it."""
    inputs = [list(sequence) for sequence in sequences]
    members = [i for i, tokens in enumerate(inputs) if tokens]
    if minimum_saving is not None:
        members.sort(key=inputs.__getitem__)
    alike = [0, *(common_prefix(inputs[a], inputs[b]) for a, b in pairwise(members))]
    roots = _grow(inputs, members, alike, 0, minimum_saving)
    row, positions = _lay(roots)
    places: list[list[int]] = [[] for _ in inputs]
    for root in roots:
        _locate(root, places)
    return Laid(row, positions, places, [block for root in roots for block in _cut(root, [])], _ends(roots))


def _grow(
    inputs: list[list[int]],
    members: Sequence[int],
    alike: Sequence[int],
    depth: int,
    minimum: int | None,
    levels: int = DEEPEST,
) -> list[Node]:
    """Nodes for sorted `members`, which agree on their first `depth` tokens.

    `alike[i]` is how many tokens member i begins with like the one before it.
    """
    if not levels:
        minimum = None
    nodes: list[Node] = []
    place = 0
    while place < len(members):
        length = len(inputs[members[place]])
        run, shared = _longest_run(length, alike[place:], depth, minimum)
        node = Node(inputs[members[place]][depth : depth + shared], depth, members=members[place : place + run])
        if run > 1:
            done = sum(len(inputs[m]) == depth + shared for m in node.members)  # they come first
            rest = slice(place + done, place + run)
            node.children = _grow(inputs, members[rest], alike[rest], depth + shared, minimum, levels - 1)
        node.size = len(node.tokens) + sum(child.size for child in node.children)
        nodes.append(node)
        place += run
    return nodes


def _longest_run(length: int, alike: Sequence[int], depth: int, minimum: int | None) -> tuple[int, int]:
    """How many members form a node with the first, which has `length` tokens, and how many they share below `depth`.

    The choice that saves most: many sequences with a short common prefix, or fewer with a long one.
    """
    best_run, best_shared, best_saving = 1, length - depth, 0
    if minimum is None:
        return best_run, best_shared
    shared = length
    for run, common in enumerate(alike[1:], 2):
        shared = min(shared, common)
        saving = (run - 1) * (shared - depth)
        if shared <= depth:
            break
        if saving >= minimum and saving > best_saving:
            best_run, best_shared, best_saving = run, shared - depth, saving
    return best_run, best_shared


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _lay(roots: list[Node]) -> tuple[list[int], list[int]]:
    """Depth-first tokens with their positions; notes each node's place."""
    row: list[int] = []
    positions: list[int] = []
    for root in roots:
        for node in root.walk():
            node.start = len(row)
            row += node.tokens
            positions += range(node.depth, node.depth + len(node.tokens))
    return row, positions


def _ends(roots: list[Node]) -> Tensor:
    """Depth first, all that lies below a node is one stretch behind it."""
    nodes = [node for root in roots for node in root.walk()]
    ends, lengths = [node.start + node.size for node in nodes], [len(node.tokens) for node in nodes]
    return torch.tensor(ends, dtype=torch.long).repeat_interleave(torch.tensor(lengths, dtype=torch.long))


def _locate(root: Node, places: list[list[int]]) -> None:
    """Write down where in the row each sequence's tokens lie."""
    for node in root.walk():
        for member in node.members:
            places[member] += range(node.start, node.start + len(node.tokens))


def _cut(node: Node, path: list[int]) -> Iterator[Block]:
    """Attention blocks of a subtree, behind the keys of `path`."""
    if not node.children and not path:
        span = list(range(node.start, node.start + len(node.tokens)))
        yield Block(span, span, None)
    elif not node.children or node.size <= DENSE_LIMIT:
        yield _dense(node, path)
    else:
        own = list(range(node.start, node.start + len(node.tokens)))
        yield (
            _dense(Node(node.tokens, node.depth, start=node.start, size=len(node.tokens)), path)
            if path
            else Block(own, own, None)
        )
        for child in node.children:
            yield from _cut(child, path + own)


def _dense(node: Node, path: list[int]) -> Block:
    """One block with a mask for a whole subtree."""
    size = node.size
    mask = torch.zeros(size, len(path) + size, dtype=torch.bool)
    mask[:, : len(path)] = True
    _see(node, node.start, len(path), [], mask)
    span = list(range(node.start, node.start + size))
    return Block(span, path + span, mask)


def _see(node: Node, origin: int, offset: int, above: list[slice], mask: Tensor) -> None:
    rows = slice(node.start - origin, node.start - origin + len(node.tokens))
    own = slice(rows.start + offset, rows.stop + offset)
    for keys in above:
        mask[rows, keys] = True
    mask[rows, own] = torch.ones(len(node.tokens), len(node.tokens), dtype=torch.bool).tril()
    for child in node.children:
        _see(child, origin, offset, [*above, own], mask)
