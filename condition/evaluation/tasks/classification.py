"""Labels of texts: sentiment, topics, spam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.metrics.choices import Choices, calibrated, likeliest, read_choice
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.shots import Form, asked, given
from condition.evaluation.tasks.task import Measure, Reply, Task, TaskRow
from condition.prompts.calibrate import CONTENT_FREE
from condition.types import Example, Sampling


def classification(
    path_or_rows: object,
    /,
    labels: Sequence[Any] | Mapping[Any, str],
    *,
    text: str = "text",
    label: str = "label",
    shots: object = (),
    k: int | None = None,
    form: Form = "text",
    instruction: str | None = None,
    calibrate: bool = False,
    written: bool = False,
) -> Task:
    """Texts with one of some labels, which are scored as words behind each text.

    `labels` are the labels as the rows have them in their column `label`; a mapping gives each the words that a model
    says, {0: "negative", 1: "positive"}. With `written` they are asked for instead, and read by `metrics.read_choice`.
    Measures: `accuracy`, in all and by label, and with `calibrate` also `accuracy_calibrated`. The best constant label
    is reported beside. Raises DataError for a row whose label is not among them.
    """
    words = {str(one): str(word) for one, word in labels.items()} if isinstance(labels, Mapping) else {}
    words = words or {str(one): str(one) for one in labels}
    if isinstance(labels, str) or len(words) < 2 or len(set(words.values())) < len(words):
        raise DataError(f"labels={labels!r:.80}: give two or more, each with words of its own")
    choices = tuple(words.values())
    rows = [_row(row, where, words, text, label, () if written else choices) for row, where in locate(path_or_rows)]
    examples = [
        Example(made.inputs, made.target, id=made.id)
        for made in (_row(row, where, words, text, label, ()) for row, where in (locate(shots) if given(shots) else ()))
    ]
    told = f"{instruction or 'Label the text.'} Answer with one of: {', '.join(choices)}."
    return Task(
        "classification",
        rows,
        measure=_measure(choices, calibrate and not written),
        prompt=asked(
            form, "Text: {text}\nLabel:", examples, instruction=told.replace("{", "{{").replace("}", "}}"), k=k
        ),
        sampling=Sampling(temperature=0.0, max_tokens=16, stop=("\n",) if form == "text" else ()),
        splits=lambda row: (str(row.target).replace(" ", "_"),),
        constants=choices,
        references=[{"text": word} for word in CONTENT_FREE] if calibrate and not written else (),
        headline="accuracy_calibrated" if calibrate and not written else "accuracy",
    )


def _row(
    row: Mapping[str, Any], where: str, words: Mapping[str, str], text: str, label: str, choices: tuple[str, ...]
) -> TaskRow:
    example = row.get("__example__")
    said = example.target if isinstance(example, Example) else row.get(label)
    if str(said) not in words:
        known = {word: word for word in words.values()} if isinstance(example, Example) else {}
        if str(said) not in known:
            raise DataError(f"{where}: the label {said!r:.60} is not among {', '.join(map(repr, words))}")
        return TaskRow(example.id or where, {"text": field(row, where, text)}, str(said), choices=choices)  # type: ignore[union-attr]  # known is empty otherwise
    return TaskRow(str(row.get("id", where)), {"text": field(row, where, text)}, words[str(said)], choices=choices)


def _measure(choices: tuple[str, ...], calibrate: bool) -> Measure:
    def measure(row: TaskRow, reply: Reply) -> Mapping[str, float]:
        correct = choices.index(row.target)
        if reply.scores is None:
            said = read_choice(reply.text, choices)
            right = float(said == correct)
            both = {"accuracy_calibrated": right} if calibrate else {}
            return {"unmatched": float(said is None), "accuracy": right, **both}
        size = len(choices)
        lists = [Choices(choices, reply.scores[i : i + size]) for i in range(0, len(reply.scores), size)]
        found = {"accuracy": float(likeliest(lists[0]) == correct)}
        if calibrate:
            found["accuracy_calibrated"] = float(calibrated(lists[0], [one.scores for one in lists[1:]]) == correct)
        return found

    return measure
