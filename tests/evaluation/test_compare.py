from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condition.adapters.lora import LoRA
from condition.errors import BudgetError, DataError, Interrupted, SettingsError
from condition.evaluation.compare import compare
from condition.evaluation.evaluate import evaluate
from condition.evaluation.paired import compared, holm, mcnemar
from condition.evaluation.tasks.classification import classification
from condition.evaluation.tasks.task import Pooled, Task, TaskRow
from condition.prompts.template import ChatPrompt
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example, Sampling


def same(prediction: str, target: Any, /) -> Mapping[str, float]:
    return {"same": float(prediction == target)}


def rows(count: int, cluster: int = 1) -> list[TaskRow]:
    return [TaskRow(str(i), {"q": f"Q{i}", "n": i}, f"A{i}", f"c{i // cluster}") for i in range(count)]


def task(count: int = 40, cluster: int = 1, **changes: Any) -> Task:
    return Task("t", rows(count, cluster), same, prompt=ChatPrompt([("user", "{q}")]), **changes)


def right(share: float, seed: int = 0) -> Any:
    """Answers a share of the rows, always the same ones."""
    known = np.random.default_rng(seed).random(2000) < share

    def answer(inputs: Mapping[str, Any]) -> str:
        return f"A{inputs['n']}" if known[inputs["n"]] else "?"

    return answer


def test_a_table_by_hand() -> None:
    table = compare({"half": lambda i: f"A{i['n']}" if i["n"] % 2 else "?", "all": lambda i: f"A{i['n']}"}, task())
    half, every = table.methods
    assert (half.name, half.score.value, half.difference, half.p) == ("half", 0.5, None, None)
    assert every.score.value == 1
    assert every.difference is not None
    assert every.difference.value == 0.5
    assert (every.p, every.test) == (mcnemar(20, 0), "McNemar")
    assert every.p_corrected == every.p  # one comparison
    assert half.score == evaluate(lambda i: f"A{i['n']}" if i["n"] % 2 else "?", task()).metrics["same"]
    assert table["all"] == every
    assert table.measure == "same"
    assert [one.id for one in table.disagreements()] == [str(i) for i in range(0, 40, 2)]
    first = next(table.disagreements())
    assert (first.predictions, first.values) == ({"half": "?", "all": "A0"}, {"half": 0, "all": 1})
    assert first.inputs == {"q": "Q0", "n": 0}


def test_differences_are_from_the_first_row_and_corrected() -> None:
    subjects = {"a": right(0.5), "b": right(0.6, 1), "c": right(0.9, 2)}
    table = compare(subjects, task(200))
    values = {name: [row.metrics["same"] for row in table.results[name].rows] for name in subjects}
    expected = {name: compared(values["a"], values[name]) for name in "bc"}
    assert {name: table[name].difference for name in "bc"} == {
        name: found.difference for name, found in expected.items()
    }
    assert [table[name].p_corrected for name in "bc"] == holm([expected[name].p for name in "bc"])


def test_rows_of_a_passage_are_compared_together() -> None:
    table = compare({"a": right(0.3), "b": right(0.6, 1)}, task(60, cluster=5))
    assert table["b"].test == "paired bootstrap"
    assert "60 rows" in table.to_markdown()


def test_a_table_says_what_one_answer_to_everything_scores() -> None:
    held = classification(
        [{"text": f"row {i}", "label": "ab"[i % 5 == 0]} for i in range(60)], labels=["a", "b"], written=True
    )
    subjects = {
        "all a": lambda inputs: "a",
        "some": lambda inputs: "ab"[int(str(inputs["text"]).split()[1]) % 7 == 0],
        "right": lambda inputs: "ab"[int(str(inputs["text"]).split()[1]) % 5 == 0],
    }
    table = compare(subjects, held)
    assert table["right"].constant == "a"
    assert table["right"].constant_score is not None
    assert table["right"].constant_score.value == pytest.approx(0.8)
    assert table["some"].over_constant is not None
    assert table["some"].over_constant.value < 0
    assert "Answering 'a' to everything scores 80.0 [" in table.to_markdown()
    assert table.to_markdown().count("; surely above it: right.") == 1
    assert "no method is surely above it" in compare({k: subjects[k] for k in ("all a", "some")}, held).to_markdown()
    assert "to everything scores" in table.to_html()


def test_the_headline_decides() -> None:
    def two(prediction: str, target: Any, /) -> Mapping[str, float]:
        return {"same": float(prediction == target), "short": float(len(prediction) < 2)}

    work = Task("t", rows(10), two, prompt="{q}", headline="same")
    assert compare({"a": right(1.0), "b": right(0.0)}, work).measure == "same"
    last = Task("t", rows(10), two, prompt="{q}")
    assert compare({"a": right(1.0), "b": right(0.0)}, last).measure == "short"
    none = Task("t", rows(10), two, prompt="{q}", headline="long")
    with pytest.raises(DataError, match="'long' is none of its measures, which are same, short"):
        compare({"a": right(1.0), "b": right(0.0)}, none)


