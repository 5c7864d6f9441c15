from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableLambda

from condition.data import NO_ANSWER
from condition.errors import BudgetError, DataError, ModelError, PromptError
from condition.evaluation import tasks
from condition.evaluation.evaluate import Result, evaluate
from condition.evaluation.statistics import estimate
from condition.evaluation.tasks import Task, TaskRow
from condition.prompts.template import ChatPrompt
from condition.protocols import Control
from condition.types import Answer, Completion, Messages, Sampling, Usage

ROWS: list[dict[str, Any]] = [
    {
        "id": str(i),
        "context": f"Passage {i // 2}.",
        "question": f"Q{i}?",
        "answers": {"text": [f"a{i}"] if i % 3 else []},
    }
    for i in range(6)
]
TASK = tasks.squad_v2(ROWS)
GOLD = {row["question"]: (row["answers"]["text"] or [NO_ANSWER])[0] for row in ROWS}


class Oracle:
    """Knows the answers; writes down what it was asked."""

    name = "oracle"

    def __init__(self) -> None:
        self.asked: list[Messages] = []
        self.sampling: Sampling | None = None

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        self.asked += prompts
        self.sampling = sampling
        usage = Usage(input_tokens=2, output_tokens=1)
        return [[Completion(GOLD["Q" + p[-1].content.rpartition("Q")[2]], usage=usage)] for p in prompts]


class Chain:
    def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
        return Answer(GOLD[inputs["question"]], usage=Usage(output_tokens=3))

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        return [self.invoke(i) for i in inputs]


def perfect(result: Result) -> None:
    assert [row.prediction for row in result.rows] == list(GOLD.values())
    assert result.metrics["exact"].value == result.metrics["f1"].value == 1
    assert result.metrics["exact"].n == 6


def test_a_model_behind_the_tasks_prompt() -> None:
    oracle = Oracle()
    result = evaluate(oracle, TASK)
    perfect(result)
    assert oracle.asked[0] == tasks.SQUAD_PROMPT.format(context="Passage 0.", question="Q0?")
    assert oracle.sampling == TASK.sampling
    assert result.usage == Usage(input_tokens=12, output_tokens=6)


@pytest.mark.parametrize("prompt", [ChatPrompt([("user", "{question}")]), "{question}", [("user", "{question}")]])
def test_a_model_behind_another_prompt(prompt: Any) -> None:
    oracle = Oracle()
    perfect(evaluate((oracle, prompt), TASK))
    assert oracle.asked[0][0].content == "Q0?"


def test_a_function_of_the_inputs() -> None:
    perfect(evaluate(lambda inputs: GOLD[inputs["question"]], TASK))
    perfect(evaluate(lambda inputs: Answer(GOLD[inputs["question"]]), TASK))  # type: ignore[arg-type, return-value]


def test_a_chain_and_a_langchain_runnable() -> None:
    result = evaluate(Chain(), TASK)
    perfect(result)
    assert result.usage.output_tokens == 18
    perfect(evaluate(RunnableLambda(lambda inputs: Answer(GOLD[inputs["question"]])), TASK))


def test_a_chat_model_of_langchain() -> None:
    for subject in (Speaker(), (Speaker(), "{question}")):
        perfect(evaluate(subject, TASK))  # type: ignore[arg-type]


class Speaker(SimpleChatModel):
    _llm_type = "speaker"

    def _call(self, messages: list[BaseMessage], *args: Any, **keywords: Any) -> str:
        return GOLD["Q" + str(messages[-1].content).rpartition("Q")[2]]


def test_a_local_model(tiny_model: Any) -> None:
    task = tasks.squad_v2(ROWS, max_tokens=3)
    model = tiny_model("llama")
    result = evaluate(model, task)
    own = evaluate(model.with_prompt("Say {question}"), task)
    pair = evaluate((model, "Say {question}"), task)
    assert [r.prediction for r in own.rows] == [r.prediction for r in pair.rows]
    assert len(result.rows) == 6
    assert 0 < result.usage.output_tokens <= 18
    assert result.usage.input_tokens > own.usage.input_tokens
    assert evaluate(model, task).rows == result.rows


