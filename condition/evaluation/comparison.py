"""What a comparison found: a table, its pictures, and the rows on which the methods disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from condition.errors import DataError, SettingsError
from condition.evaluation.evaluate import Result
from condition.evaluation.report import SHOWN, fragment, page
from condition.evaluation.statistics import Estimate
from condition.evaluation.table import Method, markdown
from condition.types import Value


class Disagreement(Value):
    """A row on which the methods do not do equally well."""

    id: str
    inputs: Mapping[str, Any]
    target: Any
    predictions: Mapping[str, str]
    """By method."""
    values: Mapping[str, float]
    """Of the measure, by method; none where it is no measure of single rows."""


class Comparison(Value):
    """Methods on the same rows. `str()` gives the table; notebooks show it with its picture."""

    task: str
    measure: str
    less_is_better: bool
    methods: tuple[Method, ...]
    """The rows of the table, as they were given; the first one is what others are compared with."""
    results: Mapping[str, Result]
    """By method; `results[a].rows[i]` and `results[b].rows[i]` are of the same question."""
    questions: tuple[Mapping[str, Any], ...]
    """The inputs of the rows that were asked, in their order."""

    def __getitem__(self, name: str) -> Method:
        for method in self.methods:
            if method.name == name:
                return method
        raise DataError(f"no method {name!r}; there are {', '.join(method.name for method in self.methods)}")

    def __str__(self) -> str:
        return self.to_markdown()

    @property
    def percent(self) -> bool:
        """Whether the measure is a share, shown in percent."""
        return all(0 <= method.score.value <= 1 for method in self.methods) and self.is_of_rows

    @property
    def is_of_rows(self) -> bool:
        """Whether each row has the measure; a corpus' perplexity is of all rows together."""
        return all(self.measure in result.rows[0].metrics for result in self.results.values())

    def break_even(self, tuned: str, other: str) -> float:
        """After how many calls tuning and serving `tuned` has taken less time than serving `other`.

        training seconds / (seconds a call of `other` - seconds a call of `tuned`), rounded up; 0 where it is cheaper
        from the first call on, infinity where it never is. Raises DataError where training seconds are not known.
        """
        return break_even(self[tuned], self[other])

    def disagreements(self) -> Iterator[Disagreement]:
        """Rows on which the values of the measure differ, or the predictions where rows have no value of it."""
        for place, inputs in enumerate(self.questions):
            rows = {name: result.rows[place] for name, result in self.results.items() if place < len(result.rows)}
            values = {name: row.metrics[self.measure] for name, row in rows.items() if self.measure in row.metrics}
            predictions = {name: row.prediction for name, row in rows.items()}
            if len(set(values.values() if values else predictions.values())) > 1:
                first = next(iter(rows.values()))
                yield Disagreement(
                    id=first.id, inputs=inputs, target=first.target, predictions=predictions, values=values
                )

    def to_pandas(self) -> Any:
        """A DataFrame with a row a method; numbers as they are, not in percent."""
        import pandas  # noqa: PLC0415 - half a second that only this needs

        told = [method.model_dump() for method in self.methods]
        flat = [{key: value for name, found in row.items() for key, value in _flat(name, found)} for row in told]
        return pandas.DataFrame(flat).set_index("name")

    def to_markdown(self) -> str:
        """The table as Markdown."""
        return markdown(self.methods, self.percent)

    def to_html(self, path: str | Path | None = None, *, shown: int = SHOWN) -> str:
        """One page that needs nothing else: the table, charts, and the rows where the methods disagree.

        The first `shown` of them. Also written to `path` if given. Whatever comes from data or models is shown as text.
        """
        if not isinstance(shown, int) or shown < 0:
            raise SettingsError(f"shown={shown!r:.40}: give the number of rows to show, 0 for none")
        text = page(self, list(self.disagreements()), shown)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
        return text

    def _repr_html_(self) -> str:
        return fragment(self)

    def plot(self, path: str | Path | None = None) -> Any:
        """Scores with their intervals, and scores against time, as a matplotlib figure; also written to `path`."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only plots need
        from matplotlib.ticker import NullFormatter, StrMethodFormatter  # noqa: PLC0415

        figure = Figure(figsize=(12, 1.6 + 0.45 * len(self.methods)), layout="constrained")
        scores, costs = figure.subplots(1, 2)
        factor = 100 if self.percent else 1
        for place, method in enumerate(self.methods):
            value, low, high = (factor * number for number in bounds(method.score))
            scores.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", capsize=4)
            costs.plot(max(method.milliseconds, 1e-3), value, "o", label=_plain(method.name))
        unit = f"{self.measure} (%)" if self.percent else self.measure
        scores.set(xlabel=_plain(unit), yticks=range(len(self.methods)))
        scores.set_yticklabels([_plain(method.name) for method in self.methods])
        scores.invert_yaxis()
        costs.set(xlabel="milliseconds a call", ylabel=_plain(unit), xscale="log")
        costs.xaxis.set_minor_formatter(NullFormatter())  # they would run into each other
        costs.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        costs.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        for axes in (scores, costs):
            axes.grid(alpha=0.3)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def bounds(score: Estimate) -> tuple[float, float, float]:
    """Value, low and high, with the value for an end that is not finite: there is no end to draw."""
    low, high = (end if math.isfinite(end) else score.value for end in (score.low, score.high))
    return score.value, low, high


def break_even(tuned: Method, other: Method) -> float:
    """See `Comparison.break_even`."""
    if tuned.training_seconds is None:
        raise DataError(f"{tuned.name!r} has no record of its training time, so no break-even can be told")
    saved = (other.milliseconds - tuned.milliseconds) / 1000
    if saved <= 0:
        return math.inf
    return math.ceil(tuned.training_seconds / saved)


def _flat(name: str, value: Any) -> Sequence[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [(name if key == "value" else f"{name}_{key}", part) for key, part in value.items()]


def _plain(text: str) -> str:
    """A dollar would begin mathematics in matplotlib."""
    return text.replace("$", r"\$")