def test_a_measure_of_all_rows_together() -> None:
    """Words a row, as a ratio of sums: 3 / 1 of every pair against 2 / 1."""
    ratio = Pooled(lambda row, reply: (len(reply.text), 1 + row.inputs["n"] % 3), lambda sums: sums[0] / sums[1])
    work = Task("t", rows(30), same, prompt="{q}", pooled={"ratio": ratio}, headline="ratio", less_is_better={"ratio"})
    table = compare({"a": lambda i: "x" * (4 + 4 * (i["n"] % 3)), "b": lambda i: "x" * (2 + 2 * (i["n"] % 3))}, work)
    assert (table["a"].score.value, table["b"].score.value) == (4, 2)
    assert table["b"].difference is not None
    assert table["b"].difference.value == -2
    assert (table["b"].test, table["b"].p) == ("jackknife", 0)
    assert table.less_is_better
    assert not table.percent
    assert len(list(table.disagreements())) == 30  # by what was said: rows have no ratio
    with pytest.raises(SettingsError, match="ratio is one of all rows together"):
        compare({"a": right(1), "b": right(0)}, work, early=True)


def test_early_stops_what_is_surely_worse_and_asks_it_no_more() -> None:
    asked: dict[str, int] = {"good": 0, "bad": 0, "first": 0}

    def counting(name: str, answer: Any) -> Any:
        def call(inputs: Mapping[str, Any]) -> str:
            asked[name] += 1
            return str(answer(inputs))

        return call

    subjects = {
        "first": counting("first", right(0.1)),
        "bad": counting("bad", right(0.15, 1)),
        "good": counting("good", right(0.9, 2)),
    }
    table = compare(subjects, task(300), early=True)
    assert (asked["first"], asked["good"]) == (300, 300)
    assert asked["bad"] < 120
    assert table["bad"].score.n == asked["bad"]
    assert table["bad"].stopped == f"surely worse than 'good' after {asked['bad']} rows"
    assert table["first"].stopped is None
    # A test for one look says nothing after many: no p, and no part in the correction.
    assert (table["bad"].p, table["bad"].p_corrected) == (None, None)
    assert table["good"].p_corrected == table["good"].p
    assert "surely worse" in table.to_markdown()
    whole = compare({"first": right(0.1), "good": right(0.9, 2)}, task(300))
    assert whole["good"].score == table["good"].score  # the same rows, in another order


def test_early_is_seldom_wrong() -> None:
    """Equal methods on 96 rows: over 40 tables at most 5 % stop one (2 tables; 2 standard errors more are 4)."""
    stopped = 0
    for seed in range(40):
        subjects = {"a": right(0.6, 3 * seed), "b": right(0.6, 3 * seed + 1), "c": right(0.6, 3 * seed + 2)}
        table = compare(subjects, task(96, cluster=3), early=True, seed=seed)
        stopped += any(method.stopped for method in table.methods)
    assert stopped <= 4


def test_early_where_less_is_better() -> None:
    def harm(prediction: str, target: Any, /) -> Mapping[str, float]:
        return {"harm": float(prediction != target)}

    work = Task("t", rows(200), harm, prompt="{q}", less_is_better=["harm"])
    table = compare({"safe": right(0.95), "harmful": right(0.2, 1)}, work, early=True)
    assert table["harmful"].stopped is not None
    assert table["safe"].stopped is None


def test_early_needs_a_measure_between_0_and_1() -> None:
    work = Task("t", rows(200), lambda p, t: {"length": float(len(p))}, prompt="{q}")
    with pytest.raises(SettingsError, match="measure from 0 to 1, and length is"):
        compare({"a": right(1.0), "b": right(0.0)}, work, early=True)


@pytest.fixture
def tuned(tiny_model: Any) -> tuple[Any, Any]:
    base = tiny_model("llama")
    examples = [Example({"q": f"Q{i}"}, f"A{i}") for i in range(4)]
    trainer = SFTTrainer(LoRA(rank=2), Settings(max_steps=2, batch_size=2))
    return base, trainer.fit(base, examples, prompt="{q}")


def test_large_clusters_count_for_their_rows_where_it_stops_early() -> None:
    """One is right on many rows of few passages, the other on few rows of many: by rows the first is better."""
    work = [TaskRow(f"s{i}", {"big": False}, "yes", f"s{i}") for i in range(200)]
    work += [TaskRow(f"b{i}", {"big": True}, "yes", f"b{i // 10}") for i in range(400)]
    subjects: dict[str, Any] = {
        "none": lambda i: "no",
        "small": lambda i: "no" if i["big"] else "yes",
        "big": lambda i: "yes" if i["big"] else "no",
    }
    table = compare(subjects, Task("t", work, same, prompt="{big}"), early=True)
    assert table["big"].stopped is None
    assert table["big"].score.value > table["small"].score.value


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(None, "can't evaluate NoneType"), (dict, "dict is a class"), (("a", "b", "c"), "3 things")],
)
def test_a_subject_that_can_not_be_asked_stops_the_table_before_others_are(wrong: Any, said: str) -> None:
    asked: list[Any] = []
    with pytest.raises(SettingsError, match=f"the subject 'wrong': .*{said}"):
        compare({"right": lambda inputs: asked.append(inputs) or "x", "wrong": wrong}, task(3))  # type: ignore[func-returns-value]
    assert asked == []


