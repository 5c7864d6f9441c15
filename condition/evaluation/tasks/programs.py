"""Programs that are run against tests, in the sandbox: HumanEval and MBPP.

task = human_eval("HumanEval.jsonl.gz", samples=20, k=(1, 10))
evaluate(model, task).metrics["pass@10"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from condition.data.read import locate
from condition.errors import DataError, SettingsError
from condition.evaluation.metrics.code import pass_at_k
from condition.evaluation.sandbox import Isolation, Limits, check_isolation, run
from condition.evaluation.tasks.fields import field
from condition.evaluation.tasks.shots import Form, asked, given
from condition.evaluation.tasks.task import Measure, Reply, Task, TaskRow
from condition.types import Example, Sampling

LIMITS = Limits(seconds=10)
HUMAN_EVAL_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```")
MBPP_STOPS = ("[DONE]",)
MBPP_QUESTION = (
    "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n{tests}"
)
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def human_eval(
    path_or_rows: object,
    /,
    *,
    k: int | Sequence[int] = 1,
    samples: int | None = None,
    temperature: float | None = None,
    form: Form = "text",
    limits: Limits = LIMITS,
    isolation: Isolation = "full",
    max_tokens: int = 512,
) -> Task:
    """HumanEval: a function is written from its docstring and run against tests. Chen et al. 2021, arXiv 2107.03374.

    Measures: `pass@k` for each `k`, unbiased, from `samples` programs a problem (the largest `k` where it is left out);
    several are drawn at temperature 0.8, as in the paper, one greedily. A reply continues the function, or holds it
    whole, between fences or bare. Rows have `task_id`, `prompt`, `entry_point` and `test`.

    Raises SettingsError, before any model is asked, where this system can't isolate generated code: see
    `evaluation.sandbox`.
    """
    rows = []
    for row, where in locate(path_or_rows):
        inputs = {name: field(row, where, name) for name in ("prompt", "entry_point")}
        inputs["indented"] = inputs["prompt"].strip()
        rows.append(TaskRow(str(row.get("task_id", where)), inputs, field(row, where, "test")))
    question = "{prompt}" if form == "text" else "Complete this function.\n\n```python\n{indented}\n```"
    stops = HUMAN_EVAL_STOPS if form == "text" else ()
    sampling, ks = _sampling(k, samples, temperature, max_tokens, stops)
    measure = _measure(_human_eval_program, ks, limits, isolation)
    return _isolated(
        Task("human_eval", rows, measure=measure, prompt=asked(form, question), sampling=sampling), isolation
    )


def mbpp(
    path_or_rows: object,
    /,
    *,
    shots: object = (),
    k: int | Sequence[int] = 1,
    samples: int | None = None,
    temperature: float | None = None,
    form: Form = "text",
    limits: Limits = LIMITS,
    isolation: Isolation = "full",
    max_tokens: int = 512,
) -> Task:
    """MBPP: a function is written from a sentence and three tests. Austin et al. 2021, arXiv 2108.07732.

    As `human_eval`. Rows have `text` (or `prompt`), `test_list`, `test_setup_code` and, as `shots`, `code`; the
    original shows the tasks 2, 3 and 4.
    """
    rows, examples = [], []
    for row, where in locate(path_or_rows):
        tests, setup = _tests(row, where), field({"test_setup_code": "", **row}, where, "test_setup_code", empty=True)
        inputs = {"text": field(row, where, "text", "prompt"), "tests": "\n".join(tests)}
        rows.append(TaskRow(str(row.get("task_id", where)), inputs, "\n".join([setup, *tests])))
    for row, where in locate(shots) if given(shots) else ():
        inputs = {"text": field(row, where, "text", "prompt"), "tests": "\n".join(_tests(row, where))}
        code = field(row, where, "code").replace("\r\n", "\n").strip()
        examples.append(Example(inputs, f"\n{code}\n[DONE]" if form == "text" else f"```python\n{code}\n```", id=where))
    sampling, ks = _sampling(k, samples, temperature, max_tokens, MBPP_STOPS if form == "text" else ())
    measure = _measure(_mbpp_program, ks, limits, isolation)
    prompt = asked(form, MBPP_QUESTION + ("\n[BEGIN]" if form == "text" else ""), examples)
    return _isolated(Task("mbpp", rows, measure=measure, prompt=prompt, sampling=sampling), isolation)


def _isolated(task: Task, isolation: Isolation) -> Task:
    if isolation == "full":
        check_isolation()
    return task


def _sampling(
    k: int | Sequence[int], samples: int | None, temperature: float | None, max_tokens: int, stops: tuple[str, ...]
) -> tuple[Sampling, tuple[int, ...]]:
    ks = (k,) if isinstance(k, int) else tuple(k)
    if not ks or min(ks) < 1:
        raise SettingsError(f"k={k!r}: give the k of pass@k, one or several, each at least 1")
    n = samples or max(ks)
    if n < max(ks):
        raise SettingsError(f"pass@{max(ks)} needs samples={max(ks)} at the least; samples={samples}")
    warm = temperature if temperature is not None else 0.0 if n == 1 else 0.8
    if n > 1 and warm == 0:
        raise SettingsError(f"{n} samples at temperature 0 are all the same: give another temperature")
    return Sampling(n=n, temperature=warm, max_tokens=max_tokens, stop=stops), ks


def _measure(
    program: Callable[[TaskRow, str], str], ks: tuple[int, ...], limits: Limits, isolation: Isolation
) -> Measure:
    def measure(row: TaskRow, reply: Reply) -> Mapping[str, float]:
        texts = reply.samples or (reply.text,)
        passes = partial(_passes, limits=limits, isolation=isolation)
        with ThreadPoolExecutor(min(4, len(texts))) as pool:
            correct = sum(pool.map(passes, [program(row, text) for text in texts]))
        return {f"pass@{k}": pass_at_k(len(texts), correct, k) for k in ks}

    return measure


def _passes(program: str, *, limits: Limits, isolation: Isolation) -> bool:
    return run(program, limits, isolation=isolation).passed


def _human_eval_program(row: TaskRow, text: str) -> str:
    """The prompt, what continues or replaces it, the tests, and the call that checks."""
    prompt, name = row.inputs["prompt"], row.inputs["entry_point"]
    code = _code(text, name)
    if not re.search(rf"^def\s+{re.escape(name)}\s*\(", code, re.MULTILINE):
        first = code.lstrip("\n")
        if first and not first[0].isspace():  # chat models leave the indentation of the first line out
            code = f"    {first}"
        whole = f"{prompt.rstrip()}\n{code}" if prompt.endswith("\n") else f"{prompt}{code}"
    else:
        whole = f"{prompt}\n\n{code}"  # the prompt's own function has a docstring for a body, and is replaced
    return f"{whole}\n\n{row.target}\n\ncheck({name})\n"


def _mbpp_program(row: TaskRow, text: str) -> str:
    return f"{_code(text, 'def ')}\n\n{row.target}\n"


def _code(text: str, wanted: str) -> str:
    """What stands between fences, the block that has `wanted` in it first; else all of it."""
    text = text.replace("\r\n", "\n")
    blocks = [str(block) for block in _FENCED.findall(text)]
    return next((block for block in blocks if wanted in block), blocks[0] if blocks else text)


def _tests(row: Mapping[str, Any], where: str) -> list[str]:
    tests: Any = row.get("test_list")
    if hasattr(tests, "tolist"):
        tests = tests.tolist()
    if not isinstance(tests, list | tuple) or not tests or not all(isinstance(test, str) for test in tests):
        raise DataError(f"{where}: 'test_list' is expected to be a list of assertions, got {tests!r:.60}")
    return list(tests)


__all__ = ["LIMITS", "human_eval", "mbpp"]
