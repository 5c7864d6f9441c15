"""A prompt of ours as a LangChain template, for prompts that LangChain's own classes can't hold."""

from __future__ import annotations

from typing import Any, final

from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.prompts.base import BasePromptTemplate

from condition.prompts.messages import to_langchain_message
from condition.protocols import Prompt


@final
class WrappedPrompt(BasePromptTemplate[str]):
    """Gives the very messages that our prompt gives; `as_prompt` takes ours out again."""

    prompt: Prompt

    def format_prompt(self, **kwargs: Any) -> PromptValue:
        """Words for a text prompt, messages for a chat prompt."""
        messages = self.prompt.format(**self._merge_partial_and_user_variables(**kwargs))
        if all(m.role == "text" for m in messages):
            return StringPromptValue(text="".join(m.content for m in messages))
        return ChatPromptValue(messages=[to_langchain_message(m) for m in messages])

    def format(self, **kwargs: Any) -> str:
        """The words as one string."""
        return self.format_prompt(**kwargs).to_string()


def wrapped(prompt: Prompt) -> WrappedPrompt:
    """The prompt as a LangChain template with the same variables."""
    return WrappedPrompt(prompt=prompt, input_variables=sorted(prompt.variables))
