"""Control codes: metadata in front of a text that say what kind of text follows.

    from condition import ControlCodes

    codes = ControlCodes(genre="news", audience="children", length=80, extras={"tone": "dry"})
    prompt = codes("Write about {topic}.")           # the same prompt behind a system message with the codes
    prompt.format(topic="bridges")

CTRL (Keskar et al. 2019, arXiv 1909.05858) was trained behind such codes; a chat model reads them in its system
message. They are words of the prompt, not a limit on tokens: a model that was not tuned with them may disregard them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from condition.errors import ControlError
from condition.prompts.placed import text_message
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages, Options


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1:
        raise ValueError("a code is one line: a second one would read as another code")
    return text


def _as_pairs(given: object) -> object:
    return tuple(sorted(given.items())) if isinstance(given, Mapping) else given


Code = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_one_line)]
Count = Annotated[int, Field(ge=1)]


@final
class ControlCodes(Options):
    """What kind of text is wanted, one line a code. Raises SettingsError for no code, an empty one or several lines.

    They go into the system message, below what it says; a prompt without one gets it; a text prompt begins with them.
    """

    genre: Code | None = None
    audience: Code | None = None
    length: Count | Code | None = None
    """In words, or as text."""
    formality: Code | None = None
    extras: Annotated[tuple[tuple[Code, Code], ...], BeforeValidator(_as_pairs)] = ()
    """Codes of one's own, by name."""

    def __init__(
        self,
        genre: str | None = None,
        audience: str | None = None,
        length: int | str | None = None,
        formality: str | None = None,
        extras: Mapping[str, str] | tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(genre=genre, audience=audience, length=length, formality=formality, extras=extras)

    @model_validator(mode="after")
    def _says_something(self) -> ControlCodes:
        if not self.values:
            raise ValueError('no code is given; write for example ControlCodes(genre="news")')
        if hidden := {name for name, _ in self.extras} & {"genre", "audience", "length", "formality"}:
            raise ValueError(f"extras repeat {', '.join(sorted(hidden))}, which has a field of its own")
        return self

    @property
    def values(self) -> dict[str, str]:
        """The codes that are given, for templates that name them: `prompt.format(question=…, **codes.values)`."""
        length = f"about {self.length} words" if isinstance(self.length, int) else self.length
        own = {"genre": self.genre, "audience": self.audience, "length": length, "formality": self.formality}
        return {name: value for name, value in (*own.items(), *self.extras) if value is not None}

    def __str__(self) -> str:
        return "\n".join(f"{name[0].upper()}{name[1:]}: {value}" for name, value in self.values.items())

    def __call__(self, prompt: object, /) -> Prompt:
        """The prompt with the codes in it: ours, a string (one user message), turns, or LangChain's.

        A ChatPrompt or TextPrompt stays one, so that it is saved with a tuned model.
        """
        prompt = as_prompt(prompt)
        if isinstance(prompt, TextPrompt):
            template = f"{_literal(str(self), prompt.template_format)}\n\n{prompt.template}"
            return TextPrompt(
                template, inputs=prompt.inputs, parse=prompt.parse, template_format=prompt.template_format
            )
        if isinstance(prompt, ChatPrompt):
            return self._in_chat(prompt)
        return _Coded(self, prompt)

    def before(self, messages: Messages, /) -> Messages:
        """Messages with the codes in their system message, which is added where there is none."""
        first = messages[0] if messages else None
        if first is not None and first.role == "text":
            told = f"{self}\n\n"
            return (text_message([Message("text", told, ((0, len(told)),)), first]), *messages[1:])
        if first is not None and first.role == "system":
            return (Message("system", f"{first.content}\n\n{self}"), *messages[1:])
        return (Message("system", str(self)), *messages)

    def __and__(self, other: object) -> ControlCodes:
        """Raises ControlError: codes are no limit."""
        raise ControlError(
            f"ControlCodes can't be joined with {type(other).__name__} by &: they are words of the prompt, no limit on "
            "tokens. Write model.generate([codes(prompt).format(...)], control=...) to use both"
        )

    def _in_chat(self, prompt: ChatPrompt) -> ChatPrompt:
        parts: list[tuple[str, str] | Message] = list(prompt.messages)
        first = parts[0]
        if isinstance(first, Message):
            parts = [*self.before((first,)), *parts[1:]]
        elif first[0] == "system":
            parts[0] = ("system", f"{first[1]}\n\n{_literal(str(self), prompt.template_format)}")
        else:
            parts.insert(0, Message("system", str(self)))
        return ChatPrompt(parts, inputs=prompt.inputs, parse=prompt.parse, template_format=prompt.template_format)


@final
class _Coded:
    """A prompt of another kind, with codes."""

    def __init__(self, codes: ControlCodes, prompt: Prompt) -> None:
        self.codes, self.prompt = codes, prompt
        self.parse: Callable[[str], object] | None = getattr(prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables

    def format(self, /, **inputs: object) -> Messages:
        return self.codes.before(self.prompt.format(**inputs))


def _literal(text: str, template_format: str) -> str:
    """A template that writes this text."""
    if template_format == "jinja2":
        return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
    return text.replace("{", "{{").replace("}", "}}")
