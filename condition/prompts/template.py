"""Prompts from templates: f-string or sandboxed Jinja2, on langchain-core's own.

A template is parsed once, when the prompt is made. Values are put in as they are and never parsed again, so braces,
percent signs and Jinja markers in data are safe.

    qa = ChatPrompt([("system", "Answer from the passage."), ("user", "{context}\\n\\n{question}")])
    qa.format(context="Ada was born in 1815.", question="When was Ada born?")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from langchain_core.messages import BaseMessage
from langchain_core.prompts import ChatMessagePromptTemplate, ChatPromptTemplate, PromptTemplate
from langchain_core.prompts.base import BasePromptTemplate
from langchain_core.prompts.message import BaseMessagePromptTemplate
from pydantic import BaseModel, ValidationError

from condition.errors import PromptError
from condition.prompts.braces import warn_of_jinja
from condition.prompts.compose import Composable, Parse, Partial
from condition.prompts.engines import FORMATS, TemplateFormat, format_of, guarded, variables_of
from condition.prompts.messages import (
    ROLES,
    from_langchain_messages,
    message_from_langchain,
    role_of,
    to_langchain_message,
)
from condition.prompts.placed import place
from condition.prompts.wrapped import WrappedPrompt
from condition.protocols import Prompt
from condition.types import Message, Messages, Role

_LANGCHAIN = {"user": "human", "assistant": "ai"}


class _Templated(Composable):
    """What both prompts share: checked inputs and an optional parser of the answer."""

    template_format: TemplateFormat

    def __init__(self, variables: frozenset[str], inputs: type[BaseModel] | None, parse: Parse | None) -> None:
        self._variables = variables
        self.inputs = inputs
        self.parse = parse
        if inputs is not None and (unknown := variables - set(inputs.model_fields)):
            raise PromptError(f"the template uses {_names(unknown)}, which {inputs.__name__} does not have")

    @property
    def variables(self) -> frozenset[str]:
        """Names that `format` needs."""
        return self._variables

    def _checked(self, given: Mapping[str, object]) -> Mapping[str, object]:
        if self.inputs is not None:
            try:
                given = self.inputs.model_validate(dict(given)).model_dump()
            except ValidationError as error:
                raise PromptError(f"inputs do not fit {self.inputs.__name__}: {error}") from error
        if missing := self._variables - given.keys():
            raise PromptError(f"no value for {_names(missing)}; given: {_names(given) or 'nothing'}")
        return {name: given[name] for name in self._variables}

    def _only_words(self, template_format: str = "") -> bool:
        return self.inputs is None and self.parse is None and template_format in ("", self.template_format)


@final
class ChatPrompt(_Templated):
    """Turns of a conversation: `(role, template)` pairs, or messages, ours or LangChain's, whose words stay.

    `inputs` is an optional pydantic model that values must fit; `parse` turns the model's text into a value.
    Raises PromptError for a template that does not parse and, in `format`, for a missing value.
    """

    def __init__(
        self,
        messages: Sequence[tuple[str, str] | Message | BaseMessage],
        *,
        inputs: type[BaseModel] | None = None,
        parse: Parse | None = None,
        template_format: TemplateFormat = "f-string",
    ) -> None:
        if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
            raise PromptError('a ChatPrompt takes a list of (role, template) pairs, e.g. [("user", "{question}")]')
        self.messages = tuple(_part(m) for m in messages)
        self.template_format = format_of(template_format)
        variables = frozenset(
            v for m in self.messages if not isinstance(m, Message) for v in variables_of(m[1], template_format)
        )
        parts = [
            to_langchain_message(m) if isinstance(m, Message) else _templated(m, template_format) for m in self.messages
        ]
        self._template = guarded(lambda: ChatPromptTemplate(parts, template_format=template_format))
        super().__init__(variables, inputs, parse)
        if template_format == "f-string":
            warn_of_jinja([m[1] for m in self.messages if not isinstance(m, Message)], variables)

    def format(self, /, **inputs: object) -> Messages:
        """The messages with the values in place."""
        checked = self._checked(inputs)
        messages = from_langchain_messages(guarded(lambda: self._template.format_messages(**checked)))
        return tuple(
            _text(part[1], self.template_format, checked, message.content)
            if message.role == "text" and not isinstance(part, Message)
            else message
            for part, message in zip(self.messages, messages, strict=True)
        )

    def read(self, other: object, /) -> Prompt:
        """A string is one user message, a Message or LangChain's a turn; else as `as_prompt`."""
        one = Message | BaseMessage
        pairs = [("user", other)] if isinstance(other, str) else [other] if isinstance(other, one) else other
        return ChatPrompt(pairs, template_format=self.template_format) if isinstance(pairs, list) else as_prompt(pairs)

    def __add__(self, other: object) -> Composable:
        right = self.read(other)
        if isinstance(right, ChatPrompt) and self._only_words(right.template_format) and right._only_words():
            return ChatPrompt([*self.messages, *right.messages], template_format=self.template_format)
        return super().__add__(right)

    def to_langchain(self) -> ChatPromptTemplate:
        """The same as a LangChain template."""
        return self._template

    def to_json(self) -> dict[str, Any]:
        """The words, as `prompt_from_json` reads them; `prompt_to_json` adds what it can of `inputs` and `parse`."""
        parts = [
            {"role": m.role, "text": m.content} if isinstance(m, Message) else {"role": m[0], "template": m[1]}
            for m in self.messages
        ]
        return {"kind": "chat", "format": self.template_format, "messages": parts}

    def __repr__(self) -> str:
        return f"ChatPrompt({list(self.messages)!r})"


