from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from condition.errors import PromptError, SettingsError
from condition.prompts.parse import after, last_number
from condition.prompts.template import ChatPrompt
from condition.reasoning.budget import Budget
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.decompose import Decompose, LeastToMost

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

UNKNOWN = "I do not know"
ASKED = re.compile(r"Q: (.*)\nA:$")
KNOWN = re.compile(r"^Q: (.*)\nA: (.*)$", re.MULTILINE)
STEP = "{solved}Q: {subquestion}\nA:"
ACTIONS = {verb: f"I_{verb.upper()}" for verb in ("walk", "look", "run", "jump")} | {"turn": ""}
TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}


def halves(command: str) -> list[str]:
    return re.split(r" and | after ", command)


def scan(text: str) -> str:
    """One step of composition: a part is known by heart, a whole only where its parts were answered before."""
    if text.startswith("Split: "):
        command = text.removeprefix("Split: ")
        parts = [
            p
            for half in halves(command)
            for p in (half.rsplit(" ", 1)[0], half)
            if p == half or half.split()[-1] in TIMES
        ]
        return "\n".join(parts)
    found, known = ASKED.search(text), dict(KNOWN.findall(text))
    assert found
    command = found[1]
    *rest, last = command.split()
    if len(parts := halves(command)) == 2:
        first, second = parts if " and " in command else reversed(parts)
        return f"{known[first]} {known[second]}" if first in known and second in known else UNKNOWN
    if last in TIMES:
        once = " ".join(rest)
        return " ".join([known[once]] * TIMES[last]) if once in known else UNKNOWN
    return primitive(command)


def primitive(command: str) -> str:
    verb, *how = command.split()
    turn, act = TURNS.get(how[-1], "") if how else "", ACTIONS[verb]
    if "around" in how:
        steps = [turn, act] * 4
    elif "opposite" in how:
        steps = [turn, turn, act]
    else:
        steps = [turn, act]
    return " ".join(step for step in steps if step)


