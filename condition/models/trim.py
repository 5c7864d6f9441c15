"""Cutting a row that is too long: the beginning of its longest message goes."""

from __future__ import annotations

from itertools import accumulate

from condition.types import Rendered, Span


def trim(rendered: Rendered, limit: int) -> Rendered | None:
    """The rendering in at most `limit` tokens; none where its longest message is too short for that."""
    excess = len(rendered.ids) - limit
    if excess <= 0:
        return rendered
    prompt = len(rendered.prompt_ids)
    spans = [s for s in rendered.spans if s.role != "template" and s.stop <= prompt]
    longest = max(spans, key=lambda s: s.stop - s.start, default=None)
    if longest is None or longest.stop - longest.start <= excess:
        return None
    gone = range(longest.start, longest.start + excess)
    sizes = [s.stop - s.start - (excess if s is longest else 0) for s in rendered.spans]
    ends = list(accumulate(sizes))
    return Rendered(
        ids=rendered.ids[: gone.start] + rendered.ids[gone.stop :],
        labels=rendered.labels[: gone.start] + rendered.labels[gone.stop :],
        spans=tuple(Span(s.role, end - size, end) for s, size, end in zip(rendered.spans, sizes, ends, strict=True)),
    )
