from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from condition.errors import DataError, PromptError, SettingsError
from condition.evaluation import tasks
from condition.evaluation.evaluate import evaluate
from condition.evaluation.tasks.choice_rows import choice_rows
from condition.models.local import LocalModel
from condition.types import Score
from tests.conftest import TinyModel

CHOICES = ["oak", "stone", "letters", "grass"]
ROW = {"question": "Of what was it built? ", "choices": CHOICES, "answer": 1, "subject": "bridges_of_orla"}
OTHER = {"question": "Which colour?", "choices": ["red", "green", "blue", "grey"], "answer": 2, "subject": "colours"}


def logprobs(*values: float) -> tuple[Score, ...]:
    return tuple(Score(value, 1, 1) for value in values)


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {**ROW, "answer": "B"},
        {**ROW, "answer": "1"},
        {**ROW, "answer": "stone"},
        {
            "Question": ROW["question"],
            **dict(zip("ABCD", CHOICES, strict=True)),
            "Answer": "B",
            "subject": "bridges of orla",
        },
        {
            "question": ROW["question"],
            "choices": {"text": CHOICES, "label": ["1", "2", "3", "4"]},
            "answerKey": "2",
            "category": "bridges_of_orla",
        },
        {"ctx": ROW["question"], "endings": CHOICES, "label": "1", "subject": "bridges_of_orla"},
    ],
)
def test_columns_of_the_original_files(row: dict[str, Any]) -> None:
    [found] = choice_rows([row])
    assert (found.question, found.choices, found.correct) == ("Of what was it built?", tuple(CHOICES), 1)
    assert found.subject == "bridges of orla"


def test_the_original_files_of_mmlu(tmp_path: Path) -> None:
    for subject in ("anatomy", "world_history"):
        with (tmp_path / f"{subject}_test.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["What, if any?", *CHOICES, "C"], ["Why?", *CHOICES, "A"]])
    task = tasks.mmlu(tmp_path)
    assert [row.target for row in task.rows] == ["C", "A", "C", "A"]
    assert [row.inputs["subject"] for row in task.rows] == ["anatomy"] * 2 + ["world history"] * 2
    [row, _] = choice_rows(tmp_path / "anatomy_test.csv")
    assert (row.question, row.subject) == ("What, if any?", "anatomy")


def test_a_header_is_no_question_whatever_stands_last(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([["answer", "question", "A", "B", "C"], ["B", "Of what?", "oak", "stone", "reed"]])
    (row,) = choice_rows(file)
    assert (row.question, row.choices, row.correct) == ("Of what?", ("oak", "stone", "reed"), 1)


def test_a_file_with_a_header(tmp_path: Path) -> None:
    file = tmp_path / "accountant_val.csv"
    file.write_text("id,question,A,B,C,D,answer\n7,为什么？,一,二,三,四,D\n", encoding="utf-8")
    task = tasks.ceval(file)
    assert (task.rows[0].id, task.rows[0].target, task.rows[0].choices) == ("7", "D", tuple("ABCD"))
    assert "为什么？\nA. 一\nB. 二\nC. 三\nD. 四\n答案：" in task.prompt.format(**task.rows[0].inputs)[0].content


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**ROW, "answer": 4}, "the answer 4 is none of the 4 choices"),
        ({**ROW, "answer": -1}, "the answer -1 is none"),
        ({**ROW, "answer": "E"}, "the answer 'E' is none"),
        ({**ROW, "answer": None}, "an answer is expected under 'answer' or"),
        ({**ROW, "question": " "}, "the question is empty"),
        ({"choices": CHOICES, "answer": 1}, "a question is expected under"),
        ({**ROW, "choices": "oak"}, "two choices or more are expected"),
        ({**ROW, "choices": ["oak"]}, "two choices or more are expected"),
        ({**ROW, "choices": ["oak", ""]}, "a choice is empty"),
    ],
)
def test_rows_that_are_no_choice(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"row 0: {said}"):
        tasks.multiple_choice([row])


def test_no_rows_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        tasks.mmlu([])
    with pytest.raises(DataError, match=r"no \.csv files"):
        tasks.mmlu(tmp_path)


def test_shots_are_of_the_items_own_subject() -> None:
    other = {**OTHER, "question": "Which other colour?"}
    task = tasks.mmlu([ROW, OTHER], shots=[{**ROW, "question": "And the first?"}, other, ROW], k=1)
    first, second = (task.prompt.format(**row.inputs)[0].content for row in task.rows)
    assert "And the first?" in first
    assert "colour" not in first
    assert "about colours.\n\nWhich other colour?" in second
    assert second.endswith("Which colour?\nA. red\nB. green\nC. blue\nD. grey\nAnswer:")


def test_as_turns_of_a_chat() -> None:
    task = tasks.mmlu([ROW], shots=[{**ROW, "question": "Before?"}], form="chat")
    messages = task.prompt.format(**task.rows[0].inputs)
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == "B"
    with pytest.raises(SettingsError, match="form='html'"):
        tasks.mmlu([ROW], form="html")  # type: ignore[arg-type]  # the point of the test