def test_it_reaches_lengths_that_plain_prompting_can_not(oracle: type[Oracle], shared_data: Path) -> None:
    lines = (shared_data / "scan" / "length_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    inputs = [{"commands": row["commands"]} for row in rows]
    plain = ChainOfThought(oracle(scan), "Q: {commands}\nA:").batch(inputs)
    assert {a.text for a in plain} == {UNKNOWN}
    model = oracle(scan)
    answers = LeastToMost(model, STEP, split="Split: {commands}", last="commands").batch(inputs)
    assert [a.text for a in answers] == [row["actions"] for row in rows]
    assert min(len(row["actions"].split()) for row in rows) > 22  # the longest that the training split has
    splits = [scan(f"Split: {row['commands']}").splitlines() for row in rows]
    steps = [len({*split, row["commands"]}) for split, row in zip(splits, rows, strict=True)]
    assert len(model.prompts) == len(rows) + sum(steps)
    assert model.calls == 1 + max(steps)


def last_letters(text: str) -> str:
    """Adds one letter to what is known of the words before."""
    if "Which easier questions" in text:
        names = re.findall(r'"(.*)"', text)[0].split()
        return "\n".join(f"{i + 1}. {' '.join(names[: i + 1])}" for i in range(len(names)))
    found, known = ASKED.search(text), dict(KNOWN.findall(text))
    assert found
    *before, name = found[1].split()
    joined = "" if not before else known.get(" ".join(before))
    return UNKNOWN if joined is None else f"So far {joined!r}. The answer is {joined}{name[-1]}."


def test_last_letters_are_concatenated_word_by_word(oracle: type[Oracle], shared_data: Path) -> None:
    lines = (shared_data / "reasoning" / "last_letters.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    # a name of two words, "Jose A", has one letter in the data's answer
    rows = [row for row in rows if len(row["question"].split('"')[1].split()) == 4]

    def rule(text: str) -> str:
        said = last_letters(text)
        return said if said == UNKNOWN or "answer is" not in said else said.split("answer is ")[1].rstrip(".")

    model = oracle(rule)
    answers = LeastToMost(model, last=None).batch([{"question": row["question"]} for row in rows])
    assert [a.text for a in answers] == [row["answer"] for row in rows]
    assert model.calls == 1 + 4  # four names each
    assert len(model.prompts) == len(rows) * 5
    assert str(answers[0].reasoning).count("Q: ") == 4


def test_each_step_sees_all_before_it(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "1. one\n2. two" if "Which easier" in text else "done")
    answer = LeastToMost(model).invoke("whole?")
    assert [p[p.index("Q: ") :] if "Q: " in p else "" for p in model.prompts] == [
        "",
        "Q: one\nA:",
        "Q: one\nA: done\n\nQ: two\nA:",
        "Q: one\nA: done\n\nQ: two\nA: done\n\nQ: whole?\nA:",
    ]
    assert len(answer.candidates) == 4


@pytest.mark.parametrize(("kind", "questions"), [(LeastToMost, ["a", "b", "whole?"]), (Decompose, ["a", "b"])])
def test_no_more_questions_than_most_are_taken(oracle: type[Oracle], kind: Any, questions: list[str]) -> None:
    plan = "a\nb\nc" if kind is Decompose else "a\nwhole?\nb\nc"
    answer = kind(oracle(lambda text: plan if "one a line" in text else "done"), most=2).invoke("whole?")
    assert KNOWN.findall(str(answer.reasoning)) == [(question, "done") for question in questions]


def test_a_budget_keeps_what_was_solved(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "one\ntwo" if "Which easier" in text else "done")
    answer = LeastToMost(model, budget=Budget(calls=3)).invoke("whole?")
    assert answer.text == ""
    assert answer.reasoning == "Q: one\nA: done\n\nQ: two\nA: done"
    assert "3 of 3 calls" in str(answer.error)


def test_one_that_fails_leaves_the_others_alone(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if "Which easier" in text:
            return "one" if "good" in text else ""
        if "bad" in text:
            raise RuntimeError("refused")
        return "done"

    good, bad, empty = LeastToMost(oracle(rule)).batch(["good?", "good, then bad?", "worse?"])
    assert (good.text, good.error) == ("done", None)
    assert "refused" in str(bad.error)
    assert empty.text == "done"  # nothing easier: the question itself is left
    nothing = LeastToMost(oracle(rule), last=None).invoke("x?")
    assert "split into nothing" in str(nothing.error)


def test_questions_that_stand_alone_are_asked_at_once(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if "each of which can be answered" in text:
            return "- How many cats?\n- How many dogs?"
        if text.startswith("How many"):
            return "3" if "cats" in text else "4"
        return "3 and 4 make 7. The answer is 7."

    model = oracle(rule)
    answers = Decompose(model).batch([f"How many pets has house {i}?" for i in range(10)])
    assert {a.text for a in answers} == {"7"}
    assert (model.calls, len(model.prompts)) == (3, 10 * (1 + 2 + 1))
    assert answers[0].reasoning == "Q: How many cats?\nA: 3\n\nQ: How many dogs?\nA: 4"
    assert [c.text for c in answers[0].candidates][1:3] == ["3", "4"]


def test_a_decomposition_over_budget(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "a\nb")
    answer = Decompose(model, budget=Budget(calls=3)).invoke("x")
    assert (answer.text, len(answer.candidates)) == ("", 3)
    assert answer.reasoning
    assert "3 of 3 calls" in str(answer.error)


def test_parts_that_were_answered_are_kept_where_another_fails(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text.startswith("b"):
            raise RuntimeError("refused")
        return "a\nb\nc" if "each of which" in text else "done"

    answer = Decompose(oracle(rule)).invoke("x")
    assert (answer.text, answer.reasoning) == ("", "Q: a\nA: done\n\nQ: c\nA: done")
    assert [c.text for c in answer.candidates] == ["a\nb\nc", "done", "done"]
    assert "refused" in str(answer.error)
    cut = Decompose(oracle(lambda text: "a\nb"), budget=Budget(calls=2)).invoke("x")
    assert (cut.reasoning, len(cut.candidates)) == ("Q: a\nA: a\nb", 2)
    assert "2 of 2 calls" in str(cut.error)


@pytest.mark.parametrize("kind", [LeastToMost, Decompose])
def test_the_prompts_own_parsers_count(oracle: type[Oracle], kind: Any) -> None:
    """They did not: what the last line said was the answer."""
    words = "{solved} {question} {subquestion}" if kind is LeastToMost else "{solved} {question}"
    own = ChatPrompt([("user", words)], parse=last_number)
    split = ChatPrompt([("user", "Split {question}")], parse=after("Parts:", lambda text: text.split(";")))
    model = oracle(
        lambda text: "Well. Parts: one; two" if text.startswith("Split") else "It is 7, I think.\nGood luck!"
    )
    answer = kind(model, own, split=split).invoke("x")
    assert (answer.text, answer.parsed) == ("7.0", 7)
    assert str(answer.reasoning).split("\n")[0] == "Q: one"
    assert kind(model, own, split=split, parse=str.upper).invoke("x").text.endswith("GOOD LUCK!")
    assert kind(model, own, split=split, parse_split=lambda text: ["z"]).invoke("x").reasoning.startswith("Q: z\n")


@pytest.mark.parametrize("kind", [LeastToMost, Decompose])
def test_one_text_is_no_list_of_questions(oracle: type[Oracle], kind: Any) -> None:
    model = oracle(lambda text: "one")
    answer = kind(model, parse_split=str.strip).invoke("x")
    assert "let it give a list" in str(answer.error)
    assert len(model.prompts) == 1


def test_prompts_without_what_a_step_fills_are_refused(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "a")
    with pytest.raises(PromptError, match=r"no \{solved\}"):
        LeastToMost(model, "{question} {subquestion}")
    with pytest.raises(PromptError, match=r"no \{subquestion\}"):
        Decompose(model, part="{question}")
    assert LeastToMost(model).variables == Decompose(model).variables == {"question"}
    chain = LeastToMost(model, STEP, split="Split: {commands}", last="commands")
    assert chain.variables == {"commands"}


@pytest.mark.parametrize("kind", [LeastToMost, Decompose])
@pytest.mark.parametrize("most", [0, -1, "3"])
def test_a_number_of_questions_that_can_not_be(oracle: type[Oracle], kind: Any, most: Any) -> None:
    with pytest.raises(SettingsError, match="most="):
        kind(oracle(lambda text: "a"), most=most)
