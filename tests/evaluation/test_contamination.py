from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from condition.data import read, sample
from condition.errors import DataError
from condition.evaluation import tasks
from condition.evaluation.contamination import NEAR, overlap, refuse_overlap
from condition.evaluation.tasks.task import Task, TaskRow
from condition.types import Example, Message

LONG = "The bridge at Orla was built of oak in 1784 and rebuilt in stone after the great flood of the year 1811"


def rows(*questions: str, context: str = LONG) -> list[TaskRow]:
    return [TaskRow(f"r{i}", {"context": context, "question": q}, "x") for i, q in enumerate(questions)]


def trained(*questions: str, context: str = LONG) -> list[Example]:
    return [Example({"context": context, "question": q}, "y") for q in questions]


def test_the_same_words_are_the_same_row() -> None:
    found = overlap(trained("What for?", "WHEN was it\n built"), rows("When was it built?", "Who built it?"))
    assert found.exact == (("r0", 1, 1.0),)
    assert found.near == ()
    assert "1 of 2 rows stand in the training data, 0 more nearly do; the first is r0" in str(found)


def test_another_question_on_the_passage_is_another_row() -> None:
    assert not overlap(trained("Who built it?"), rows("When was it built?", "Who paid for it?"))
    assert not overlap(trained("Who built it?"), rows("Who built it?", context="Ada keeps bees on the northern hill."))


def test_a_word_changed_in_a_long_passage_is_near() -> None:
    words = LONG.split()
    changed = " ".join([*words[:10], "granite", *words[11:]])
    found = overlap(trained("Who built it?", context=changed), rows("Who built it?"))
    assert found.exact == ()
    (near,) = found.near
    # 22 words are 20 trigrams, of which 3 hold the word: 17 in common of 23.
    assert near.similarity == pytest.approx(17 / 23)
    assert not overlap(trained("Who built it?", context=changed), rows("Who built it?"), near=0.8)


def test_the_order_of_words_counts() -> None:
    found = overlap([{"text": "a b a b a b a"}], [TaskRow("1", {"text": "a b a b a"}, "")])
    assert [shared.similarity < 1 for shared in found.near] == [True]


def test_inputs_of_other_names_count_together() -> None:
    found = overlap([{"prompt": "When was it built"}], [TaskRow("1", {"question": "When was it built?"}, "")])
    assert len(found.exact) == 1


ASKED = "Where was the bridge over the Orla built in that year?"
ANSWER = "It was built at Rouen by the old guild of masons, of stone and of oak, in two winters."


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": ASKED, "output": ANSWER},
        {"instruction": ASKED, "input": "", "output": ANSWER},
        {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}]},
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWER}]},
        Example({"history": (Message("user", ASKED), Message("assistant", ANSWER))}, "Thanks."),
    ],
)
def test_a_question_is_found_in_a_row_of_other_columns(row: Any) -> None:
    """The answer beside it, and who speaks, are not compared."""
    work = [TaskRow("1", {"question": ASKED.lower()}, ""), TaskRow("2", {"question": "Who paid for all of it?"}, "")]
    assert overlap([{"instruction": "Sing.", "output": "La."}, row], work).exact == (("1", 1, 1.0),)


def test_emoji_and_marks_are_told_apart() -> None:
    found = overlap(
        [{"q": "\U0001f642 \U0001f642"}], [TaskRow(s, {"q": s}, "") for s in ("\U0001f642 \U0001f642", "?!")]
    )
    assert [shared.id for shared in found.exact] == ["\U0001f642 \U0001f642"]


def test_other_scripts() -> None:
    assert overlap([{"q": "桥是什么时候建成的？"}], [TaskRow("1", {"q": "桥是什么时候建成的"}, "")]).exact
    assert overlap([{"q": "ＳＴＲＡＳＳＥ straße"}], [TaskRow("1", {"q": "strasse Strasse"}, "")]).exact
    assert not overlap([{"q": "???"}], [TaskRow("1", {"q": "!!!"}, "")])


def test_sets_are_found_as_by_looking_at_all_pairs() -> None:
    """The index leaves out no pair that is near enough."""
    examples = read(sample("train")[:120])
    task = tasks.squad_v2(sample("validation"))
    changed = [
        Example({**e.inputs, "question": e.inputs["question"].replace("the", "that", i % 3)}, e.target)
        for i, e in enumerate(examples)
    ]
    work = [TaskRow(str(i), e.inputs, "") for i, e in enumerate(changed)]
    found = overlap(examples, work, near=0.4)
    assert len(found.exact) + len(found.near) > 80
    again = {shared.id: shared for shared in (*found.exact, *found.near)}
    for row in work[:40]:
        best = max(_by_hand(example.inputs, row.inputs) for example in examples)
        assert (row.id in again) == (best >= 0.4)
    assert not overlap(examples, task).exact


def _by_hand(one: Any, other: Any) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    pairs = [(shingles(str(one[name])), shingles(str(other[name]))) for name in one if str(one[name]).strip()]
    return min(len(a & b) / len(a | b) for a, b in pairs)


def test_a_task_may_be_the_training_data() -> None:
    task = Task("t", rows("When was it built?"), lambda p, t: {"a": 1.0}, prompt="{question}")
    assert overlap(task, task).exact
    with pytest.raises(DataError, match=r"1 of 1 rows stand.*allow_overlap=True"):
        refuse_overlap(task, task)
    refuse_overlap(trained("Who?"), task)


def test_real_splits_share_nothing(shared_data: Path) -> None:
    """Split by passage: a few questions may be alike, none with its passage."""
    task = tasks.squad_v2(shared_data / "squad_v2" / "validation.jsonl")
    assert not overlap(shared_data / "squad_v2" / "train.jsonl.gz", task)


@pytest.mark.parametrize(("training", "near"), [([], NEAR), ([{"q": "a"}], 0.0), ([{"q": "a"}], 1.5)])
def test_bad_arguments(training: Any, near: float) -> None:
    with pytest.raises(DataError):
        overlap(training, rows("Who?"), near=near)