@final
class TextPrompt(_Templated):
    """Plain words that no chat template touches, for base models and completions."""

    def __init__(
        self,
        template: str,
        *,
        inputs: type[BaseModel] | None = None,
        parse: Parse | None = None,
        template_format: TemplateFormat = "f-string",
    ) -> None:
        if not isinstance(template, str):
            raise PromptError(f"a TextPrompt takes one string, not {type(template).__name__}")
        self.template = template
        self.template_format = format_of(template_format)
        variables = frozenset(variables_of(template, template_format))
        self._template = guarded(lambda: PromptTemplate.from_template(template, template_format=template_format))
        super().__init__(variables, inputs, parse)
        if template_format == "f-string":
            warn_of_jinja([template], variables)

    def format(self, /, **inputs: object) -> Messages:
        """One message of role `text`."""
        checked = self._checked(inputs)
        content = guarded(lambda: self._template.format(**checked))
        return (_text(self.template, self.template_format, checked, content),)

    def read(self, other: object, /) -> Prompt:
        """A string and a LangChain string template are text; else as `as_prompt`."""
        if isinstance(other, str):
            return TextPrompt(other, template_format=self.template_format)
        if isinstance(other, PromptTemplate) and not other.partial_variables:
            return TextPrompt(other.template, template_format=format_of(other.template_format))
        return as_prompt(other)

    def __add__(self, other: object) -> Composable:
        right = self.read(other)
        if isinstance(right, TextPrompt) and self._only_words(right.template_format) and right._only_words():
            return TextPrompt(self.template + right.template, template_format=self.template_format)
        return super().__add__(right)

    def to_langchain(self) -> PromptTemplate:
        """The same as a LangChain template."""
        return self._template

    def to_json(self) -> dict[str, Any]:
        """The words, as `prompt_from_json` reads them; `prompt_to_json` adds what it can of `inputs` and `parse`."""
        return {"kind": "text", "format": self.template_format, "template": self.template}

    def __repr__(self) -> str:
        return f"TextPrompt({self.template!r})"


