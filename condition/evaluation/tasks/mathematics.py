"""Competition mathematics: MATH. Hendrycks et al. 2021, arXiv 2103.03874."""

from __future__ import annotations

from condition.data.read import locate
from condition.errors import DataError
from condition.evaluation.metrics.expressions import expression, final
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.shots import Form, asked, given
from condition.evaluation.tasks.task import Task, TaskRow
from condition.types import Example, Sampling

INSTRUCTION = r"Solve the problem step by step. Put the final answer in \boxed{{}}."


def math(
    path_or_rows: object, /, *, shots: object = (), k: int | None = None, form: Form = "text", max_tokens: int = 512
) -> Task:
    r"""MATH: a solution is written, what it puts in `\boxed{}` is compared by value: see `metrics.expression`.

    Rows have `problem` and `solution`, as the original, or `question` and `answer`, as AGIEval. `shots` are rows with
    solutions; four are usual. Reported in all, and by `type` and `level` where rows have them.
    """
    rows, examples = [], []
    for row, where in locate(path_or_rows):
        answer = field(row, where, "answer") if "solution" not in row else field(row, where, "solution")
        if not final(answer).strip():
            raise DataError(f"{where}: the solution has no answer: {answer!r:.80}")
        inputs = {"problem": field(row, where, "problem", "question"), **{n: str(row.get(n) or "") for n in _PARTS}}
        rows.append(TaskRow(str(row.get("id", where)), inputs, answer))
    for row, where in locate(shots) if given(shots) else ():
        problem = field(row, where, "problem", "question")
        examples.append(Example({"problem": problem}, field(row, where, "solution", "answer"), id=where))
    return Task(
        "math",
        rows,
        expression,
        prompt=asked(form, "Problem:\n{problem}\n\nSolution:", examples, instruction=INSTRUCTION, k=k),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.0, stop=("Problem:",) if form == "text" else ()),
        splits=lambda row: [row.inputs[name].replace(" ", "_") for name in _PARTS if row.inputs[name]],
    )


_PARTS = ("type", "level")
