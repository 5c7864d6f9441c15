"""The answer inside what a model writes: the parser of a chain, its failures, and which answers are the same.

    parsed(last_number, "He pays $1,250 in all.")        # 1250.0, or a ModelError that says why there is none
    vote_of(Answer(" Paris ")) == vote_of(Answer("paris"))

The parsers themselves are in `condition.prompts.parse`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from condition.errors import ConditionError, ModelError
from condition.prompts.parse import final_answer
from condition.protocols import Prompt
from condition.types import Answer

Parse = Callable[[str], Any]


def parser_of(prompt: Prompt, parse: Parse | None, default: Parse = final_answer) -> Parse:
    """The parser that was given, the prompt's own, or the default."""
    return parse or getattr(prompt, "parse", None) or default


def parsed(parse: Parse, text: str) -> Any:
    """The value. Raises ModelError where the text has none, or the parser fails."""
    try:
        value = parse(text)
    except ConditionError:
        raise
    except Exception as error:  # a parser is the user's code
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise _unparsable(text, why) from error
    if value is None:
        raise _unparsable(text, "the parser found nothing")
    return value


def texts_in(parse: Parse, text: str) -> list[str]:
    """What a parser of several texts finds. Raises ModelError as `parsed`, and for one text, which has letters only."""
    found = parsed(parse, text)
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise ModelError(f"the parser gave {found!r:.60}: let it give a list, as condition.prompts.parse.listed does")
    return [said for one in found if one is not None and (said := str(one).strip())]


def number_in(parse: Parse, text: str) -> float:
    """What a parser of marks finds. Raises ModelError as `parsed`, and for what is no number."""
    value: float = parsed(lambda said: float(parse(said)), text)
    if math.isnan(value):
        raise _unparsable(text, "its mark is not a number")
    return value


def _unparsable(text: str, why: str) -> ModelError:
    return ModelError(
        f"no answer in {text[-80:]!r}: {why}; change the prompt, raise max_tokens, or give another parse="
    )


def vote_of(answer: Answer) -> Hashable:
    """What makes two answers the same: the value that was parsed, or the text without case and outer spaces."""
    value = _frozen(answer.parsed) if isinstance(answer.parsed, dict | list) else answer.parsed
    if value is None or isinstance(value, str) or not _counts(value):
        return (answer.text if value is None else str(value)).strip().casefold()
    return value  # type: ignore[no-any-return]


def _frozen(value: Any) -> Any:
    """JSON as what can be counted: objects are equal whatever the order of their names."""
    if isinstance(value, dict):
        return frozenset((name, _frozen(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return value if _counts(value) and not isinstance(value, str) else str(value).strip().casefold()


def _counts(value: Any) -> bool:
    """Whether a value can be counted: it equals itself, which "not a number" does not, and has a hash."""
    try:
        return bool(value == value) and isinstance(hash(value), int)
    except Exception:  # a value is the user's: a tuple with a list in it has no hash, an array no single truth
        return False
