"""A row's values into a prompt, wherever rows meet prompts: training, evaluation, chains, explanations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from condition.errors import ConditionError, PromptError
from condition.prompts.compose import filled
from condition.prompts.examples import nulls_in
from condition.protocols import Prompt
from condition.types import Messages

T = TypeVar("T")


def fill(prompt: Prompt, row: Mapping[str, Any]) -> Messages:
    """The messages for a row; columns that the prompt does not use are left out.

    Raises PromptError for a missing value, for None and "not a number", which would be written as words, and where a
    prompt of the user's fails. A prompt with a model of its `inputs` decides itself what None means.
    """
    if getattr(prompt, "inputs", None) is None and (nulls := nulls_in(row, prompt.variables)):
        word = str(row[nulls[0]])
        raise PromptError(
            f"{', '.join(map(repr, nulls))} is null ({word}), which the prompt would write as the word {word!r}: "
            "drop the row or give it a text; an empty one is fine"
        )
    try:
        return filled(prompt, row)
    except ConditionError:
        raise
    except Exception as error:  # prompts, selectors and orders may be the user's code
        what = f"{type(prompt).__name__} failed for {dict(row)!r:.120}"
        raise PromptError(f"{what}: {type(error).__name__}: {error}") from error


def several(inputs: Iterable[T], /) -> list[T]:
    """What a `batch` is asked, one by one.

    Raises PromptError for one string and one dict, which would be asked letter by letter, or name by name.
    """
    if isinstance(inputs, str | Mapping) or not isinstance(inputs, Iterable):
        raise PromptError(
            f"batch takes a list of inputs, not {inputs!r:.80}: write batch([...]), or invoke(...) for one"
        )
    return list(inputs)
