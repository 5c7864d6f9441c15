"""Perplexity of texts: how surprised a model is, a token, a word and a byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from condition.data.read import locate
from condition.errors import DataError, ModelError
from condition.evaluation.metrics.likelihood import PERPLEXITIES, counts
from condition.evaluation.metrics.likelihood import perplexity as of_sums
from condition.evaluation.tasks.task import Pooled, Reply, Task, TaskRow
from condition.prompts.template import TextPrompt
from condition.types import Example, Score


def perplexity(path_or_rows: object, /, *, column: str = "text") -> Task:
    """Perplexity of whole texts, each from its first token on, in windows of the model's context.

    The measures are of all texts together: `token_perplexity`, `word_perplexity` (the headline), `byte_perplexity` and
    `bits_per_byte`, those of words and bytes as lm-evaluation-harness counts them. `text_bits_per_byte` is the mean of
    the texts' own. Only a subject that scores has them. Rows are texts, or have one in `column`.
    """
    rows = []
    for row, where in locate(_rows(path_or_rows, column)):
        example = row.get("__example__")
        text = example.target if isinstance(example, Example) else row.get(column)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: {column!r} is empty or no text: {text!r:.60}")
        rows.append(TaskRow(str(row.get("id", where)), {}, text, choices=(text,)))
    return Task(
        "perplexity",
        rows,
        measure=_measure,
        prompt=TextPrompt(""),
        pooled={name: Pooled(_counted, partial(_total, name)) for name in PERPLEXITIES},
        headline="word_perplexity",
        less_is_better=(*PERPLEXITIES, "text_bits_per_byte"),
    )


def _rows(source: object, column: str) -> object:
    """Bare texts as rows."""
    if isinstance(source, list | tuple) and any(isinstance(one, str) for one in source):
        return [{column: one} if isinstance(one, str) else one for one in source]
    return source


def _score(reply: Reply) -> Score:
    if reply.scores is None:
        raise ModelError("this subject writes and can't say how likely a text is: a perplexity needs a model's score")
    return reply.scores[0]


def _counted(row: TaskRow, reply: Reply) -> tuple[float, ...]:
    return counts(_score(reply), row.target)


def _total(name: str, sums: Sequence[float]) -> float:
    return of_sums(sums)[name]


def _measure(row: TaskRow, reply: Reply) -> Mapping[str, float]:
    return {"text_bits_per_byte": of_sums(_counted(row, reply))["bits_per_byte"]}
