"""What of a saved prompt was code, and did not come with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from condition.errors import PromptError
from condition.types import Messages


@final
class LostPrompt:
    """Stands for a prompt that was code when it was saved. Never guesses: formatting is an error."""

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


def code_in(saved: object) -> str | None:
    """The name of the first part that is code."""
    for part in _parts(saved):
        if part.get("kind") == "code":
            return str(part["name"])
        if part.get("inputs"):
            return f"the input model {part['inputs']}"
    lost = lost_parser(saved)
    return f"the parser {lost}" if lost else None


def lost_parser(saved: object) -> str | None:
    """The name of the first parser that is code."""
    parsers = (part.get("parse") for part in _parts(saved))
    return next((str(parse["code"]) for parse in parsers if isinstance(parse, Mapping) and "code" in parse), None)


def _parts(saved: object) -> Iterator[Mapping[str, Any]]:
    """A saved prompt and the prompts that it is made of."""
    if isinstance(saved, list):
        for part in saved:
            yield from _parts(part)
    if isinstance(saved, Mapping):
        yield saved
        for name in ("prompt", "instruction", "parts"):
            yield from _parts(saved.get(name))
