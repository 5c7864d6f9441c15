"""Prompts made of prompts: joined, filled in part, one's words in another.

    asked = ChatPrompt([("system", "Answer in {language}.")]) + History() + ChatPrompt([("user", "{question}")])
    french = asked.partial(language="French")
    french.format(history=[("user", "Hello"), ("assistant", "Bonjour")], question="Where is Rouen?")

    PipelinePrompt(TextPrompt("{rules}\\n\\nQ: {question}\\nA:"), {"rules": TextPrompt("Be {tone}.")})

Values go from one to the other as they are: nothing that was filled in is parsed as a template again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.prompts.base import BasePromptTemplate
from langchain_core.runnables import Runnable

from condition.errors import PromptError
from condition.prompts.display import Slot, html, markdown
from condition.prompts.examples import nulls_in
from condition.prompts.placed import text_message
from condition.prompts.wrapped import wrapped
from condition.protocols import Prompt
from condition.types import Message, Messages

Parse = Callable[[str], Any]


class Composable(ABC):
    """What every prompt of ours can do: be joined with `+`, filled in part, shown, and used inside LangChain."""

    parse: Parse | None = None

    @property
    @abstractmethod
    def variables(self) -> frozenset[str]:
        """Names that `format` needs."""

    @abstractmethod
    def format(self, /, **inputs: object) -> Messages:
        """The messages with the values in place."""

    @abstractmethod
    def read(self, other: object, /) -> Prompt:
        """What stands beside this prompt in a sum, as a Prompt: a string is a template of this prompt's kind."""

    def __add__(self, other: object) -> Composable:
        return Joined([self, self.read(other)])

    def __radd__(self, other: object) -> Composable:
        return Joined([self.read(other), self])

    def __or__(self, other: Any) -> Runnable[Any, Any]:
        chain: Runnable[Any, Any] = self.to_langchain() | other
        return chain

    def partial(self, **values: object) -> Partial:
        """The same prompt with some values known already; a function is called anew for each prompt."""
        return Partial(self, values)

    @property
    def chooses(self) -> bool:
        """Whether each item has examples of its own, here or in a prompt within."""
        return False

    def fixed(self, inputs: Mapping[str, object], /) -> Composable:
        """The same prompt with the examples of this item for all items."""
        return self

    def preview(self, /, **inputs: object) -> Messages:
        """The messages as they will be sent; a value that is not given is shown as its name in braces."""
        return self.format(**{name: inputs.get(name, Slot(name)) for name in self.variables})

    def to_langchain(self) -> BasePromptTemplate[Any]:
        """The same as a LangChain template; `as_prompt` is the way back."""
        return wrapped(self)

    def _repr_html_(self) -> str:
        return html(_shown(self))

    def _repr_markdown_(self) -> str:
        return markdown(_shown(self))


def filled(prompt: Prompt, row: Mapping[str, Any]) -> Messages:
    """The messages for a row. Ours take what they need of it; others get the variables that they name."""
    if isinstance(prompt, Composable):
        return prompt.format(**row)
    return prompt.format(**{name: row[name] for name in prompt.variables if name in row})


def previewed(prompt: Prompt, inputs: Mapping[str, object]) -> Messages:
    """As `Composable.preview`, of any prompt."""
    if isinstance(prompt, Composable):
        return prompt.preview(**inputs)
    return prompt.format(**{name: inputs.get(name, Slot(name)) for name in prompt.variables})


def chooses(prompt: Prompt) -> bool:
    """As `Composable.chooses`, of any prompt."""
    return isinstance(prompt, Composable) and prompt.chooses


def fixed(prompt: Prompt, inputs: Mapping[str, object]) -> Prompt:
    """As `Composable.fixed`, of any prompt."""
    return prompt.fixed(inputs) if isinstance(prompt, Composable) else prompt


def words(messages: Messages) -> str:
    """What messages say, without who says it."""
    return "\n\n".join(m.content for m in messages)


@final
class Joined(Composable):
    """Prompts one behind the other: turns follow turns, text follows text without anything in between.

    Raises PromptError for no parts and, in `format`, where text and turns meet.
    """

    def __init__(self, parts: Sequence[Prompt]) -> None:
        self.parts: tuple[Prompt, ...] = tuple(
            one for part in parts for one in (part.parts if isinstance(part, Joined) else (part,))
        )
        if not self.parts:
            raise PromptError("nothing to join: give at least one prompt")
        parsers = [p for part in self.parts if (p := getattr(part, "parse", None)) is not None]
        self.parse = parsers[-1] if parsers else None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset().union(*(part.variables for part in self.parts))

    def format(self, /, **inputs: object) -> Messages:
        return _together([filled(part, inputs) for part in self.parts])

    def preview(self, /, **inputs: object) -> Messages:
        return _together([previewed(part, inputs) for part in self.parts])

    @property
    def chooses(self) -> bool:
        return any(map(chooses, self.parts))

    def fixed(self, inputs: Mapping[str, object], /) -> Joined:
        return Joined([fixed(part, inputs) for part in self.parts])

    def read(self, other: object, /) -> Prompt:
        for part in self.parts:
            if isinstance(part, Composable):
                return part.read(other)
        return _prompt_only(other)

    def to_langchain(self) -> BasePromptTemplate[Any]:
        templates = [part.to_langchain() for part in self.parts if isinstance(part, Composable)]
        chats = [t for t in templates if isinstance(t, ChatPromptTemplate) and not t.partial_variables]
        if len(chats) < len(self.parts):
            return wrapped(self)
        return ChatPromptTemplate([message for chat in chats for message in chat.messages])

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))


