"""Prompts as JSON, and what stays behind when they are saved: code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from pydantic import ValidationError

from condition.errors import PromptError
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Prompt
from condition.types import Message, Messages


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """What `prompt_from_json` reads. Of a prompt that is code only the names are kept."""
    if isinstance(prompt, ChatPrompt | TextPrompt):
        code = prompt.inputs.__qualname__ if prompt.inputs else None
        return {**prompt.to_json(), **({"inputs": code} if code else {})}
    if isinstance(prompt, LostPrompt):
        return {"kind": "code", "name": prompt.name, "variables": sorted(prompt.variables)}
    return {"kind": "code", "name": type(prompt).__qualname__, "variables": sorted(prompt.variables)}


def prompt_from_json(saved: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote. One that was code is a `LostPrompt`, which says what to do.

    Raises PromptError for anything else.
    """
    try:
        if saved["kind"] == "code" or saved.get("inputs"):
            name = saved["name"] if saved["kind"] == "code" else f"a prompt with the input model {saved['inputs']}"
            return LostPrompt(name, saved.get("variables", ()))
        if saved["kind"] not in ("chat", "text"):
            raise PromptError(f"a saved prompt can't be read: its kind is {saved['kind']!r}, not 'chat' or 'text'")
        if saved["kind"] == "text":
            return TextPrompt(saved["template"], template_format=saved["format"])
        parts = [
            Message(m["role"], m["text"]) if "text" in m else (m["role"], m["template"]) for m in saved["messages"]
        ]
        return ChatPrompt(parts, template_format=saved["format"])
    except (KeyError, TypeError, ValidationError) as error:
        raise PromptError(f"a saved prompt can't be read: {error!r}") from error


@final
class LostPrompt:
    """Stands for a prompt that was code when its model was saved. Never guesses: formatting is an error."""

    def __init__(self, name: str, variables: Any) -> None:
        self.name = name
        self._variables = frozenset(variables)

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def format(self, **inputs: object) -> Messages:
        """Raises PromptError."""
        raise PromptError(
            f"this model was tuned with {self.name}, which is code and was not saved with it: "
            f"give the prompt again with model.with_prompt(prompt)"
        )