def test_parts_and_the_best_constant() -> None:
    def first(inputs: Mapping[str, Any]) -> str:
        return "a1" if inputs["question"] == "Q1?" else NO_ANSWER

    result = evaluate(first, TASK)
    values = {name: estimate.value for name, estimate in result.metrics.items()}
    # Rows 0 and 3 have no answer, row 1 is right: 3 of 6; the constant has 2 of 6.
    assert values["exact"] == pytest.approx(3 / 6)
    assert values["exact_unanswerable"] == 1
    assert values["exact_answerable"] == pytest.approx(1 / 4)
    assert values["constant_exact"] == pytest.approx(2 / 6)
    assert values["over_constant_exact"] == pytest.approx(1 / 6)
    assert values["over_constant_f1"] == pytest.approx(1 / 6)
    assert result.constant == NO_ANSWER
    assert result.metrics["exact_answerable"].n == 4
    assert result.rows[1].splits == ("answerable",)
    text = str(result)
    assert "squad_v2: 6 rows" in text
    assert "exact_unanswerable" in text


def test_the_best_of_several_constants_is_reported() -> None:
    rows = [TaskRow(str(i), {"q": i}, "yes" if i else "no", str(i)) for i in range(3)]

    def right(prediction: str, target: Any, /) -> Mapping[str, float]:
        return {"right": float(prediction == target)}

    task = Task("votes", rows, right, prompt=ChatPrompt([("user", "{q}")]), constants=("no", "yes"))
    result = evaluate(lambda inputs: "no", task)
    assert result.constant == "yes"
    assert result.metrics["constant_right"].value == pytest.approx(2 / 3)
    assert result.metrics["over_constant_right"].value == pytest.approx(-1 / 3)
    bare = evaluate(lambda inputs: "no", Task("votes", rows, right, prompt=task.prompt))
    assert bare.constant is None
    assert list(bare.metrics) == ["right"]


def test_rows_of_one_passage_say_nothing_about_others() -> None:
    rows = [{**row, "context": "one"} for row in ROWS]
    result = evaluate(lambda inputs: NO_ANSWER, tasks.squad_v2(rows))
    estimate = result.metrics["exact"]
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize(("budget", "asked"), [(1, 1), (4, 4), (100, 6), (None, 6)])
def test_a_budget_is_the_most_rows(budget: int | None, asked: int) -> None:
    oracle = Oracle()
    result = evaluate(oracle, TASK, budget=budget)
    assert len(oracle.asked) == len(result.rows) == result.metrics["f1"].n == asked


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing(budget: int) -> None:
    with pytest.raises(BudgetError, match="at least one row"):
        evaluate(Oracle(), TASK, budget=budget)


class Short(Chain):
    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        return super().batch(inputs)[:-1]


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (5, "can't evaluate int"),
        ("gpt", "can't evaluate str"),
        (RunnableLambda(lambda inputs: 7), "RunnableLambda.batch gave int, which has no text"),
        (lambda inputs: None, "gave NoneType, which has no text"),
        (lambda inputs: 7, "gave int, which has no text"),
        (Oracle, "Oracle is a class: give an instance"),
        (Short(), "5 answers to 6 rows"),
        ((5, "{question}"), "int"),
        ((Oracle(),), r"\(model, prompt\)"),
        ((Oracle(), "{question}", 1), r"\(model, prompt\)"),
    ],
)
def test_what_can_not_be_evaluated(subject: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        evaluate(subject, TASK)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ROWS, r"evaluate takes a task, not .*: give cd\.tasks\.squad_v2\(rows\)"),
        ("dev.json", r"give cd\.tasks\.squad_v2\('dev\.json'\)"),
        (Path("dev.json"), r"give cd\.tasks\.squad_v2\('dev\.json'\)"),
        (tasks.squad_v2, r"give cd\.tasks\.squad_v2\(rows\)"),
    ],
)
def test_what_is_no_task(task: Any, message: str) -> None:
    oracle = Oracle()
    with pytest.raises(DataError, match=message):
        evaluate(oracle, task)
    assert oracle.asked == []


def test_arguments_in_the_other_order() -> None:
    subject: Any = Oracle()
    with pytest.raises(DataError, match=r"the subject comes first, and Task\('squad_v2', 6 rows\) second"):
        evaluate(TASK, subject)  # type: ignore[arg-type]  # the point of the test


def test_a_prompt_that_asks_for_more_than_the_rows_have() -> None:
    with pytest.raises(PromptError, match="no value for 'hint'"):
        evaluate((Oracle(), "{question} {hint}"), TASK)


def test_errors_of_a_subject_come_through() -> None:
    def broken(inputs: Mapping[str, Any]) -> str:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        evaluate(broken, TASK)


@pytest.mark.parametrize("values", [{}, 1.0, {"f1": float("nan")}, {"f1": "high"}])
def test_a_metric_that_gives_no_finite_numbers(values: Any) -> None:
    task = Task("odd", TASK.rows, lambda prediction, target: values, prompt="{question}")
    with pytest.raises(DataError, match=r"odd, row .*: the metric gave"):
        evaluate(lambda inputs: "x", task)


