from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from condition.errors import SettingsError
from condition.prompts.parse import last_number
from condition.reasoning.best_of import BestOf, question_of
from condition.reasoning.budget import Budget
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.verify import JudgeVerifier, ProgramVerifier

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

SAID = ["I think 3", "it is 8", "hm, 5", "so 8"]


def test_the_verifier_chooses(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: SAID)
    heard: list[tuple[str, list[str]]] = []

    def near_six(question: str, candidates: Sequence[str]) -> list[float]:
        heard.append((question, list(candidates)))
        return [-abs(float(c) - 6) for c in candidates]

    chain = BestOf(ChainOfThought(model, "{q}", parse=last_number), near_six, 4)
    answer = chain.invoke("how many?")
    assert (answer.text, answer.score, answer.reasoning) == ("5.0", -1.0, "hm, 5")
    assert heard == [("how many?", ["3.0", "8.0", "5.0"])]  # each different answer once
    assert [c.text for c in answer.candidates] == SAID
    assert (model.calls, len(model.prompts), model.samplings[0].n) == (1, 1, 4)


def test_it_can_read_the_reasoning(oracle: type[Oracle]) -> None:
    longest = ProgramVerifier(lambda question, text: float(len(text)))
    chain = BestOf(ChainOfThought(oracle(lambda text: SAID), "{q}"), longest, 4, reads="reasoning")
    assert chain.invoke("x").reasoning == "I think 3"


def test_a_judge_is_asked_for_all_problems_at_once(oracle: type[Oracle]) -> None:
    writer, judge = oracle(lambda text: SAID), oracle(lambda text: text.split("Answer: ")[1].split()[0])
    chain = BestOf(ChainOfThought(writer, "{question}", parse=last_number), JudgeVerifier(judge), 4)
    answers = chain.batch([f"{i}?" for i in range(10)])
    assert {a.text for a in answers} == {"8.0"}
    assert (writer.calls, judge.calls, len(judge.prompts)) == (1, 1, 10 * 3)
    assert judge.samplings[0].temperature == 0


def test_what_fails(oracle: type[Oracle]) -> None:
    def broken(question: str, candidates: Sequence[str]) -> list[float]:
        raise RuntimeError("off")

    answer = BestOf(ChainOfThought(oracle(lambda text: SAID), "{q}"), broken, 4).invoke("x")
    assert (answer.text, answer.score) == ("I think 3", None)
    assert "the verifier failed" in str(answer.error)
    none = BestOf(ChainOfThought(oracle(lambda text: "?"), "{q}", parse=last_number), broken, 4).invoke("x")
    assert "it has no number" in str(none.error)
    assert [c.text for c in none.candidates] == ["?"] * 4
    some = ChainOfThought(oracle(lambda text: ["none", "it is 8", "no idea"]), "{q}", parse=last_number)
    kept = BestOf(some, ProgramVerifier(lambda q, a: float(a)), 3).invoke("x")
    assert (kept.score, [c.text for c in kept.candidates]) == (8, ["none", "it is 8", "no idea"])
    cut = BestOf(
        ChainOfThought(oracle(lambda text: SAID), "{q}", parse=last_number),
        ProgramVerifier(lambda q, a: float(a)),
        4,
        budget=Budget(calls=1),
    ).invoke("x")
    assert cut.text == "3.0"
    assert "over budget" in str(cut.error)
    with pytest.raises(SettingsError, match="no verifier"):
        BestOf(ChainOfThought(oracle(lambda text: SAID), "{q}"), "good")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="samples=0"):
        BestOf(ChainOfThought(oracle(lambda text: SAID), "{q}"), broken, 0)


def test_the_question_among_the_inputs() -> None:
    assert question_of({"question": "a", "context": "b"}) == "a"
    assert question_of({"puzzle": 4}) == "4"
    assert question_of({"a": 1, "b": 2}) == "a: 1\nb: 2"
