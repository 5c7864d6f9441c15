"""Pictures of a comparison as SVG, drawn here: nothing is loaded from elsewhere, and text comes in escaped.

Colours are those of Okabe & Ito 2008, which people who see few colours can tell apart; lines are told by their names
as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from condition.evaluation.table import Method

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
_WIDTH = 720
_LEFT = 190
_RIGHT = 28


def scores(methods: Sequence[Method], measure: str, percent: bool) -> str:
    """A dot and its interval for each method that has a score. Empty where none has."""
    methods = _known(methods)
    if not methods:
        return ""
    factor = 100 if percent else 1
    drawn = [tuple(factor * x for x in _ends(method)) for method in methods]
    low, high = min(d[1] for d in drawn), max(d[2] for d in drawn)
    ticks = _ticks(low, high, (0.0, 100.0) if percent else None)
    height = 34 * len(methods) + 48
    x = _scale(ticks[0], ticks[-1], _LEFT, _WIDTH - _RIGHT)
    parts = _grid(ticks, x, height - 40, _unit(measure, percent))
    for place, (method, (value, start, end)) in enumerate(zip(methods, drawn, strict=True)):
        y, colour = 24 + 34 * place, COLOURS[place % len(COLOURS)]
        parts += [
            _name(method.name, y),
            f'<g stroke="{colour}" fill="{colour}"><title>{escape(f"{method.name}: {value:.4g}")}</title>',
            f'<line x1="{x(start):.1f}" y1="{y}" x2="{x(end):.1f}" y2="{y}" stroke-width="3" stroke-linecap="round"/>',
            f'<circle cx="{x(value):.1f}" cy="{y}" r="6"/></g>',
        ]
    return _svg(parts, height, f"{measure} of each method with its 95 % interval")


def costs(methods: Sequence[Method], measure: str, percent: bool) -> str:
    """Each method's score against the time of a call, which goes by factors of ten. Empty where none has a score."""
    methods = _known(methods)
    if not methods:
        return ""
    factor = 100 if percent else 1
    times = [max(method.milliseconds, 1e-3) for method in methods]
    tens = range(math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)) + 1e-9) + 1)
    values = [factor * method.score.value for method in methods]
    ticks = _ticks(min(values), max(values), (0.0, 100.0) if percent else None)
    height = 330
    y = _scale(ticks[0], ticks[-1], height - 48, 16)
    log = _scale(tens[0], tens[-1] if len(tens) > 1 else tens[0] + 1, 70, _WIDTH - _LEFT)
    parts = []
    for ten in tens:
        parts += [
            f'<line class="grid" x1="{log(ten):.1f}" y1="16" x2="{log(ten):.1f}" y2="{height - 48}"/>',
            f'<text x="{log(ten):.1f}" y="{height - 30}" text-anchor="middle">{10.0**ten:,g}</text>',
        ]
    parts += [
        f'<line class="grid" x1="70" y1="{y(t):.1f}" x2="{_WIDTH - _LEFT}" y2="{y(t):.1f}"/>'
        f'<text x="62" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in ticks
    ]
    parts.append(
        f'<text x="{(70 + _WIDTH - _LEFT) / 2:.0f}" y="{height - 8}" text-anchor="middle">'
        f"{escape(_unit(measure, percent))} against ms a call</text>"
    )
    free = -math.inf
    order = sorted(range(len(methods)), key=lambda i: -values[i])
    for place in order:
        colour, at = COLOURS[place % len(COLOURS)], y(values[place])
        free = max(at, free + 16)  # names of dots that lie close do not cover each other
        dot = log(math.log10(times[place]))
        parts += [
            f'<circle cx="{dot:.1f}" cy="{at:.1f}" r="6" fill="{colour}"/>',
            f'<line x1="{dot + 6:.1f}" y1="{at:.1f}" x2="{_WIDTH - _LEFT + 4}" y2="{free:.1f}" stroke="{colour}" '
            f'stroke-dasharray="2 3"/>',
            f'<text x="{_WIDTH - _LEFT + 8}" y="{free + 4:.1f}">{_short(methods[place].name)}</text>',
        ]
    return _svg(parts, max(height, int(free) + 12), f"{measure} of each method against milliseconds a call")


