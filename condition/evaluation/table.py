"""The table of a comparison: a row a method, as data and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from condition.evaluation.statistics import Estimate
from condition.types import Value

UNKNOWN = "–"


class Method(Value):
    """A row of the table. What is not known is None."""

    name: str
    score: Estimate
    difference: Estimate | None = None
    """From the first row, on the rows that both answered."""
    p: float | None = None
    """How likely so large a difference would be if there were none."""
    p_corrected: float | None = None
    """The same for all rows of the table together (Holm)."""
    test: str | None = None
    trained_parameters: int | None = None
    training_seconds: float | None = None
    input_tokens: float | None = None
    """A call."""
    output_tokens: float | None = None
    """A call."""
    milliseconds: float
    """A call, asked together with others."""
    break_even: float | None = None
    """Of a tuned method: after how many calls it has cost less time than `break_even_with`. Infinity is never."""
    break_even_with: str | None = None
    """The method without tuning that scored best."""
    constant: str | None = None
    """The constant answer that scores best on these rows, where the task names some."""
    constant_score: Estimate | None = None
    over_constant: Estimate | None = None
    """The paired difference from it."""
    stopped: str | None = None
    """Why not all rows were asked."""


HEADINGS = (
    "method",
    "score",
    "difference",
    "p",
    "trained",
    "training",
    "tokens in + out",
    "ms a call",
    "break-even",
)


def cells(method: Method, percent: bool) -> list[str]:
    """A row of the table as texts, in the order of `HEADINGS`."""
    return [
        method.name,
        estimated(method.score, percent) + (f" n={method.score.n}, stopped" if method.stopped else ""),
        UNKNOWN if method.difference is None else estimated(method.difference, percent, signed=True),
        UNKNOWN if method.p_corrected is None else probability(method.p_corrected),
        UNKNOWN if method.trained_parameters is None else f"{method.trained_parameters:,}",
        UNKNOWN if method.training_seconds is None else duration(method.training_seconds),
        UNKNOWN if method.input_tokens is None else f"{method.input_tokens:.0f} + {method.output_tokens or 0:.0f}",
        f"{method.milliseconds:,.0f}" if method.milliseconds >= 10 else f"{method.milliseconds:.2g}",
        calls(method.break_even),
    ]


def markdown(methods: Sequence[Method], percent: bool) -> str:
    """The table as Markdown, with what its marks mean below it."""
    lines = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *(cells(method, percent) for method in methods)]
    table = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
    return "\n".join([*table, "", *(_escaped(note) for note in notes(methods, percent))])


def notes(methods: Sequence[Method], percent: bool) -> list[str]:
    """What the reader has to know beside the table."""
    found = [
        f"{methods[0].score.n} rows. Intervals are 95 %. Differences are from {methods[0].name!r}, on the same rows."
    ]
    if tests := sorted({method.test for method in methods if method.test}):
        found.append(f"p: {' or '.join(tests)}, corrected for {sum(m.p is not None for m in methods)} rows (Holm).")
    found += _beside_a_constant(methods, percent)
    for method in methods:
        if method.break_even_with is not None and method.break_even is not None:
            found.append(f"{method.name}: {_breaks_even(method.break_even, method.break_even_with)}.")
        if method.stopped:
            found.append(f"{method.name}: {method.stopped}. Its numbers are of the rows until then.")
    return found


def _beside_a_constant(methods: Sequence[Method], percent: bool) -> list[str]:
    """What one answer to everything scores: a method that is not above it has shown nothing."""
    known = [m for m in methods if m.constant is not None and m.constant_score and m.over_constant]
    if not known:
        return []
    assert known[0].constant_score is not None
    score = estimated(known[0].constant_score, percent)
    above = [m.name for m in known if m.over_constant and m.over_constant.low > 0]
    surely = f"surely above it: {', '.join(above)}" if above else "no method is surely above it"
    return [f"Answering {known[0].constant!r} to everything scores {score}; {surely}."]


def estimated(value: Estimate, percent: bool, *, signed: bool = False) -> str:
    """A number with its interval, in percent where it is a share."""
    if math.isnan(value.value):
        return UNKNOWN
    factor, sign = (100 if percent else 1), "+" if signed else ""
    digits = ".1f" if percent else ".4g"
    one, low, high = (format(factor * x, sign + digits) for x in (value.value, value.low, value.high))
    return f"{one} [{low}, {high}]"


def probability(p: float) -> str:
    """A p-value to three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.1g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def calls(number: float | None) -> str:
    """After how many calls: `never`, `always`, or a number."""
    if number is None:
        return UNKNOWN
    return "never" if math.isinf(number) else "always" if number == 0 else f"{number:,.0f}"


def _breaks_even(number: float, other: str) -> str:
    if math.isinf(number):
        return f"a call takes no less time than one of {other!r}, so training never pays in time"
    if number == 0:
        return f"cheaper than {other!r} from the first call on"
    return f"cheaper than {other!r} after {number:,.0f} calls, training included"


def _escaped(text: str) -> str:
    """Text that can't end a cell, begin a line or be taken for HTML."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("<", "&lt;") if text not in HEADINGS else plain
