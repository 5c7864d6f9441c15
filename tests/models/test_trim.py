"""What goes when a row is too long."""

from __future__ import annotations

from condition.models.trim import trim
from condition.types import Rendered, Span

ROW = Rendered(
    ids=tuple(range(20)),
    spans=(
        Span("template", 0, 8),
        Span("user", 8, 13),
        Span("template", 13, 14),
        Span("system", 14, 16),
        Span("assistant", 16, 19),
        Span("stop", 19, 20),
    ),
    labels=(-100,) * 16 + (16, 17, 18, 19),
)


def test_the_longest_message_loses_its_beginning_and_the_template_nothing() -> None:
    short = trim(ROW, 17)
    assert short is not None
    assert short.ids == (*range(8), *range(11, 20))
    assert short.spans[:2] == (Span("template", 0, 8), Span("user", 8, 10))
    assert short.spans[-1] == Span("stop", 16, 17)
    assert short.labels == (-100,) * 13 + (16, 17, 18, 19)


def test_a_message_keeps_one_token_at_least() -> None:
    assert trim(ROW, 16) is not None
    assert trim(ROW, 15) is None


def test_a_row_that_fits_stays() -> None:
    assert trim(ROW, 20) is ROW
