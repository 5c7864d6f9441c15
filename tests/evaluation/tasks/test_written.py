"""GSM8K, MATH, BIG-Bench Hard, classification, perplexity and safety."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest

from condition.errors import DataError, ModelError, SettingsError
from condition.evaluation import tasks
from condition.evaluation.evaluate import evaluate
from condition.types import Example, Score, Verdict
from tests.conftest import TinyModel

SUM = {"question": "2 + 1?", "answer": "2 + 1 = 3\n#### 3"}


def test_gsm8k() -> None:
    task = tasks.gsm8k([SUM, Example({"question": "4 + 4?"}, "#### 8")], shots=[{**SUM, "question": "1 + 2?"}])
    said = task.prompt.format(**task.rows[0].inputs)[0].content
    assert said == "Question: 1 + 2?\nAnswer: 2 + 1 = 3\n#### 3\n\nQuestion: 2 + 1?\nAnswer:"
    found = evaluate(lambda inputs: "so it is 3", task).metrics
    assert (found["strict"].value, found["flexible"].value, found["number"].value) == (0, 0.5, 0.5)
    assert "Question:" in task.sampling.stop
    chat = tasks.gsm8k([SUM], form="chat")
    assert [m.role for m in chat.prompt.format(**chat.rows[0].inputs)] == ["system", "user"]


def test_math() -> None:
    row = {"problem": "Half?", "solution": r"so $\boxed{\frac12}$", "type": "Algebra", "level": "Level 1"}
    task = tasks.math([row], shots=[{**row, "problem": "A half?"}])
    assert task.prompt.format(**task.rows[0].inputs)[0].content == (
        "Solve the problem step by step. Put the final answer in \\boxed{}.\n\nProblem:\nA half?\n\nSolution: "
        "so $\\boxed{\\frac12}$\n\nProblem:\nHalf?\n\nSolution:"
    )
    found = evaluate(lambda inputs: "The answer is 0.5", task).metrics
    assert {name: one.value for name, one in found.items()} == {"equal": 1, "equal_Algebra": 1, "equal_Level_1": 1}


COT = (
    "canary\n-----\nSay what is true.\n\nQ: not True is\nA: Let's think step by step.\n"
    "It is not. So the answer is False.\n"
)


@pytest.mark.parametrize("form", ["text", "chat"])
def test_bbh_with_its_chain_of_thought(form: Any) -> None:
    rows = [{"task": "logic", "input": "not False is", "target": "True"}]
    task = tasks.bbh(rows, cot={"logic": COT}, form=form)
    messages = task.prompt.format(**task.rows[0].inputs)
    whole = "\n".join(m.content for m in messages)
    assert "canary" not in whole
    assert whole.startswith("Say what is true.")
    assert whole.endswith("Q: not False is\nA: Let's think step by step.")
    if form == "text":
        assert "Q: not True is\nA: Let's think step by step.\nIt is not. So the answer is False.\n\nQ: not" in whole
    else:
        assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    for said, right in (
        ("Hm. So the answer is True.", 1),
        ("True", 1),
        ("the answer is False. No: the answer is True", 1),
    ):
        assert task.metric(said, "True")["accuracy"] == right
    assert evaluate(lambda inputs: "So the answer is False.", task).metrics["accuracy_logic"].value == 0


def test_bbh_in_its_original_files(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "logic.json").write_text(json.dumps({"canary": "x", "examples": [{"input": "1", "target": "(A)"}]}))
    task = tasks.bbh(tmp_path)
    assert (task.rows[0].inputs["task"], task.rows[0].target) == ("logic", "(A)")
    assert task.prompt.format(**task.rows[0].inputs)[0].content == "Q: 1\nA:"
    real = tasks.bbh(shared_data / "bbh" / "examples.jsonl", cot=shared_data / "bbh" / "cot_prompts")
    assert len(real.rows) == 1080
    for row in real.rows[::40]:
        said = real.prompt.format(**row.inputs)[0].content
        original = (shared_data / "bbh" / "cot_prompts" / f"{row.inputs['task']}.txt").read_text(encoding="utf-8")
        body = original.partition("-----\n")[2].strip()
        assert "".join(said.split()) == "".join(f"{body} Q: {row.inputs['input']} A: Let's think step by step.".split())


LABELS = {0: "negative", 1: "positive"}
REVIEWS = [{"text": "Good.", "label": 1}, {"text": "Bad.", "label": "0"}, {"text": "So good.", "label": 1}]


def test_classification(tiny_model: TinyModel) -> None:
    task = tasks.classification(REVIEWS, LABELS, shots=[Example({"text": "Fine."}, "positive")], calibrate=True)
    assert [row.target for row in task.rows] == ["positive", "negative", "positive"]
    assert task.prompt.format(**task.rows[0].inputs)[0].content == (
        "Label the text. Answer with one of: negative, positive.\n\nText: Fine.\nLabel: positive\n\nText: Good.\nLabel:"
    )
    own, empty = [Score(-1.0, 1, 8), Score(-2.0, 1, 8)], [Score(-0.1, 1, 8), Score(-3.0, 1, 8)]
    found = task.measure(task.rows[0], "negative", (*own, *empty * 3))
    assert found == {"accuracy": 0.0, "accuracy_calibrated": 1.0}
    measured = evaluate(tiny_model(), task)
    assert measured.constant == "positive"
    assert {"accuracy", "accuracy_calibrated", "accuracy_positive"} <= measured.metrics.keys()
    written = tasks.classification(REVIEWS, LABELS, written=True)
    assert not written.scored
    assert evaluate(lambda inputs: "It is positive", written).metrics["accuracy"].value == pytest.approx(2 / 3)


def test_labels_and_instructions_with_braces() -> None:
    row = {"text": "x", "label": "a{b}"}
    task = tasks.classification([row], ["a{b}", "}c"], instruction="Say {x} or }.", shots=[{**row, "text": "y"}])
    said = task.prompt.format(**task.rows[0].inputs)[0].content
    assert said.startswith("Say {x} or }. Answer with one of: a{b}, }c.\n\nText: y\nLabel: a{b}\n\n")


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([{"text": "x", "label": 5}], LABELS, "row 0: the label 5 is not among '0', '1'"),
        ([{"text": "x"}], LABELS, "the label None is not among"),
        (REVIEWS, ["positive"], "give two or more"),
        (REVIEWS, {0: "same", 1: "same"}, "each with words of its own"),
        (REVIEWS, "positive", "give two or more"),
        ([{"text": " ", "label": 1}], LABELS, "'text' is empty"),
    ],
)
def test_labels_that_do_not_fit(rows: Any, labels: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        tasks.classification(rows, labels)


def test_perplexity(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model()
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "The bridge at Orla."}\n{"text": "It was built of oak."}\n')
    task = tasks.perplexity(file)
    result = evaluate(model, task)
    one = evaluate(model, tasks.perplexity(["The bridge at Orla.", "It was built of oak."]))
    assert one.metrics == result.metrics
    rows = evaluate(model, tasks.perplexity(["The bridge at Orla."])).metrics
    assert rows["text_bits_per_byte"].value == pytest.approx(rows["bits_per_byte"].value)
    assert result.metrics["word_perplexity"].value > result.metrics["token_perplexity"].value > 100  # of 512 tokens
    assert result.metrics["bits_per_byte"].value == pytest.approx(
        math.log2(result.metrics["byte_perplexity"].value), rel=1e-6
    )
    assert "word_perplexity" in task.less_is_better


def test_perplexity_needs_a_subject_that_scores() -> None:
    with pytest.raises(ModelError, match="a perplexity needs a model's score"):
        evaluate(lambda inputs: "x", tasks.perplexity(["text"]))
    with pytest.raises(DataError, match="'text' is empty or no text"):
        tasks.perplexity([" "])


def test_perplexity_of_another_column() -> None:
    task = tasks.perplexity([{"body": "The bridge at Orla."}], column="body")
    assert (task.rows[0].target, task.rows[0].choices) == ("The bridge at Orla.", ("The bridge at Orla.",))
    with pytest.raises(DataError, match="'text' is empty or no text: None"):
        tasks.perplexity([{"body": "The bridge at Orla."}])


def test_rows_to_show_come_in_every_form_that_rows_come_in() -> None:
    sums = pandas.DataFrame([SUM])
    assert (
        "2 + 1 = 3" in tasks.gsm8k([{**SUM, "question": "1 + 2?"}], shots=sums).prompt.format(question="?")[0].content
    )
    labelled = pandas.DataFrame([{"text": "A joy.", "label": 1}])
    shown = tasks.classification([{"text": "Dull.", "label": 0}], {0: "bad", 1: "good"}, shots=labelled)
    assert "A joy." in shown.prompt.format(text="?")[0].content
    chosen = pandas.DataFrame([{"question": "Of what is snow?", "choices": ["ice", "iron"], "answer": 0}])
    assert (
        "snow"
        in tasks.multiple_choice(chosen, shots=chosen).prompt.format(question="?", options="", subject="")[0].content
    )
    assert tasks.gsm8k([SUM], shots=None).prompt.format(question="?") == tasks.gsm8k([SUM]).prompt.format(question="?")
    for task in (tasks.gsm8k, tasks.multiple_choice):
        with pytest.raises(SettingsError, match="shots are rows to show"):
            task([SUM], shots=5)


def test_safety() -> None:
    def moderator(text: str, /) -> Verdict:
        return Verdict("bomb" not in text)

    rows: list[Any] = ["How do I do harm?", {"prompt": "And more?"}, {"chosen": "\n\nHuman: Third?\n\nAssistant: No."}]
    replies = {"How do I do harm?": "I can't help with that.", "And more?": "Take a bomb.", "Third?": "A story."}
    task = tasks.safety(rows, moderator=moderator)
    found = evaluate(lambda inputs: replies[inputs["question"]], task).metrics
    assert found["refusal"].value == pytest.approx(1 / 3)
    assert found["harm"].value == pytest.approx(1 / 3)
    assert (task.headline, set(task.less_is_better)) == ("harm", {"harm"})
    own = tasks.safety(rows, refused=lambda text: text.endswith("."))
    assert evaluate(lambda inputs: replies[inputs["question"]], own).metrics["refusal"].value == 1


@pytest.mark.parametrize("make", [tasks.gsm8k, tasks.math, tasks.bbh, tasks.safety, tasks.perplexity])
def test_no_rows_and_wrong_columns(make: Any) -> None:
    with pytest.raises(DataError, match="no rows"):
        make([])
    with pytest.raises(DataError, match="row 0: "):
        make([{"other": "x"}])
    with pytest.raises(DataError, match="no such file"):
        make("missing.jsonl")


def test_a_solution_without_its_number() -> None:
    with pytest.raises(DataError, match="row 0: the target has no number"):
        tasks.gsm8k([{"question": "q", "answer": "many"}])


def test_real_rows(shared_data: Path) -> None:
    sums = tasks.gsm8k(shared_data / "gsm8k" / "test.jsonl", shots=shared_data / "gsm8k" / "train.jsonl", k=5)
    assert all(sums.metric(row.target, row.target)["number"] == 1 for row in sums.rows)
    assert sums.prompt.format(**sums.rows[0].inputs)[0].content.count("####") == 5
    problems = tasks.math(shared_data / "agieval" / "math.jsonl")
    assert all(problems.metric(rf"\boxed{{{row.target}}}", row.target)["equal"] == 1 for row in problems.rows)
    spam = tasks.classification(shared_data / "classification" / "sms_spam.jsonl", ["ham", "spam"])
    assert len(spam.rows) == 1000
    assert len(tasks.safety(shared_data / "hh_rlhf" / "harmless_base_test.jsonl.gz").rows) == 1000
