"""Examples before a task's question, as text and as turns of a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, final

from condition.errors import SettingsError
from condition.prompts.examples import is_item
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Prompt
from condition.types import Example

Form = Literal["text", "chat"]
"""Plain text, as base models and most published numbers take it, or through the model's chat template."""


def given(shots: object) -> bool:
    """Whether there are rows to show. Raises SettingsError for a number, which is what `k` takes."""
    if isinstance(shots, int):
        raise SettingsError(f"shots={shots}: shots are rows to show, such as the dev rows; k={shots} says how many")
    return shots is not None and not (isinstance(shots, list | tuple) and not shots)


@final
class SameSelector:
    """The first examples that have the item's value of one input, such as its subject; of all where none has it."""

    ranked = False

    def __init__(self, examples: Iterable[Example], column: str) -> None:
        self.examples = tuple(examples)
        self.column = column

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """At most `k` examples that are not the item itself, in their own order."""
        own = [e for e in self.examples if e.inputs.get(self.column) == inputs.get(self.column)]
        return [e for e in own or self.examples if not is_item(e, inputs)][:k]


def asked(
    form: Form,
    question: str,
    shots: Sequence[Example] = (),
    *,
    instruction: str | None = None,
    k: int | None = None,
    same: str | None = None,
    separator: str = "\n\n",
    answer: bool | str = False,
) -> Prompt:
    """A question behind an instruction and `k` examples, of which the text `question` and the targets are written.

    `same` names the input by which each item has examples of its own. Raises SettingsError for an unknown form.
    """
    if form not in ("text", "chat"):
        raise SettingsError(f"form={form!r}: it is 'text', or 'chat' for the model's chat template")
    turn: Any = TextPrompt(question) if form == "text" else ChatPrompt([("user", question)])
    if not shots:
        if instruction is None:
            return turn  # type: ignore[no-any-return]  # one of two prompts
        told = f"{instruction}{separator}{question}"
        return TextPrompt(told) if form == "text" else ChatPrompt([("system", instruction), ("user", question)])
    selector = SameSelector(shots, same) if same else None
    count = k if k is not None else max_of(shots, same)
    return FewShotPrompt(
        turn, shots, selector=selector, k=count, instruction=instruction, separator=separator, rationale=answer
    )


def max_of(shots: Sequence[Example], same: str | None) -> int:
    """Examples that an item may have: all, or the most of one value."""
    if same is None:
        return len(shots)
    counts: dict[object, int] = {}
    for shot in shots:
        counts[shot.inputs.get(same)] = counts.get(shot.inputs.get(same), 0) + 1
    return max(counts.values(), default=0)
