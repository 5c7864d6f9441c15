"""The answer inside what a model writes: texts in, values out. A parser raises ValueError where there is no answer.

final_answer("3 + 4 = 7. The answer is 7.")        # "7"
number("He pays $1,250 in all.")                   # 1250.0
listed("1. Add the apples.\\n2. Halve the sum.")    # ["Add the apples.", "Halve the sum."]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

from condition.errors import ConditionError, ModelError
from condition.protocols import Prompt
from condition.types import Answer

Parse = Callable[[str], Any]

_SAID = re.compile(r"(?:\banswer\s*(?:is|:)|####)[:\s]*", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?(?:step\s+)?\d+[.):]\s+)", re.IGNORECASE)


def final_answer(text: str) -> str:
    """What follows the last "the answer is", "Answer:" or "####", to the end of its line; else the last line."""
    said = list(_SAID.finditer(text))
    lines = (text[said[-1].end() :] if said else text).strip().splitlines()
    found = "" if not lines else lines[0 if said else -1].strip()
    found = found.strip("*`\"' ").rstrip(".").strip("*`\"' ")
    if not found:
        raise ValueError("it says nothing")
    return found


def number(text: str) -> float:
    """The last number."""
    found = _NUMBER.findall(text)
    if not found:
        raise ValueError("it has no number")
    return float(found[-1].replace(",", ""))


def listed(text: str) -> list[str]:
    """The lines that are not empty, without bullets and numbers."""
    found = [_BULLET.sub("", line).strip() for line in text.splitlines()]
    return [line for line in found if line]


def parser_of(prompt: Prompt, parse: Parse | None) -> Parse:
    """The parser that was given, the prompt's own, or `final_answer`."""
    return parse or getattr(prompt, "parse", None) or final_answer


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


def _unparsable(text: str, why: str) -> ModelError:
    return ModelError(
        f"no answer in {text[-80:]!r}: {why}; change the prompt, raise max_tokens, or give another parse="
    )


def vote_of(answer: Answer) -> Hashable:
    """What makes two answers the same: the value that was parsed, or the text without case and outer spaces."""
    value = answer.parsed
    if value is None or isinstance(value, str) or not isinstance(value, Hashable):
        return (answer.text if value is None else str(value)).strip().casefold()
    return value