@final
class LangChainPrompt(Composable):
    """A LangChain template that our own classes can't hold, such as one with a placeholder for history."""

    def __init__(self, template: BasePromptTemplate[Any]) -> None:
        self._template = template

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(self._template.input_variables)

    def format(self, /, **inputs: object) -> Messages:
        if missing := self.variables - inputs.keys():
            raise PromptError(f"no value for {_names(missing)}; given: {_names(inputs) or 'nothing'}")
        return from_langchain_messages(guarded(lambda: self._template.format_prompt(**inputs).to_messages()))

    def read(self, other: object, /) -> Prompt:
        return as_prompt(other)

    def to_langchain(self) -> BasePromptTemplate[Any]:
        return self._template


def as_prompt(x: object, /) -> Prompt:
    """Our prompt, a string (one user message), `(role, template)` pairs, or a LangChain template, as a Prompt."""
    if isinstance(x, str):
        return ChatPrompt([("user", x)])
    if isinstance(x, PromptTemplate):
        if x.partial_variables or x.template_format not in FORMATS:
            return LangChainPrompt(x)
        return ChatPrompt([("user", x.template)], template_format=format_of(x.template_format))
    if isinstance(x, ChatPromptTemplate):
        return _from_chat_template(x)
    if isinstance(x, WrappedPrompt):
        return Partial(x.prompt, x.partial_variables) if x.partial_variables else x.prompt
    if isinstance(x, BasePromptTemplate):
        return LangChainPrompt(x)
    if isinstance(x, Sequence) and not isinstance(x, bytes):
        return ChatPrompt(x)
    if isinstance(x, Prompt):
        return x
    raise PromptError(
        f"{type(x).__name__} is no prompt: give a string, (role, template) pairs, a ChatPrompt or a LangChain template"
    )


def _from_chat_template(template: ChatPromptTemplate) -> Prompt:
    parts: list[tuple[str, str] | Message] = []
    formats: set[str] = set()
    for part in template.messages:
        inner = getattr(part, "prompt", None)
        if isinstance(part, BaseMessagePromptTemplate) and isinstance(inner, PromptTemplate):
            parts.append(
                (role_of(part.format_messages(**dict.fromkeys(inner.input_variables, "x"))[0]), inner.template)
            )
            formats.add(inner.template_format)
        elif isinstance(part, BaseMessage):
            parts.append(message_from_langchain(part))
        else:
            return LangChainPrompt(template)
    if template.partial_variables or len(formats) > 1 or not formats <= FORMATS:
        return LangChainPrompt(template)
    return ChatPrompt(parts, template_format=format_of(formats.pop() if formats else "f-string"))


def _part(message: object) -> tuple[Role, str] | Message:
    if isinstance(message, Message):
        return message
    if isinstance(message, BaseMessage):
        return message_from_langchain(message)
    if isinstance(message, tuple | list) and len(message) == 2 and all(isinstance(p, str) for p in message):
        role: Any = ROLES.get(message[0], message[0])
        if role in ("system", "user", "assistant", "tool", "text"):
            return role, message[1]
        if role == "placeholder":
            raise PromptError(f"{message[1]!r} is a place for messages: write prompt + History('their name') for it")
        raise PromptError(f"unknown role {message[0]!r}: use system, user, assistant, tool or text")
    raise PromptError(f"a message is a (role, template) pair or a Message, not {message!r}")


def _templated(part: tuple[Role, str], template_format: TemplateFormat) -> Any:
    role, template = part
    if role in ("tool", "text"):  # LangChain has no pairs for these
        return guarded(
            lambda: ChatMessagePromptTemplate.from_template(template, template_format=template_format, role=role)
        )
    return _LANGCHAIN.get(role, role), template


def _text(template: str, template_format: TemplateFormat, given: Mapping[str, object], content: str) -> Message:
    return Message("text", content, place(template, template_format, given, content))


def _names(names: Mapping[str, object] | frozenset[str]) -> str:
    return ", ".join(repr(n) for n in sorted(names))


__all__ = ["ChatPrompt", "LangChainPrompt", "TemplateFormat", "TextPrompt", "as_prompt", "from_langchain_messages"]