@final
class Partial(Composable):
    """A prompt with some of its values known. They stand, also where a row has a column of that name.

    Raises PromptError for a value that the prompt does not use, and for None, which would be written as a word.
    """

    def __init__(self, prompt: Prompt, values: Mapping[str, object]) -> None:
        if unknown := values.keys() - prompt.variables:
            raise PromptError(
                f"the prompt does not use {', '.join(map(repr, sorted(unknown)))}; "
                f"it has {', '.join(map(repr, sorted(prompt.variables))) or 'no variables'}"
            )
        nulls = nulls_in(values, values)
        if nulls and getattr(prompt, "inputs", None) is None:  # a model of the inputs decides itself what None means
            raise PromptError(
                f"{nulls[0]!r} is {values[nulls[0]]}, which would be written as a word: give a text, or leave it out"
            )
        self.prompt = prompt
        self.values = dict(values)
        self.parse = getattr(prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables - self.values.keys()

    def format(self, /, **inputs: object) -> Messages:
        return filled(self.prompt, {**inputs, **self._known()})

    def preview(self, /, **inputs: object) -> Messages:
        return previewed(self.prompt, {**inputs, **self._known()})

    @property
    def chooses(self) -> bool:
        return chooses(self.prompt)

    def fixed(self, inputs: Mapping[str, object], /) -> Partial:
        return Partial(fixed(self.prompt, {**inputs, **self._known()}), self.values)

    def read(self, other: object, /) -> Prompt:
        return self.prompt.read(other) if isinstance(self.prompt, Composable) else _prompt_only(other)

    def _known(self) -> dict[str, object]:
        return {name: value() if callable(value) else value for name, value in self.values.items()}

    def __repr__(self) -> str:
        return f"{self.prompt!r}.partial({', '.join(f'{n}={v!r}' for n, v in self.values.items())})"


@final
class PipelinePrompt(Composable):
    """A prompt whose variables may be the words of other prompts: `parts` maps a variable to its prompt.

    Parts are written in their order, and a later one may use the words of an earlier one.
    Raises PromptError for a part that nothing uses.
    """

    def __init__(self, prompt: Prompt, parts: Mapping[str, Prompt]) -> None:
        self.prompt = _prompt_only(prompt)
        self.parts = {name: _prompt_only(part) for name, part in parts.items()}
        self.parse = getattr(prompt, "parse", None)
        later = prompt.variables
        for name, part in reversed(self.parts.items()):
            if name not in later:
                raise PromptError(f"nothing uses the words of {name!r}: the prompt has {sorted(prompt.variables)}")
            later = (later - {name}) | part.variables
        self._variables = later

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def format(self, /, **inputs: object) -> Messages:
        return filled(self.prompt, self._row(inputs))

    def preview(self, /, **inputs: object) -> Messages:
        row = dict(inputs)
        for name, part in self.parts.items():
            row[name] = words(previewed(part, row))
        return previewed(self.prompt, row)

    @property
    def chooses(self) -> bool:
        return any(map(chooses, (self.prompt, *self.parts.values())))

    def fixed(self, inputs: Mapping[str, object], /) -> PipelinePrompt:
        row = self._row(inputs)
        return PipelinePrompt(fixed(self.prompt, row), {name: fixed(part, row) for name, part in self.parts.items()})

    def _row(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """The inputs and the words of the parts."""
        row = dict(inputs)
        for name, part in self.parts.items():
            row[name] = words(filled(part, row))
        return row

    def read(self, other: object, /) -> Prompt:
        return self.prompt.read(other) if isinstance(self.prompt, Composable) else _prompt_only(other)

    def __repr__(self) -> str:
        return f"PipelinePrompt({self.prompt!r}, {self.parts!r})"


def _together(parts: list[Messages]) -> Messages:
    messages = [message for part in parts for message in part]
    text = [m.role == "text" for m in messages]
    if any(text) and not all(text):
        raise PromptError("a text prompt and turns of a conversation can't be joined: make all parts of one kind")
    return (text_message(messages),) if any(text) else tuple(messages)


def _shown(prompt: Composable) -> Messages:
    try:
        return prompt.preview()
    except PromptError:  # a format or an input model that takes no names for values
        return (Message("text", repr(prompt)),)


def _prompt_only(other: object) -> Prompt:
    if isinstance(other, Prompt):
        return other
    raise PromptError(
        f"{type(other).__name__} can't be joined here: make it a ChatPrompt or a TextPrompt first, or as_prompt(...) it"
    )
