"""A comparison as one HTML page that loads nothing and runs nothing: text from data and models stays text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from condition.evaluation.charts import costs, scores, totals
from condition.evaluation.table import HEADINGS, cells, notes

if TYPE_CHECKING:
    from condition.evaluation.comparison import Comparison, Disagreement

SHOWN = 100
"""Rows on which the methods disagree; more would make a page that nobody reads."""
_LONG = 400  # characters of an input that are shown before one asks for the rest

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; } .scroll > table { font-size: .85rem; } .scroll > table th { white-space: normal; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
th, td { text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.said th, .said td { text-align: left; white-space: normal; vertical-align: top; }
.said td:last-child, .said th:last-child { text-align: right; white-space: nowrap; }
svg { max-width: 45rem; width: 100%; height: auto; display: block; }
article { margin: 1.5rem 0; padding: .8rem 1rem; border: 1px solid color-mix(in srgb, currentColor 18%, transparent);
  border-radius: .5rem; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; } dd, .said td { overflow-wrap: anywhere; }
.text { white-space: pre-wrap; } .note { font-size: .9rem; opacity: .8; }
"""
_NO_SOURCES = "default-src 'none'; style-src 'unsafe-inline'"


def page(comparison: Comparison, disagreements: Sequence[Disagreement], shown: int = SHOWN) -> str:
    """The whole page, with the first `shown` rows of those on which the methods disagree."""
    title = f"{comparison.task}: {len(comparison.methods)} methods compared"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_NO_SOURCES}">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            _table(comparison),
            *_charts(comparison),
            *_disagreements(comparison, disagreements, shown),
            "</body></html>",
        ]
    )


def fragment(comparison: Comparison) -> str:
    """The table and the scores, for a notebook."""
    return _table(comparison) + scores(comparison.methods, comparison.measure, comparison.percent)


def _table(comparison: Comparison) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADINGS)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(method, comparison.percent))}</tr>"
        for method in comparison.methods
    )
    less = " Less is better." if comparison.less_is_better else ""
    measure = f"The score is {comparison.measure}{', in percent' if comparison.percent else ''}.{less}"
    below = " ".join(escape(note) for note in (measure, *notes(comparison.methods, comparison.percent)))
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">{below}</p>'
    )


def _charts(comparison: Comparison) -> list[str]:
    methods, measure, percent = comparison.methods, comparison.measure, comparison.percent
    found = [
        ("Scores", scores(methods, measure, percent)),
        ("Score against the time of a call", costs(methods, measure, percent)),
        ("Time in all, training included", totals(methods)),
    ]
    return [f"<section><h2>{escape(name)}</h2>{svg}</section>" for name, svg in found if svg]


def _disagreements(comparison: Comparison, found: Sequence[Disagreement], shown: int) -> Iterable[str]:
    yield f"<h2>Where they disagree: {len(found)} of {len(comparison.questions)} rows</h2>"
    if len(found) > shown:
        yield f'<p class="note">The first {shown} are shown; comparison.disagreements() gives all.</p>'
    for one in found[:shown]:
        yield f"<article>{_inputs(one.inputs)}{_wanted(one.target)}{_said(one, comparison.percent)}</article>"


def _inputs(inputs: Mapping[str, Any]) -> str:
    return (
        f"<dl>{''.join(f'<dt>{escape(str(name))}</dt><dd>{_text(value)}</dd>' for name, value in inputs.items())}</dl>"
    )


def _wanted(target: Any) -> str:
    if target is None:
        return ""
    if isinstance(target, list | tuple):
        told = " | ".join(dict.fromkeys(map(str, target))) if target else "no answer"
    else:
        told = str(target)
    return f"<dl><dt>wanted</dt><dd>{_text(told)}</dd></dl>"


def _said(one: Disagreement, percent: bool) -> str:
    factor, form = (100, ".0f") if percent else (1, ".4g")
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_text(said)}</td>"
        f"<td>{format(factor * one.values[name], form) if name in one.values else ''}</td></tr>"
        for name, said in one.predictions.items()
    )
    head = '<tr><th scope="col">method</th><th scope="col">said</th><th scope="col">score</th></tr>'
    return f'<table class="said"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _text(value: object) -> str:
    """Text as it is; a long one folds out."""
    text = str(value)
    if len(text) <= _LONG:
        return f'<span class="text">{escape(text)}</span>'
    return (
        f'<details><summary><span class="text">{escape(text[:120])}…</span></summary>'
        f'<span class="text">{escape(text)}</span></details>'
    )
