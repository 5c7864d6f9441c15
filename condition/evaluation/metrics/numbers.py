"""The number that a solution ends with: GSM8K. Cobbe et al. 2021, arXiv 2110.14168."""

from __future__ import annotations

import re

from condition.errors import DataError
from condition.prompts.parse import last_number

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_SAID = re.compile(
    r"(?:####|\banswer\s+is\b|\banswer:)(?!.*(?:####|\banswer\s+is\b|\banswer:))", re.IGNORECASE | re.DOTALL
)
_NUMBER = re.compile(r"[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
_CLOSE = 1e-6


def number(prediction: str, answer: str | float) -> dict[str, float]:
    """`strict` and `flexible`: as lm-evaluation-harness finds and compares them, letter by letter, the number behind
    "#### " and the last one. `number`: the values are equal, of the number behind the last "####" or "answer is",
    else of the last one; 3, 3.0 and 3% are the same.

    `answer` is a number or a solution that ends with one. Raises DataError where it has none.
    """
    target = str(answer)
    try:
        wanted = _value(target)
    except ValueError:
        raise DataError(f"the target has no number: {target!r:.80}") from None
    try:
        said = _value(prediction)
    except ValueError:
        said = float("nan")
    return {
        "strict": float(_plain(_first(_STRICT.findall(prediction))) == _plain(target)),
        "flexible": float(_plain(_first(_FLEXIBLE.findall(prediction)[-1:])) == _plain(target)),
        "number": float(abs(said - wanted) <= _CLOSE * max(1.0, abs(wanted))),
    }


def _value(text: str) -> float:
    """The number behind the last phrase that announces one, the first there; else the last number of all."""
    announced = _SAID.search(text)
    if announced:
        sentence = re.split(r"\n|[.!?]\s", text[announced.end() :].strip(), maxsplit=1)[0].replace("$", "")
        found = _NUMBER.search(sentence.rpartition("=")[2])
        if found:
            return last_number(found[0])
    return last_number(text.replace("$", ""))


def _first(found: list[str] | list[tuple[str, str]]) -> str:
    if not found:
        return "[invalid]"
    one = found[0]
    return (one if isinstance(one, str) else next(group for group in one if group)).strip()


def _plain(text: str) -> str:
    """Without what lm-evaluation-harness' task gsm8k leaves out of a comparison."""
    for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"):
        text = re.sub(pattern, "", text)
    return text.lower()
