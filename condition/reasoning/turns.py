"""The prompts of steps, and going on with a conversation, be it chat turns or plain text that no template touches.

asked = reply(asked, "2 + 2 = 4.", "Therefore, the answer is")
"""

from __future__ import annotations

from typing import Any

from condition.errors import PromptError
from condition.prompts.template import as_prompt
from condition.prompts.told import answered, tell
from condition.protocols import Prompt
from condition.types import Messages


def reply(messages: Messages, said: str, then: str) -> Messages:
    """The messages, what the model said to them, and what it is told next. It begins with the messages, unchanged."""
    return tell(answered(messages, said), then, "\n")


def prompt_with(x: Any, *needed: str) -> Prompt:
    """A prompt with the variables that a step fills. Raises PromptError where it lacks one."""
    prompt = as_prompt(x)
    if missing := set(needed) - prompt.variables:
        raise PromptError(f"the prompt has no {{{sorted(missing)[0]}}}, which this step fills: {prompt!r:.120}")
    return prompt
