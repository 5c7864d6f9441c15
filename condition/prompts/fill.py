"""A row's values into a prompt, wherever rows meet prompts: training, evaluation, chains, explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condition.prompts.template import ChatPrompt, LangChainPrompt, TextPrompt
from condition.protocols import Prompt
from condition.types import Messages


def fill(prompt: Prompt, row: Mapping[str, Any]) -> Messages:
    """The messages for a row; columns that the prompt does not use are left out.

    Raises PromptError for a missing value.
    """
    if isinstance(prompt, ChatPrompt | TextPrompt | LangChainPrompt):
        return prompt.format(
            **row
        )  # these choose for themselves: defaults and optional variables are known to them only
    return prompt.format(**{name: row[name] for name in prompt.variables if name in row})
