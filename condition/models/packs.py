"""Token sequences in packs, a pass through the network each; what packs begin with is read once for all of them.

    header ┬ question 1 ┬ choice        one pack: a tree
           │            └ choice
           └ question 2 ┬ choice        the next pack: behind the same header, whose keys and values are kept
                        └ choice

A prompt is not cut apart where it fits into a pack with all that follows it; where it does not, it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest

from transformers import PreTrainedModel

from condition.models.remember import WORTH_USING, kept
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.past import Past, remember
from condition.prefix_sharing.probe import shareable

Ids = Sequence[int]

PACK_TOKENS = 4096
"""Tokens that go through the network at once."""
SMALL_PACK = 1024
"""Tokens from which on a pack ends where sequences stop to begin alike, so that each pack has a header to keep."""
LONG = 256
"""Tokens that take longer to be read again than a pass more takes."""


def passes(
    network: PreTrainedModel, sequences: Sequence[Ids], most: int = PACK_TOKENS
) -> Iterator[tuple[list[int], Past | None]]:
    """The places of the sequences that go through the network together, and what is kept of what they begin with."""
    if not shareable(network):
        yield from ((pack, None) for pack in _padded(sequences, most))
        return
    packs = list(_alike(sequences, most))
    past: Past | None = None
    for pack, following in zip_longest(packs, packs[1:]):
        own, ahead = ([sequences[place] for place in places or ()] for places in (pack, following))
        past = _before(network, own, ahead, past)
        yield pack, past


def _before(network: PreTrainedModel, pack: Sequence[Ids], following: Sequence[Ids], past: Past | None) -> Past | None:
    """Keys and values of what the pack begins with: remembered by the user, of the pack before, or read now for the
    pack that follows too."""
    # Beside prompts that begin otherwise, what the user remembered is read again: at most a pack of tokens for each
    # beginning in a call, while to end packs there would take a look at all weights, by `kept`, for each row.
    known = [one for one in (kept(network, pack), past) if one is not None]
    own = _beginning(pack[0], pack[-1])  # they are sorted: the ends say it for all
    begins = [common_prefix(one.ids, own) for one in known]
    longest = max(begins, default=0)
    before = known[begins.index(longest)].first(longest) if longest >= WORTH_USING else None
    ahead = _beginning(pack[0], following[-1]) if following else ()
    # On from what is kept: each prompt that fills several packs would read a header that it shares with others again.
    return remember(network, ahead, before) if len(ahead) >= WORTH_USING + longest else before


def _beginning(one: Ids, other: Ids) -> Ids:
    return one[: common_prefix(one, other)]


def _alike(sequences: Sequence[Ids], most: int) -> Iterator[list[int]]:
    """Packs in the order of their tokens, so that sequences which begin alike meet in one."""
    order = sorted(range(len(sequences)), key=lambda place: tuple(sequences[place]))
    rows = [sequences[place] for place in order]
    lengths = [len(row) for row in rows]
    alike = [0, *(common_prefix(one, other) for one, other in pairwise(rows))]
    begin = 0
    while begin < len(order):
        end = _end(lengths, alike, begin, most)
        yield order[begin:end]
        begin = end


def _end(lengths: Sequence[int], alike: Sequence[int], begin: int, most: int) -> int:
    """Where the pack ends that begins at `begin`; row i begins with `alike[i]` tokens of the row before it."""
    size = lengths[begin]
    for end in range(begin + 1, len(lengths)):
        if alike[end] < WORTH_USING and size >= SMALL_PACK:
            return end
        if alike[begin] - alike[end] >= LONG:  # what was kept for this pack is not what the rest begins with
            return end
        size += lengths[end] - alike[end]
        if size > most:
            apart = min(range(begin + 1, end + 1), key=lambda place: (alike[place], -place))
            return apart if alike[end] - alike[apart] >= LONG else end
    return len(lengths)


def _padded(sequences: Sequence[Ids], most: int) -> Iterator[list[int]]:
    """Packs of like length, whose rows are padded to the longest."""
    pack: list[int] = []
    for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
        if pack and (len(pack) + 1) * len(sequences[place]) > most:
            yield pack
            pack = []
        pack.append(place)
    if pack:
        yield pack
