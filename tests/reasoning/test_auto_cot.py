from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.embeddings import Embeddings

from condition.errors import DataError, ModelError, PromptError, SettingsError
from condition.prompts.parse import last_number
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.reasoning.auto_cot import AutoCoT
from condition.types import Message

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

PETS = ["How many cats are 1 and 2?", "How many cats are 2 and 2?", "How many cats are 3 and 2?"]
COINS = ["How many coins are 5 and 5?", "How many coins are 6 and 5?"]


class Kinds(Embeddings):
    """One axis for cats, one for coins, and a little of a third for the first number."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float("cats" in t), float("coins" in t), 0.01 * int(t.split()[4])] for t in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def adds(text: str) -> str:
    if "Therefore, the answer is" in text:
        return text.split("makes ")[1].split(".")[0]
    a, b = (int(word) for word in text.split("are ")[-1].split("?")[0].split(" and "))
    lines = "\nwell" * 6 if a == 2 and "cats" in text else ""
    return f"{a} and {b} makes {a + b}.{lines} The answer is {a + b}."


def test_an_example_of_each_cluster(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    chain = AutoCoT(model, [*PETS, *COINS], demonstrations=2, encoder=Kinds())
    by_question = {str(e.inputs["question"]): e for e in chain.examples}
    assert len(by_question) == 2
    cats, coins = sorted(by_question)
    assert cats in (PETS[0], PETS[2])  # the one in the middle is reasoned about in too many lines
    assert coins in COINS
    assert by_question[coins].target == str(int(coins.split()[4]) + 5)
    assert model.calls == 2 * 2  # two rounds of two calls: the second for the cats only
    assert [len(asked) for asked in model.asked] == [2, 2, 1, 1]


def test_examples_are_shown_before_the_question(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    prompt = ChatPrompt([("system", "Be brief."), ("user", "{question}")])
    chain = AutoCoT(model, [*PETS, *COINS], prompt=prompt, demonstrations=2, encoder=Kinds())
    before = model.calls
    answers = chain.batch(["How many dogs are 4 and 4?", "How many dogs are 4 and 5?"])
    assert [a.text for a in answers] == ["8", "9"]
    assert model.calls == before + 1
    roles = [message.role for message in model.asked[-1][0]]
    assert roles == ["system", *["user", "assistant"] * 2, "user"]
    first = model.asked[-1][0][1:3]
    assert first[0].content == f"{chain.examples[0].inputs['question']}\n\nLet's think step by step."
    assert first[1] == Message("assistant", f"{chain.examples[0].rationale} The answer is {chain.examples[0].target}.")


def test_a_question_is_not_among_its_own_examples(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    chain = AutoCoT(model, COINS, demonstrations=2, encoder=Kinds())
    chain.invoke(COINS[0])
    assert model.prompts[-1].count(COINS[0]) == 1
    assert model.prompts[-1].count(COINS[1]) == 1


@pytest.mark.parametrize(
    ("thought", "read", "is_shown"),
    [
        ("one\ntwo", "7", True),
        ("one\n\n \ntwo\n", "7", True),  # empty lines are none
        ("one\ntwo\nthree", "7", False),
        ("", "7", False),
        (" \n", "7", False),
        ("one", "who knows", False),  # its answer can't be read
    ],
)
def test_what_is_shown_is_short_and_has_an_answer(
    oracle: type[Oracle], thought: str, read: str, is_shown: bool
) -> None:
    def rule(text: str) -> str:
        tried = PETS[1] in text  # the one in the middle, which is tried first
        if "Therefore" in text:
            return read if tried else "5"
        return thought if tried else "fine"

    chain = AutoCoT(oracle(rule), PETS, demonstrations=1, encoder=Kinds(), most_lines=2, parse=last_number)
    (example,) = chain.examples
    assert (example.inputs["question"] == PETS[1]) is is_shown
    assert (example.rationale, example.target) == (("one two", "7.0") if is_shown else ("fine", "5.0"))


def test_a_question_of_many_words_is_not_shown(oracle: type[Oracle]) -> None:
    long = f"{PETS[1]} Mind you"
    for most in (len(long.split()), len(long.split()) - 1):
        chain = AutoCoT(
            oracle(lambda text: "5"), [PETS[0], long, PETS[2]], demonstrations=1, encoder=Kinds(), most_words=most
        )
        assert (chain.examples[0].inputs["question"] == long) is (most == len(long.split()))


def test_plain_text(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    chain = AutoCoT(model, COINS, prompt=TextPrompt("Q: {question}\nA:"), demonstrations=1, encoder=Kinds())
    assert chain.invoke("How many dogs are 4 and 4?").text == "8"
    (message,) = model.asked[-1][0]
    assert message.role == "text"
    assert message.content.endswith("\n\nQ: How many dogs are 4 and 4?\nA: Let's think step by step.")
    assert message.content.count("Q: ") == 2


def test_what_does_not_do(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    with pytest.raises(DataError, match="2 questions for 3 demonstrations"):
        AutoCoT(model, COINS, demonstrations=3, encoder=Kinds())
    with pytest.raises(SettingsError, match="demonstrations=0"):
        AutoCoT(model, COINS, demonstrations=0)
    with pytest.raises(DataError, match="a dict with them"):
        AutoCoT(model, COINS, prompt="{a} {b}", demonstrations=1)
    with pytest.raises(DataError, match="question 0 has no 'question'"):
        AutoCoT(model, [{"q": "x"}], demonstrations=1)
    with pytest.raises(ModelError, match="longer than most_words"):
        AutoCoT(model, COINS, demonstrations=1, most_words=3, encoder=Kinds())
    with pytest.raises(ModelError, match="1 to 5 lines"):
        AutoCoT(oracle(lambda text: ""), COINS, demonstrations=1, encoder=Kinds())
    with pytest.raises(PromptError):
        AutoCoT(model, COINS, demonstrations=1, encoder=Kinds()).batch([{}])


@pytest.mark.real
def test_the_embedded_encoder_tells_kinds_apart(oracle: type[Oracle]) -> None:
    cooking = ["How long do you boil 1 and 2 eggs?", "How much salt goes into soup, 2 and 2 spoons?"]
    money = ["What do 3 and 4 euros make in the bank?", "How many dollars are 5 and 6 dollars?"]

    def rule(text: str) -> str:
        return "7" if "Therefore" in text else "I think. The answer is 7."

    chain = AutoCoT(oracle(rule), [*cooking, *money], demonstrations=2)
    shown = {str(e.inputs["question"]) for e in chain.examples}
    assert len(shown & set(cooking)) == len(shown & set(money)) == 1
