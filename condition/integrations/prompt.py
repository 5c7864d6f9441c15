"""A prompt that a model was tuned with, as a LangChain template."""

from __future__ import annotations

from typing import Any, final

from langchain_core.messages import BaseMessage
from langchain_core.prompts.chat import BaseChatPromptTemplate

from condition.errors import PromptError
from condition.models.remote import to_langchain_messages
from condition.protocols import Prompt


@final
class TunedPrompt(BaseChatPromptTemplate):
    """A prompt of ours as a LangChain template: gives the very messages that the model was tuned with."""

    prompt: Prompt

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """The messages with the values in place."""
        return to_langchain_messages(self.prompt.format(**self._merge_partial_and_user_variables(**kwargs)))

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        """As LangChain's, whose advice on braces does not fit a prompt that was tuned with."""
        if isinstance(inner_input, dict) and (missing := set(self.input_variables) - inner_input.keys()):
            given = ", ".join(map(repr, inner_input)) or "nothing"
            raise PromptError(f"no value for {', '.join(map(repr, sorted(missing)))}; given: {given}")
        return super()._validate_input(inner_input)

    def pretty_repr(self, html: bool = False) -> str:
        """The prompt as our own classes show it."""
        return repr(self.prompt)