def test_shots_are_rows_not_a_number() -> None:
    with pytest.raises(SettingsError, match="shots=5: shots are rows to show"):
        tasks.mmlu([ROW], shots=5)


def test_all_rules_of_texts() -> None:
    task = tasks.multiple_choice([ROW], pmi=True, calibrated=True)
    row = task.rows[0]
    own, bare = logprobs(-1.0, -1.5, -9.0, -9.0), logprobs(-1.0, -4.0, -9.0, -9.0)
    found = task.measure(row, "oak", own + bare + own * 3)
    # oak is likeliest; -1/3 and -1.5/5: by characters it is stone; less what it is worth alone it is stone
    assert found == {
        "accuracy": 0.0,
        "accuracy_by_tokens": 0.0,
        "accuracy_by_chars": 1.0,
        "accuracy_pmi": 1.0,
        "accuracy_calibrated": 0.0,
    }
    assert task.headline == "accuracy_by_chars"


@pytest.mark.parametrize(("said", "right", "unmatched"), [("stone", 1, 0), ("It is oak.", 0, 0), ("Who knows?", 0, 1)])
def test_a_written_choice(said: str, right: float, unmatched: float) -> None:
    task = tasks.multiple_choice([ROW])
    assert set(task.measure(task.rows[0], said).values()) <= {right, unmatched}
    found = evaluate(lambda inputs: said, task).metrics
    assert (found["accuracy"].value, found["unmatched"].value) == (right, unmatched)
    assert found["accuracy_by_chars"].value == right


def test_two_choices_that_read_alike() -> None:
    """Real rows of MMLU have them."""
    row = {**ROW, "choices": ["a", "b", "b", "c"], "answer": 2}
    task = tasks.multiple_choice([row])
    assert task.measure(task.rows[0], "b", logprobs(-3.0, -1.0, -1.0, -3.0))["accuracy"] == 1
    assert tasks.mmlu([row]).rows[0].target == "C"


def test_a_header_is_read_once_for_all_questions(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens through the network: the header and each question, not the header with each choice."""
    model: LocalModel = tiny_model(max_position_embeddings=4096)
    shots = [{**OTHER, "question": f"Colour number {i} of the {i} seas?"} for i in range(8)]
    rows = [{**OTHER, "question": f"Colour {i}?"} for i in range(10)]
    task = tasks.mmlu(rows, shots=shots, k=8)
    read = 0
    forward = type(model.network.base_model).forward

    def counted(self: Any, input_ids: Any, **keywords: Any) -> Any:
        nonlocal read
        read += input_ids.numel()
        return forward(self, input_ids=input_ids, **keywords)

    model.score(["x"], [["a", "b"]])  # the probe
    monkeypatch.setattr(type(model.network.base_model), "forward", counted)
    evaluate(model, task)
    contexts = [len(model.render(task.prompt.format(**row.inputs)).ids) for row in task.rows]
    header = len(model.render(task.prompt.format(**{**task.rows[0].inputs, "question": ""})).ids)
    assert read < header + sum(contexts) - 10 * header + 10 * 40
    assert read < sum(contexts) / 3


@pytest.mark.real
def test_the_embedded_model_knows_more_than_chance(embedded: LocalModel) -> None:
    rows = [
        {"question": question, "choices": choices, "answer": 0}
        for question, choices in (
            ("What colour is the sky on a clear day?", ["blue", "green", "made of wood"]),
            ("What is the capital of France?", ["Paris", "Cheese", "Seventeen"]),
            ("What do cows drink?", ["water", "granite", "electricity"]),
            ("How many legs does a spider have?", ["eight", "a hundred million", "none of the sea"]),
        )
    ]
    found = evaluate(embedded, tasks.multiple_choice(rows, form="chat")).metrics
    assert found["accuracy"].value >= 0.75


def test_real_rows(shared_data: Path, tiny_model: TinyModel) -> None:
    task = tasks.mmlu(shared_data / "mmlu" / "test.jsonl", shots=shared_data / "mmlu" / "dev.jsonl")
    assert len(task.rows) == 400
    assert len({row.inputs["subject"] for row in task.rows}) == 10
    for row in task.rows[::40]:
        assert task.prompt.format(**row.inputs)[0].content.count("\nAnswer:") == 6
    exam = tasks.ceval(shared_data / "ceval" / "val.jsonl", shots=shared_data / "ceval" / "dev.jsonl")
    assert len(exam.rows) == 180
    assert len(tasks.ceval(shared_data / "cmmlu" / "test.jsonl").rows) == 150
    json.dumps([dict(row.inputs) for row in exam.rows[:2]])


def test_a_prompt_of_the_subjects_own(tiny_model: TinyModel) -> None:
    model = tiny_model()
    task = tasks.mmlu([ROW])
    assert evaluate((model, "{question} {options}"), task).metrics["accuracy"].n == 1
    with pytest.raises(PromptError, match="no value for 'passage'"):
        evaluate((model, "{passage}"), task)
