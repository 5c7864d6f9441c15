"""Prompts and selectors that break a promise are caught."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

from condition import RetrievalPrompt
from condition.errors import SettingsError
from condition.testing import check_prompt, check_selector
from condition.testing.samples import EXAMPLES
from condition.types import Example, Message
from tests.testing.conftest import catch


class Greeting:
    """A prompt with one variable."""

    variables: Any = frozenset({"who"})

    def format(self, **inputs: Any) -> Any:
        return (Message("user", self.words(inputs["who"])),)

    def words(self, who: str) -> str:
        return f"Hello {who}!"


class Named(Greeting):
    variables = ["who"]  # noqa: RUF012


class Numbered(Greeting):
    variables = frozenset({0})


class Listed(Greeting):
    def format(self, **inputs: Any) -> Any:
        return [Message("user", self.words(inputs["who"]))]


class Bare(Greeting):
    def format(self, **inputs: Any) -> Any:
        return (self.words(inputs["who"]),)


class Wordless(Greeting):
    def format(self, **inputs: Any) -> Any:
        return ()


class Whole(Greeting):
    """Shows all inputs, whatever their names."""

    def format(self, **inputs: Any) -> Any:
        return (Message("user", self.words(f"{inputs['who']}{sorted(set(inputs) - {'who'})}")),)


class InOrder(Greeting):
    variables = frozenset({"who", "whom"})

    def format(self, **inputs: Any) -> Any:
        return (Message("user", " ".join(map(str, inputs.values()))),)


class Narrow(Greeting):
    def format(self, who: str) -> Any:
        return (Message("user", self.words(who)),)


class Guessing(Greeting):
    def format(self, **inputs: Any) -> Any:
        return (Message("user", self.words(inputs.get("who", "you"))),)


class Vague(Greeting):
    def format(self, **inputs: Any) -> Any:
        if "who" not in inputs:
            raise ValueError("something is missing")
        return super().format(**inputs)


class Stripped(Greeting):
    def words(self, who: str) -> str:
        return f"Hello {who.strip()}!"


class Filled(Greeting):
    """Fills in twice: braces of a value are read as variables."""

    def words(self, who: str) -> str:
        return PromptTemplate.from_template(f"Hello {who}!").format(x="x", who="who")


class Deaf(Greeting):
    def words(self, who: str) -> str:
        return "Hello!"


class Changing(Greeting):
    said = 0

    def words(self, who: str) -> str:
        self.said += 1
        return f"{self.said}. Hello {who}!"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "Prompt object: it is a prompt"),
        (Greeting, "it is an object, not its class. Seen: the class Greeting; give Greeting(...)"),
        (Named(), "variables is a frozenset. Seen: list"),
        (Numbered(), "variables are names. Seen: int, 0"),
        (Listed(), "format gives a tuple of messages. Seen: list"),
        (Bare(), "a message is a Message. Seen: str"),
        (Wordless(), "format gives at least one message. Seen: none"),
        (Whole(), "inputs that it does not use change nothing"),
        (InOrder(), "the order of the inputs means nothing"),
        (Narrow(), "format takes who, an_input_of_no_use. Seen: TypeError"),
        (Guessing(), "without 'who' format raises an error that names it. Seen: no error"),
        (Vague(), "without 'who' format raises an error that names it. Seen: ValueError: something is missing"),
        (Stripped(), "the value of 'who' is in the messages as it is. Seen: ' around \\n' became"),
        (Filled(), "the value of 'who' is in the messages as it is. Seen: '{x}' became 'Hello x!'"),
        (Deaf(), "name it in hidden= if that is meant"),
        (Changing(), "the same inputs give the same messages"),
    ],
)
def test_a_prompt_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_prompt, block)


def test_inputs_have_to_fill_it() -> None:
    catch("it needs no more than it was given", check_prompt, Greeting(), {"whom": "you"})


def test_whole_prompts() -> None:
    check_prompt(Greeting())
    check_prompt(Deaf(), hidden=["who"])
    check_prompt(PromptTemplate.from_template("{a} {b}"))
    passages = RunnableLambda(lambda asked: [Document("Oak.")])
    check_prompt(RetrievalPrompt("{passages}", passages, query="{what}"), {"what": "wood"}, hidden=["what"])


class Others:
    """A selector of the first examples that are others."""

    def __init__(self, examples: Any = EXAMPLES) -> None:
        self.examples = list(examples)

    def select(self, inputs: Any, /, k: int) -> Any:
        return [e for e in self.examples if e.inputs["question"] != inputs["question"]][:k]


class Cheat(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        return self.examples[:k]


class Generous(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        return super().select(inputs, max(1, k))


class Repeating(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        return (super().select(inputs, 1) * 9)[:k]


class Tupled(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        return tuple(super().select(inputs, k))


class Targets(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        return [example.target for example in super().select(inputs, k)]


class Popping(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        inputs["seen"] = True
        return super().select(inputs, k)


class Moody(Others):
    def select(self, inputs: Any, /, k: int) -> Any:
        self.examples.append(self.examples.pop(0))
        return super().select(inputs, k)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has select. Seen: object without select"),
        (Cheat(), "it never gives the item itself"),
        (Generous(), "it gives at most k examples. Seen: 1 for k=0"),
        (Repeating(), "it gives no example twice"),
        (Tupled(), "select gives a list. Seen: tuple"),
        (Targets(), "what is selected is an Example. Seen: str, 'green'"),
        (Popping(), "it changes nothing of what it is given"),
        (Moody(), "the same inputs give the same examples"),
    ],
)
def test_a_selector_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_selector, block, EXAMPLES)


def test_a_selector_of_no_known_examples() -> None:
    class Nothing:
        def select(self, inputs: Any, /, k: int) -> list[Example]:
            return []

    with pytest.raises(SettingsError, match="give check_selector the examples that it chooses from"):
        check_selector(Nothing())
    check_selector(Nothing(), EXAMPLES)
    check_selector(Others())