def test_a_page_of_text_that_no_file_holds(tmp_path: Path) -> None:
    """Half a character, as JSON may escape it."""
    table = compare({"one": right(1.0), "half": lambda inputs: "\ud83d"}, task(3))
    table.to_html(tmp_path / "page.html")
    assert "\\ud83d" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_cache_serves_every_row_of_the_table(tuned: tuple[Any, Any], tmp_path: Path) -> None:
    base, model = tuned
    work = task(4, sampling=Sampling(max_tokens=2, temperature=0.0))
    subjects = {"base": base, "LoRA": model, "f": right(1.0)}
    for cached in ([0, 0, 0], [4, 4, 4]):
        table = compare(subjects, work, cache=tmp_path, keys={"f": "f 1"})
        assert [table.results[name].cached for name in subjects] == cached
    assert evaluate(base, work, cache=tmp_path).cached == 4  # of a comparison's base nothing is asked again


def test_ctrl_c_keeps_what_each_has_answered(tmp_path: Path) -> None:
    def stops(inputs: Mapping[str, Any]) -> str:
        if inputs["n"] == 5:
            raise KeyboardInterrupt
        return "x"

    with pytest.raises(Interrupted) as stop:
        compare({"a": right(1.0), "b": stops}, task(10), cache=tmp_path, keys={"a": "a", "b": "b"})
    found: Any = stop.value.finished
    assert (len(found["a"]), len(found["b"])) == (10, 5)
    table = compare({"a": right(1.0), "b": right(1.0)}, task(10), cache=tmp_path, keys={"a": "a", "b": "b"})
    assert [table.results[name].cached for name in "ab"] == [10, 5]


def test_rows_that_were_trained_on_are_refused() -> None:
    subjects = {"a": right(1.0), "b": right(0.5)}
    train = [{"q": "q7", "target": "A7"}]
    with pytest.raises(DataError, match=r"1 of 10 rows stand in the training data.*allow_overlap"):
        compare(subjects, task(10), training=train)
    compare(subjects, task(10), training=train, allow_overlap=True)
    compare(subjects, task(10), training=train, budget=5)  # row 7 is not asked


@pytest.mark.parametrize("given", [{}, {"budget": 3}])
def test_a_budget_is_the_most_rows(given: dict[str, int]) -> None:
    table = compare({"a": right(1.0), "b": right(0.5)}, task(10), **given)  # type: ignore[arg-type]
    assert {method.score.n for method in table.methods} == {given.get("budget", 10)}


@pytest.mark.parametrize(
    ("subjects", "given", "error", "message"),
    [
        ({}, {}, SettingsError, "two subjects or more, got 0"),
        ({"a": right(1.0)}, {}, SettingsError, "got 1; for one there is evaluate"),
        ([right(1.0), right(0.5)], {}, SettingsError, "a dict of names and subjects"),
        ({"a": right(1.0), 5: right(0.5)}, {}, SettingsError, "5 is no name"),
        ({"a": right(1.0), " ": right(0.5)}, {}, SettingsError, "' ' is no name"),
        ({"a": right(1.0), "b": right(0.5)}, {"keys": {"c": "x"}}, SettingsError, "'c', which is no subject"),
        ({"a": right(1.0), "b": right(0.5)}, {"budget": 0}, BudgetError, "at least one row"),
        ({"a": right(1.0), "b": right(0.5)}, {"budget": 2.5}, BudgetError, "whole numbers"),
    ],
)
def test_bad_arguments(subjects: Any, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare(subjects, task(), **given)


def test_what_is_no_task() -> None:
    subjects: Any = {"a": right(1.0), "b": right(0.5)}
    with pytest.raises(DataError, match="takes a task, not"):
        compare(subjects, [{"q": 1}])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the subjects come first"):
        compare(task(), subjects)  # type: ignore[arg-type]


def test_subjects_with_other_measures() -> None:
    """Scored rows have a log-probability, written ones have not."""

    def measured(row: TaskRow, reply: Any) -> Mapping[str, float]:
        return {"first": 1.0} if reply.text == "x" else {"first": 1.0, "second": 0.0}

    work = Task("t", rows(4), measure=measured, prompt="{q}")
    with pytest.raises(DataError, match="'b' has no measure 'second', which decides here; it has first"):
        compare({"a": lambda i: "y", "b": lambda i: "x"}, work)


def test_differences_cover_the_truth() -> None:
    """Two methods that are equally good, on the same rows, some of which are hard for both."""
    numbers = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        hard = numbers.random(120)
        one, other = hard < 0.5, hard + numbers.normal(0, 0.2, 120) < 0.5
        found = compared(one.astype(float).tolist(), other.astype(float).tolist()).difference
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 500 <= 0.975