def test_langchain_pipelines_answer_rows() -> None:
    said = evaluate(RunnableLambda(lambda inputs: "plain"), TASK)
    assert {row.prediction for row in said.rows} == {"plain"}
    messages = evaluate(lambda inputs: AIMessage("plain", usage_metadata=USAGE), TASK)
    assert {row.prediction for row in messages.rows} == {"plain"}
    assert messages.usage.input_tokens == 3 * len(TASK.rows)


USAGE: Any = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}


def test_every_interval_is_over_passages() -> None:
    """Twelve passages of four questions; whole passages are right or wrong, so that by rows intervals were halved."""
    rows = [
        TaskRow(f"{p}-{q}", {"p": p, "q": q}, "yes" if (p + q) % 2 else "no", f"passage {p}")
        for p in range(12)
        for q in range(4)
    ]
    right = {"yes": "yes", "no": "no"}

    def subject(inputs: Mapping[str, Any]) -> str:
        target = "yes" if (inputs["p"] + inputs["q"]) % 2 else "no"
        return right[target] if inputs["p"] % 3 else "neither"

    task = Task(
        "t",
        rows,
        lambda said, target: {"same": float(said == target)},
        prompt="{p} {q}",
        splits=lambda row: (row.target,),
        constants=("yes",),
    )
    found = evaluate(subject, task).metrics
    values = [float(row.inputs["p"] % 3 > 0) for row in rows]
    constant = [float(row.target == "yes") for row in rows]
    clusters = [row.cluster for row in rows]
    odd = [i for i, row in enumerate(rows) if row.target == "yes"]
    assert found["same"] == estimate(values, clusters, bounds=(0, 1))
    assert found["same_yes"] == estimate([values[i] for i in odd], [clusters[i] for i in odd], bounds=(0, 1))
    assert found["constant_same"] == estimate(constant, clusters, bounds=(0, 1))
    differences = [v - c for v, c in zip(values, constant, strict=True)]
    assert found["over_constant_same"] == estimate(differences, clusters, bounds=(-1, 1))
    assert found["same"] != estimate(values, bounds=(0, 1))


def test_the_best_constant_is_best_by_the_last_measure() -> None:
    rows = [TaskRow(str(i), {"x": i}, "t", str(i)) for i in range(3)]
    scores = {"a": {"exact": 1.0, "f1": 0.2}, "b": {"exact": 0.0, "f1": 0.5}}
    task = Task("t", rows, lambda said, _: scores[said], prompt="{x}", constants=("a", "b"))
    assert evaluate(lambda inputs: "a", task).constant == "b"


def test_the_best_constant_where_less_is_better_and_where_another_measure_decides() -> None:
    rows = [TaskRow(str(i), {"x": i}, "t", str(i)) for i in range(3)]
    scores = {"a": {"errors": 2.0, "other": 0.1}, "b": {"errors": 1.0, "other": 0.0}}
    told: dict[str, Any] = {"prompt": "{x}", "constants": ("a", "b")}
    less = Task("t", rows, lambda said, _: scores[said], headline="errors", less_is_better=("errors",), **told)
    assert evaluate(lambda inputs: "a", less).constant == "b"
    assert evaluate(lambda inputs: "b", Task("t", rows, lambda said, _: scores[said], **told)).constant == "a"


def test_only_shares_are_shown_in_percent() -> None:
    rows = [TaskRow(str(i), {"x": i}, "t", str(i)) for i in range(3)]
    task = Task("t", rows, lambda said, _: {"right": 1.0, "words": float(len(said.split()))}, prompt="{x}")
    lines = str(evaluate(lambda inputs: "three words here", task)).splitlines()
    assert lines[1:] == ["right  100.0 [29.2, 100.0] %  n=3", "words  3 [3, 3]  n=3"]


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.True_, True, 1, np.int64(1)])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    rows = [TaskRow("1", {"x": 1}, "t")]
    found = evaluate(lambda inputs: "x", Task("t", rows, lambda said, _: {"a": value}, prompt="{x}"))
    assert found.metrics["a"].value == float(value)
    assert type(found.rows[0].metrics["a"]) is float


def test_a_metric_that_fails_says_for_which_row() -> None:
    rows = [TaskRow("7", {"x": 1}, None)]
    with pytest.raises(TypeError) as failed:
        evaluate(lambda inputs: "said", Task("t", rows, lambda said, target: {"a": len(target)}, prompt="{x}"))
    assert "t, row 7: the metric failed for the prediction 'said' and the target None" in failed.value.__notes__[0]
