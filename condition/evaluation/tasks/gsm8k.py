"""Grade-school arithmetic in words. Cobbe et al. 2021, arXiv 2110.14168."""

from __future__ import annotations

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.metrics.numbers import number
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.shots import Form, asked, given
from condition.evaluation.tasks.task import Task, TaskRow
from condition.types import Example, Sampling

STOPS = ("Question:", "</s>", "<|im_end|>")


def gsm8k(
    path_or_rows: object, /, *, shots: object = (), k: int | None = None, form: Form = "text", max_tokens: int = 256
) -> Task:
    """GSM8K: a solution is written, its last number counts. Rows have `question` and `answer` ("… #### 18").

    `shots` are training rows, shown with their solutions; five are usual. Measures: `strict` and `flexible` as
    lm-evaluation-harness extracts and compares them, and `number`, the headline: see `metrics.number`.
    """
    rows = []
    for row, where in locate(path_or_rows):
        question, answer = field(row, where, "question"), field(row, where, "answer")
        try:
            number("", answer)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        rows.append(TaskRow(str(row.get("id", where)), {"question": question}, answer))
    examples = [
        Example({"question": field(row, where, "question")}, field(row, where, "answer"), id=where)
        for row, where in (locate(shots) if given(shots) else ())
    ]
    instruction = "Solve the problem step by step. End with a line: #### and the number." if form == "chat" else None
    return Task(
        "gsm8k",
        rows,
        number,
        prompt=asked(form, "Question: {question}\nAnswer:", examples, instruction=instruction, k=k),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0, stop=STOPS if form == "text" else ()),
        headline="number",
    )