def totals(methods: Sequence[Method]) -> str:
    """Seconds spent in all against calls, for tuned methods that break even and what they are compared with.

    Empty where none does.
    """
    tuned = [m for m in methods if m.break_even is not None and math.isfinite(m.break_even)]
    if not tuned:
        return ""
    names = {m.name for m in tuned} | {m.break_even_with for m in tuned}
    lines = [(place, m) for place, m in enumerate(methods) if m.name in names]
    most = 2 * max(1.0, *(m.break_even or 0.0 for m in tuned))
    ends = [(m.training_seconds or 0.0) + most * m.milliseconds / 1000 for _, m in lines]
    height = 300
    unit, name = next((u, n) for u, n in ((3600, "h"), (60, "min"), (1, "s")) if max(ends) > 2 * u or u == 1)
    x, y = _scale(0, most, 70, _WIDTH - _LEFT), _scale(0, max(ends), height - 48, 16)
    across = _ticks(0, most, None)
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" y1="16" x2="{x(t):.1f}" y2="{height - 48}"/>'
        f'<text x="{x(t):.1f}" y="{height - 30}" text-anchor="middle">{t:,.0f}</text>'
        for t in across
        if t <= most
    ]
    parts += [
        f'<line class="grid" x1="70" y1="{y(t):.1f}" x2="{_WIDTH - _LEFT}" y2="{y(t):.1f}"/>'
        f'<text x="62" y="{y(t) + 4:.1f}" text-anchor="end">{t / unit:g} {name}</text>'
        for t in (unit * tick for tick in _ticks(0, max(ends) / unit, None))
        if t <= max(ends)
    ]
    parts.append(f'<text x="{(70 + _WIDTH - _LEFT) / 2:.0f}" y="{height - 8}" text-anchor="middle">calls</text>')
    free = -math.inf
    for end, (place, method) in sorted(zip(ends, lines, strict=True), key=lambda pair: -pair[0]):
        colour, free = COLOURS[place % len(COLOURS)], max(y(end), free + 16)
        parts += [
            f'<line x1="{x(0):.1f}" y1="{y(method.training_seconds or 0.0):.1f}" x2="{x(most):.1f}" y2="{y(end):.1f}" '
            f'stroke="{colour}" stroke-width="2.5"/>',
            f'<text x="{_WIDTH - _LEFT + 8}" y="{free + 4:.1f}">{_short(method.name)}</text>',
        ]
    return _svg(parts, height, "seconds in all, training included, against the number of calls")


def _known(methods: Sequence[Method]) -> list[Method]:
    return [method for method in methods if not math.isnan(method.score.value)]


def _unit(measure: str, percent: bool) -> str:
    return f"{measure} (%)" if percent else measure


def _ends(method: Method) -> tuple[float, float, float]:
    score = method.score
    low, high = (end if math.isfinite(end) else score.value for end in (score.low, score.high))
    return score.value, low, high


def _ticks(low: float, high: float, limits: tuple[float, float] | None) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(unit * m for m in (0.2, 0.5, 1, 2, 5) if span / (unit * m) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    found = [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]
    inside = found if limits is None else [t for t in found if limits[0] <= t <= limits[1]]
    return inside if len(inside) > 1 else found


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _grid(ticks: Sequence[float], x: Callable[[float], float], bottom: float, label: str) -> list[str]:
    lines = [
        f'<line class="grid" x1="{x(t):.1f}" y1="6" x2="{x(t):.1f}" y2="{bottom}"/>'
        f'<text x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{t:g}</text>'
        for t in ticks
    ]
    middle = (x(ticks[0]) + x(ticks[-1])) / 2
    return [*lines, f'<text x="{middle:.0f}" y="{bottom + 34}" text-anchor="middle">{escape(label)}</text>']


def _name(name: str, y: float) -> str:
    return f'<text x="{_LEFT - 14}" y="{y + 4}" text-anchor="end">{_short(name)}</text>'


def _short(name: str) -> str:
    """What has room beside a chart; the whole name shows where one points at it."""
    short = name if len(name) <= 24 else name[:23] + "…"
    return f"{escape(short)}<title>{escape(name)}</title>"


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">'
        f"<style>.grid{{stroke:currentColor;stroke-opacity:.15}}</style>{''.join(parts)}</svg>"
    )
