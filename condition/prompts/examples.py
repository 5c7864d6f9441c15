"""What selectors and few-shot prompts ask of examples: their words, and which of them is the item itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from condition.errors import PromptError
from condition.types import Example

On = str | Sequence[str] | None
"""Names of the inputs to compare; None: all that examples and item have in common."""

_UNPARTED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNPARTED}]|[^\W{_UNPARTED}]+")
_SIGN = re.compile(r"[^\w\s]")


def words_of(text: str) -> list[str]:
    """The words of a text. Chinese and Japanese write no spaces between them: there each sign is one."""
    return _WORD.findall(text)


def pieces(text: str) -> int:
    """How many words and signs a text has: fewer than tokens."""
    return len(words_of(text)) + len(_SIGN.findall(text))


def checked(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The examples. Raises PromptError for none and for what are no Examples."""
    if not isinstance(examples, Iterable):
        raise PromptError(f"examples are a list of Example, not {type(examples).__name__}")
    found = tuple(examples)
    if other := [e for e in found if not isinstance(e, Example)]:
        raise PromptError(
            f"an example is an Example, not {type(other[0]).__name__}: write Example({{'question': 'When?'}}, 'answer')"
        )
    if not found:
        raise PromptError("no examples to choose from: give at least one, or use the prompt without examples")
    return found


def nulls_in(values: Mapping[str, object], names: Iterable[str]) -> list[str]:
    """Those names whose value a prompt would write as the word "None", or "nan", as which an empty cell is read."""
    return sorted(name for name in names if _is_null(values.get(name, "")))


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


@final
class Found(str):
    """Words that were looked for, such as passages: they are not the item's own, so it is not known by them."""

    __slots__ = ()


def is_item(example: Example, inputs: Mapping[str, object]) -> bool:
    """Whether an example is the item that is asked: the same id, or the same value for every input they share."""
    given = inputs.get("id")
    if example.id is not None and given is not None and str(given) == example.id:
        return True
    shared = [name for name in example.inputs.keys() & inputs.keys() if not isinstance(inputs[name], Found)]
    return bool(shared) and all(_equal(example.inputs[name], inputs[name]) for name in shared)


def _equal(first: object, second: object) -> bool:
    """Equal, or "not a number" both, as an empty cell of a table is read. An array is equal where all of it is."""
    try:
        same: Any = first is second or first == second or (first != first and second != second)
        return bool(getattr(same, "all", lambda: same)())
    except Exception:  # what stands in a row is the user's, and may not know whether it is equal
        return str(first) == str(second)


def others(examples: Sequence[Example], inputs: Mapping[str, object]) -> list[int]:
    """Places of the examples that are not the item itself."""
    return [i for i, example in enumerate(examples) if not is_item(example, inputs)]


def names_in_common(examples: Sequence[Example], on: On) -> tuple[str, ...]:
    """The inputs to compare, in order. Raises PromptError for one that an example lacks, and where there is none."""
    has = set.intersection(*(set(e.inputs) for e in examples))
    names = tuple(sorted(has)) if on is None else (on,) if isinstance(on, str) else tuple(on)
    if missing := [name for name in names if name not in has]:
        raise PromptError(f"on={names!r}: not every example has the input {missing[0]!r}; all have {sorted(has)}")
    if not names:
        raise PromptError("the examples have no input in common to compare by: give on='question', say")
    return names


def text_of(inputs: Mapping[str, object], names: Sequence[str]) -> str:
    """The values of some inputs as one text. Raises PromptError where none of them is given."""
    found = [str(inputs[name]) for name in names if name in inputs]
    if not found:
        raise PromptError(
            f"can't compare with the examples: they have {', '.join(map(repr, names))}, "
            f"given: {', '.join(map(repr, sorted(inputs))) or 'nothing'}"
        )
    return "\n".join(found)
