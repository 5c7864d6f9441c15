from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from condition.errors import PromptError, SettingsError
from condition.prompts.template import ChatPrompt
from condition.reasoning.budget import Budget
from condition.reasoning.selection_inference import SelectionInference, grounded

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

NAMES = ["a", "b", "c", "d", "e", "f"]


def facts(length: int, start: int = 0) -> list[str]:
    """ "a is b.", "b is c.", … with facts that lead nowhere between them."""
    chain = [f"{NAMES[i]} is {NAMES[i + 1]}." for i in range(start, start + length)]
    return [line for fact in chain for line in (fact, f"{fact[0]}x is y.")]


def rule(text: str) -> str:
    """From "a is b" and "b is c" to "a is c"; knows the answer when it is a fact."""
    if "What follows" in text:
        first, second = (line.rstrip(".").split(" is ") for line in text.splitlines()[:2])
        assert first[1] == second[0]
        return f"{first[0]} is {second[1]}."
    known = [line.rstrip(".").split(" is ") for line in text.split("Question")[0].splitlines() if " is " in line]
    start, goal = text.split("Question: ")[1].split("\n")[0].rstrip("?").removeprefix("is ").split(" ")
    links = dict(known)
    reached = [b for a, b in known if a == start]
    if "Which of the facts" in text:
        at = reached[-1]
        return f"1. {start} is {at}\n2. {at} is {links[at]}.\n3. pigs is birds."
    return "yes" if goal in reached else "Unknown."


def problem(length: int) -> dict[str, Any]:
    return {"facts": facts(length), "question": f"is a {NAMES[length]}?"}


def test_every_step_stands_on_known_facts(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    problems = [problem(length) for length in (2, 3, 4, 5)]
    answers = SelectionInference(model).batch(problems)
    assert [a.text for a in answers] == ["yes"] * 4
    for given, answer, length in zip(problems, answers, (2, 3, 4, 5), strict=True):
        known = list(given["facts"])
        assert len(answer.parsed.steps) == length - 1
        for step in answer.parsed.steps:
            assert set(step.chosen) <= set(known)
            known.append(step.inferred)
    assert model.calls == 3 * 4  # select, infer, halt, as often as the longest needs
    assert len(model.prompts) == 3 * (1 + 2 + 3 + 4)
    assert answers[0].reasoning == "a is b. b is c. Therefore: a is c."


def test_what_goes_on_is_said_in_words_of_yours(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: rule(text).replace("Unknown.", "Noch nicht bekannt."))
    answer = SelectionInference(model, unknown="Nicht bekannt").invoke(problem(3))
    assert (answer.text, len(answer.parsed.steps)) == ("yes", 2)
    assert SelectionInference(model).invoke(problem(3)).text == "Noch nicht bekannt"


def test_inference_sees_the_chosen_facts_only(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    SelectionInference(model).invoke(problem(2))
    assert model.prompts[1].startswith("a is b.\nb is c.\n\nWhat follows")
    assert "x is y" not in model.prompts[1]


def test_what_was_made_up_is_not_chosen() -> None:
    known = ["Mice fear cats.", "12. Emma is a mouse."]
    assert grounded("- mice fear  cats\nBirds fly.\n12. Emma is a mouse.\n2. Mice fear cats.", known) == tuple(known)
    assert grounded("Birds fly.", known) == ()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"Which of": "pigs is birds"}, "chooses none of the facts"),
        ({"Which of": "a is b.", "What follows": "A is b"}, "nothing new was inferred"),
        ({"Which of": "a is b.", "What follows": ""}, "nothing new was inferred"),
    ],
)
def test_a_step_that_leads_nowhere_ends_the_problem(oracle: type[Oracle], said: dict[str, str], why: str) -> None:
    def wrong(text: str) -> str:
        return next((reply for sign, reply in said.items() if sign in text), "")

    bad = SelectionInference(oracle(wrong)).invoke(problem(2))
    assert (bad.text, bad.parsed.answer) == ("", None)
    assert why in str(bad.error)


def test_it_halts_at_its_depth_and_at_its_budget(oracle: type[Oracle]) -> None:
    short = SelectionInference(oracle(rule), depth=2).invoke(problem(5))
    assert len(short.parsed.steps) == 2
    assert "no answer after 2 steps" in str(short.error)
    cut = SelectionInference(oracle(rule), budget=Budget(calls=5)).invoke(problem(5))
    assert len(cut.parsed.steps) == 2  # select, infer, halt, select, infer
    assert "5 of 5 calls" in str(cut.error)


def test_facts_are_lines_or_a_list(oracle: type[Oracle]) -> None:
    chain = SelectionInference(oracle(rule))
    assert chain.variables == {"facts", "question"}
    assert chain.invoke({**problem(3), "facts": "\n".join(facts(3))}).text == "yes"
    assert "no facts" in str(chain.invoke({**problem(3), "facts": " "}).error)
    assert "give a list of sentences" in str(chain.invoke({**problem(3), "facts": 5}).error)
    with pytest.raises(PromptError, match=r"no \{chosen\}"):
        SelectionInference(oracle(rule), infer="What follows?")


def test_no_steps_at_all_are_refused(oracle: type[Oracle]) -> None:
    with pytest.raises(SettingsError, match="depth=0"):
        SelectionInference(oracle(rule), depth=0)


def test_inference_may_see_all_facts_as_lines(oracle: type[Oracle]) -> None:
    model = oracle(rule)
    SelectionInference(model, infer="{chosen}\nWhat follows, of all:\n{facts}").invoke(problem(2))
    assert "of all:\na is b.\nax is y." in next(p for p in model.prompts if "What follows" in p)


def test_the_prompts_own_parser_counts(oracle: type[Oracle]) -> None:
    halt = ChatPrompt([("user", "Facts:\n{facts}\n\nQuestion: {question}\n")], parse=str.upper)
    assert SelectionInference(oracle(rule), halt).invoke(problem(2)).text == "YES"
    assert SelectionInference(oracle(rule), halt, parse=str.strip).invoke(problem(2)).text == "yes"
