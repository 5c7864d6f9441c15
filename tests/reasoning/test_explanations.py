from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda

from condition.errors import DataError, Interrupted, ModelError, PromptError
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.template import ChatPrompt
from condition.reasoning.cot import ChainOfThought, ZeroShotCoT
from condition.reasoning.explanations import explanations, reasoned, same
from condition.types import Answer, Example

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

ROWS = [Example({"question": f"{a} and {b}?"}, str(a + b), id=f"{a}{b}") for a in range(1, 4) for b in range(1, 4)]


def adds(text: str) -> str:
    """Right where both are small, wrong else; with a hint right but for 3 and 3."""
    first, second = (int(word.strip("?")) for word in text.split("\n")[0].split(" and "))
    total = first + second
    if "Hint" in text and total == 6:
        return "I can't. The answer is 66."
    if "Hint" not in text and total > 4:
        return f"I guess. The answer is {total + 1}."
    return f"From {first} I count {second} on. The answer is {total}."


def test_right_ones_are_kept_and_wrong_ones_asked_again_with_a_hint(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    found = explanations(ChainOfThought(model, "{question}"), ROWS)
    assert [example.id for example in found] == [row.id for row in ROWS[:-1]]  # 3 and 3 is beyond it
    assert all(e.rationale == f"From {e.inputs['question'][0]} I count {e.inputs['question'][6]} on." for e in found)
    assert [(e.inputs, e.target) for e in found] == [(row.inputs, row.target) for row in ROWS[:-1]]  # without the hint
    assert model.calls == 2
    assert [len(asked) for asked in model.asked] == [9, 3]  # 2 and 3, 3 and 2, 3 and 3
    assert model.prompts[9].endswith("(Hint: the answer is 5. Reason to it as if you had not been told.)")


def test_an_answer_with_an_error_is_no_right_one() -> None:
    """A vote that a budget has cut may be right by chance."""
    cut = RunnableLambda(lambda inputs: Answer("3", reasoning="One more.", error="over budget"))
    with pytest.raises(ModelError, match="the first: over budget"):
        explanations(cut, [Example({"question": "1 and 2?"}, "3")])


def test_without_hints(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    assert len(explanations(ChainOfThought(model, "{question}"), ROWS, hint=None)) == 6
    assert model.calls == 1


def test_reasoning_alone_is_kept(oracle: type[Oracle]) -> None:
    two = oracle(lambda text: " 3." if "Therefore" in text else "One more than 2.\nThat is 3")
    (found,) = explanations(ZeroShotCoT(two), [Example({"question": "1 and 2?"}, "3")])
    assert found.rationale == "One more than 2.\nThat is 3"
    last = oracle(lambda text: "One more than 2.\n\n**3**")
    (found,) = explanations(ChainOfThought(last, "{question}"), [Example({"question": "1 and 2?"}, "3")])
    assert found.rationale == "One more than 2."
    bare = oracle(lambda text: "The answer is 3.")
    with pytest.raises(ModelError, match="none of 1 examples is explained; the first: it gives no reasoning"):
        explanations(ChainOfThought(bare, "{question}"), [Example({"question": "1 and 2?"}, "3")])
    with pytest.raises(ModelError, match="it gives no reasoning"):
        explanations(RunnableLambda(lambda inputs: "3"), [Example({"question": "1 and 2?"}, "3")])


def test_what_is_right_can_be_said(oracle: type[Oracle]) -> None:
    chain = ChainOfThought(oracle(adds), "{question}")
    found = explanations(chain, ROWS, right=lambda answer, target: answer.isdigit(), hint=None)
    assert len(found) == 9


@pytest.mark.parametrize(
    ("answer", "target", "equal"),
    [("7.0", "7", True), (" Paris.", "paris", True), ("1,250", "1250", True), ("7", "8", False), ("a", "7", False)],
)
def test_equal_words_or_numbers(answer: str, target: str, equal: bool) -> None:
    assert same(answer, target) is equal


def test_where_the_hint_goes(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "Known. The answer is b." if "told: b" in text else "No. The answer is a.")
    rows = [Example({"context": "c", "puzzle": "p"}, "b")]
    chain = ChainOfThought(model, "{context} {puzzle}")
    with pytest.raises(PromptError, match="where does the hint go"):
        explanations(chain, rows)
    with pytest.raises(PromptError, match=r"hint= has \['answer'\]"):
        explanations(chain, rows, hint="{answer}")
    assert not model.prompts
    (found,) = explanations(chain, rows, on="puzzle", hint="{question} told: {target}")
    assert (found.rationale, model.prompts[-1]) == ("Known.", "c p told: b")
    with pytest.raises(PromptError, match="no examples"):
        explanations(chain, [])


def test_one_that_fails_leaves_the_others(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text.startswith("1 and 1"):
            raise RuntimeError("refused")
        return adds(text)

    found = explanations(ChainOfThought(oracle(rule), "{question}"), ROWS)
    assert [example.id for example in found] == [row.id for row in ROWS[1:-1]]


def test_ctrl_c_keeps_what_was_explained(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if "Hint" in text:
            raise KeyboardInterrupt
        return adds(text)

    with pytest.raises(Interrupted) as stop:
        explanations(ChainOfThought(oracle(rule), "{question}"), ROWS)
    assert [example.id for example in stop.value.finished.values()] == ["11", "12", "13", "21", "22", "31"]


def test_they_are_ready_to_be_shown_and_to_train_on(oracle: type[Oracle]) -> None:
    found = explanations(ChainOfThought(oracle(adds), "{question}"), ROWS[:2])
    assert [e.target for e in reasoned(found)] == [
        "From 1 I count 1 on. The answer is 2.",
        "From 1 I count 2 on. The answer is 3.",
    ]
    assert [e.id for e in reasoned(found, "{rationale} So {target}")] == ["11", "12"]
    shots = FewShotPrompt(ChatPrompt([("user", "{question}")]), found, rationale=True)
    assert shots.format(question="x")[1].content == reasoned(found)[0].target
    with pytest.raises(DataError, match=r"example 0 .* has no rationale"):
        reasoned(ROWS)


def test_an_item_is_not_among_its_own_examples_when_it_is_hinted(oracle: type[Oracle]) -> None:
    shown = [Example(row.inputs, row.target, "Known.", row.id) for row in ROWS]
    model: Any = oracle(lambda text: "No. The answer is none.")
    shots = FewShotPrompt("{question}", shown, rationale=True)
    with pytest.raises(ModelError):
        explanations(ChainOfThought(model, shots), ROWS)
    assert all(len(messages) == 2 * 8 + 1 for prompts in model.asked for messages in prompts)


def test_what_is_right_may_break_for_one(oracle: type[Oracle]) -> None:
    def right(answer: str, target: str) -> bool:
        return 1 / (int(target) - 2) != 0 and same(answer, target)

    found = explanations(ChainOfThought(oracle(adds), "{question}"), ROWS, right=right)
    assert [example.id for example in found] == [row.id for row in ROWS[1:-1]]
    with pytest.raises(ModelError, match=r"right= failed for '2' and '2': ZeroDivisionError"):
        explanations(ChainOfThought(oracle(adds), "{question}"), ROWS[:1], right=right)
