"""The texts inside inputs, answers and rows, and what every moderator that reads many at once does first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

from condition.errors import DataError
from condition.moderation.verdicts import UNCHECKED
from condition.types import Answer, Completion, Example, Message, Ranking, Verdict

_PARTS: dict[type[BaseModel], tuple[str, ...]] = {
    Message: ("content",),
    Completion: ("text",),
    Answer: ("text", "reasoning", "error"),
    Example: ("inputs", "target", "rationale"),
    Ranking: ("inputs", "candidates"),
    AIMessage: ("content", "tool_calls", "invalid_tool_calls"),
    BaseMessage: ("content",),
    Document: ("page_content",),
}
"""What people write or read of a value; ids, roles and metadata are not moderated."""


def strings(value: object) -> list[str]:
    """Every text in a value: strings, dictionaries, lists, and messages, documents, answers or rows in them."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    rewritten(value, note)
    return found


def rewritten(value: Any, change: Callable[[str], str]) -> Any:
    """The value with each of its texts changed; what has none stays as it is.

    An object of another kind is the text that a template would make of it.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, PromptValue):
        return [rewritten(message, change) for message in value.to_messages()]
    if isinstance(value, BaseModel):
        kind = next((k for k in _PARTS if isinstance(value, k)), None)
        names = _PARTS[kind] if kind else tuple(type(value).model_fields)
        update = {name: rewritten(getattr(value, name), change) for name in names}
        if isinstance(value, BaseMessage) and any(getattr(value, name) != new for name, new in update.items()):
            update |= _told_otherwise(value)
        return value.model_copy(update=update)
    if isinstance(value, Mapping):
        return {name: rewritten(inner, change) for name, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(rewritten(inner, change) for inner in value))
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(rewritten(inner, change) for inner in value)
    if value is None or isinstance(value, bool | int | float):
        return value
    written = str(value)  # as a template would write it
    changed = change(written)
    return value if changed == written else changed


def _told_otherwise(message: BaseMessage) -> dict[str, Any]:
    """What a message tells of its words once more, left out: the service's own form of them, and each token."""
    kept = {name: told for name, told in message.response_metadata.items() if name != "logprobs"}
    return {"additional_kwargs": {}, "response_metadata": kept}


def checked(text: object) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes. Raises DataError for what is no text."""
    if not isinstance(text, str):
        raise DataError(f"a moderator reads a string, not {type(text).__name__}: leave the row out or give its text")
    return text.encode("utf-8", "replace").decode("utf-8")


def judged(texts: Sequence[str], max_chars: int, judge: Callable[[list[str]], list[Verdict]]) -> list[Verdict]:
    """A verdict a text. `judge` sees each different text once.

    A text without a visible character passes; one that is longer than `max_chars` is refused, since nobody would have
    read it whole. Raises DataError for what is no text.
    """
    texts = [checked(text) for text in texts]
    known: dict[str, Verdict] = {}
    for text in texts:
        if len(text) > max_chars:
            reason = f"{len(text):,} characters are more than the {max_chars:,} that are read; cut the text"
            known[text] = Verdict(False, (UNCHECKED,), reason)
        elif not text.strip():
            known[text] = Verdict(True)
    asked = [text for text in dict.fromkeys(texts) if text not in known]
    if asked:
        known.update(zip(asked, judge(asked), strict=True))
    return [known[text] for text in texts]
