from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from condition.errors import ModelError, PromptError, SettingsError
from condition.prompts.parse import after, last_number
from condition.prompts.template import ChatPrompt
from condition.reasoning.ask_and_explain import AskAndExplain, named
from condition.reasoning.budget import Budget
from condition.reasoning.self_consistency import SelfConsistency

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle


def rule(text: str) -> str:
    if "Suppose that the answer is" in text:
        return "Gills need air in water." if '"yes"' in text else "Fish live in water."
    if "Which explanation" in text:
        assert "yes: Gills need air in water.\nno: Fish live in water." in text
        return "Yes, the first."
    return "Gills." if "Why?" in text else "The answer is yes."


def test_it_answers_and_then_explains(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    answers = AskAndExplain(model).batch(["Can a fish drown?"] * 3)
    assert [(a.text, a.reasoning) for a in answers] == [("yes", "Gills.")] * 3
    assert (model.calls, len(model.prompts)) == (2, 6)
    assert [c.text for c in answers[0].candidates] == ["The answer is yes.", "Gills."]
    assert model.asked[1][0][:1] == model.asked[0][0]  # the explanation goes on from the answer


def test_the_question_for_the_reason_is_yours(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "Wegen der Kiemen." if text.endswith("Warum?") else "Ja.")
    answer = AskAndExplain(model, because="Warum?").invoke("Kann ein Fisch ertrinken?")
    assert (answer.text, answer.reasoning) == ("Ja", "Wegen der Kiemen.")


def test_it_weighs_the_explanations_of_all_choices(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    answers = AskAndExplain(model, choices=["yes", "no"]).batch(["Can a fish drown?"] * 3)
    assert {a.text for a in answers} == {"yes"}
    assert (model.calls, len(model.prompts)) == (2, 3 * (2 + 1))
    assert [c.text for c in answers[0].candidates][:2] == ["Gills need air in water.", "Fish live in water."]


def test_the_decision_is_read_off_greedily_where_explanations_are_drawn(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    voted = SelfConsistency(AskAndExplain(model, choices=["yes", "no"]), 4, early=False, temperature=0.7)
    assert voted.invoke("Can a fish drown?").text == "yes"
    assert [s.temperature for s in model.samplings] == [0.7, 0]


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("yes", "yes"),
        ("yes\n\nGills need water.", "yes"),
        ("The answer is yes.\nThat it is no is not convincing.", "yes"),
        ("I weigh yes and no. Answer: no", "no"),
        ("yes\n\nThe explanation for no does not convince.", None),
    ],
)
def test_the_whole_reply_names_the_choice(oracle: type[Oracle], said: str, choice: str | None) -> None:
    """Not its last line, which may say why another choice is wrong."""
    model = oracle(lambda text: said if "Which explanation" in text else "because")
    answer = AskAndExplain(model, choices=["yes", "no"]).invoke("x")
    assert answer.parsed == choice
    assert (answer.error is None) == (choice is not None)


def test_the_prompts_own_parsers_count(oracle: type[Oracle]) -> None:
    ask = ChatPrompt([("user", "{question}")], parse=last_number)
    model = oracle(lambda text: "Why not?" if "Why?" in text else "It is 7, I think.\nGood luck!")
    assert AskAndExplain(model, ask).invoke("x").text == "7.0"
    decide = ChatPrompt([("user", "{explanations} Which explanation?")], parse=after("I choose"))
    model = oracle(lambda text: "I choose no\nyes" if "Which explanation" in text else "so")
    assert AskAndExplain(model, choices=["yes", "no"], decide=decide).invoke("x").text == "no"
    assert AskAndExplain(model, choices=["yes", "no"], decide=decide, parse=lambda t: t[-3:]).invoke("x").text == "yes"


def test_explanations_are_kept_where_another_fails(oracle: type[Oracle]) -> None:
    def broken(text: str) -> str:
        if '"yes"' in text:
            raise RuntimeError("refused")
        return rule(text)

    answer = AskAndExplain(oracle(broken), choices=["yes", "no"]).invoke("x")
    assert (answer.text, answer.reasoning) == ("", "no: Fish live in water.")
    assert [c.text for c in answer.candidates] == ["Fish live in water."]
    assert "refused" in str(answer.error)
    cut = AskAndExplain(oracle(rule), choices=["yes", "no"], budget=Budget(calls=1)).invoke("x")
    assert (cut.reasoning, cut.text) == ("yes: Gills need air in water.", "")


def test_what_it_reads(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    assert AskAndExplain(model, "{fish} {question}").variables == {"fish", "question"}
    weighed = AskAndExplain(
        model, "{unread}", choices=["a", "b"], explain="{fish} {answer}", decide="{explanations} {water}"
    )
    assert weighed.variables == {"fish", "water"}
    with pytest.raises(PromptError, match="no value for 'water'"):
        weighed.invoke({"fish": "x"})


def test_a_choice_is_named_once() -> None:
    assert named("NO", ["no", "no way"]) == "no"
    assert named("No way", ["no", "no way"]) == "no way"
    assert named("I say: (B).", ["a", "b"]) == "b"
    for text in ("nothing", "a or b"):
        with pytest.raises(ModelError, match="of the choices"):
            named(text, ["a", "b"])


def test_what_goes_wrong_is_said(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "Both are good." if "Which" in text else "so")
    answer = AskAndExplain(model, choices=["yes", "no"]).invoke("x")
    assert (answer.text, answer.reasoning) == ("", "yes: so\nno: so")
    assert "names none of the choices yes, no" in str(answer.error)
    cut = AskAndExplain(oracle(rule), budget=Budget(calls=1)).invoke("x")
    assert (cut.text, cut.reasoning) == ("yes", None)
    assert "1 of 1 calls" in str(cut.error)
    unread = AskAndExplain(oracle(rule), parse=last_number, budget=Budget(calls=1)).invoke("x")
    assert "it has no number" in str(unread.error)  # what came first
    with pytest.raises(SettingsError, match="two or more"):
        AskAndExplain(model, choices="yes")
    with pytest.raises(SettingsError, match="two or more"):
        AskAndExplain(model, choices=["yes", "yes"])
    with pytest.raises(PromptError, match=r"no \{answer\}"):
        AskAndExplain(model, explain="{question}")
