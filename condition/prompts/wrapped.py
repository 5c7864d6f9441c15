"""A prompt of ours as a LangChain template: one that its own classes can't hold, or that a model was tuned with."""

from __future__ import annotations

from typing import Any, final

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts.chat import BaseChatPromptTemplate

from condition.errors import PromptError
from condition.prompts.messages import role_of, to_langchain_message
from condition.protocols import Prompt


@final
class WrappedPrompt(BaseChatPromptTemplate):
    """Gives the very messages that our prompt gives; `as_prompt` takes ours out again.

    A text prompt is plain text to an LLM, a human message to any chat model, and text again to ChatCondition.
    """

    prompt: Prompt

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """The messages with the values in place."""
        messages = self.prompt.format(**self._merge_partial_and_user_variables(**kwargs))
        return [to_langchain_message(m) for m in messages]

    def format_prompt(self, **kwargs: Any) -> ChatPromptValue:
        """The same for whatever follows in a chain."""
        messages = self.format_messages(**kwargs)
        is_text = all(role_of(m) == "text" for m in messages)
        return _Text(messages=messages) if is_text else ChatPromptValue(messages=messages)

    async def aformat_prompt(self, **kwargs: Any) -> ChatPromptValue:
        """The same."""
        return self.format_prompt(**kwargs)

    def pretty_repr(self, html: bool = False) -> str:
        """The prompt as our own classes show it."""
        return repr(self.prompt)

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        """As LangChain's, whose advice on braces does not fit a prompt that is parsed already."""
        if isinstance(inner_input, dict) and (missing := set(self.input_variables) - inner_input.keys()):
            given = ", ".join(map(repr, inner_input)) or "nothing"
            raise PromptError(f"no value for {', '.join(map(repr, sorted(missing)))}; given: {given}")
        return super()._validate_input(inner_input)


def wrapped(prompt: Prompt) -> WrappedPrompt:
    """The prompt as a LangChain template with the same variables."""
    return WrappedPrompt(prompt=prompt, input_variables=sorted(prompt.variables))


@final
class _Text(ChatPromptValue):
    """Text, which LangChain would write with the speaker's name before it."""

    def to_string(self) -> str:
        return "".join(str(m.content) for m in self.messages)
