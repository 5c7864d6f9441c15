"""Parsers of answers, for `parse=` of prompts and chains: texts in, values out.

    final_answer("3 + 4 = 7. The answer is 7.")          # "7"
    last_number("3 + 4 = 7, so 7 apples.")               # 7.0
    mark("I give it 8 out of 10.")                       # 8.0
    listed("1. Add the apples.\\n2. Halve the sum.")     # ["Add the apples.", "Halve the sum."]
    letter("ABCD")("I think the answer is (B).")         # "B"
    json_value('Here it is: {"name": "Ada"}')            # {"name": "Ada"}
    after("Answer:")("Hm. Answer: Rouen")                # "Rouen"
    first_of(after("####", last_number), last_number)    # the first parser that finds something
    label(["positive", "negative"])("Negative.")         # "negative"

Each raises ValueError where there is no answer, and says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, final

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<![\w.])[-−]?\.\d+")
_SCALE = re.compile(
    r"(?<=[\d*\])])\s*(?:[(\[]\s*)?(?:/|of)\s*\d+(?:\.\d+)?"
    r"|\bout\s+of\s+(?:an?\s+|the\s+)?(?:possible\s+|maximum\s+(?:of\s+)?|total\s+of\s+)?\d+(?:\.\d+)?"
    r"|\b[01]\s*(?:to|[-–—])\s*\d+\b",
    re.IGNORECASE,
)
_SAID = re.compile(r"(?:\banswer\s*(?:is\b|:)|####)[:\s]*", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?(?:step\s+)?\d+[.):]\s+)", re.IGNORECASE)
_OPEN = re.compile(r"""{(?=\s*["}])|\[(?=\s*[\[{"\]\-\dtfnNI])""")
"""Where JSON may begin: to try each brace of a long text takes the square of its length."""


@final
class Parser(Generic[T_co]):
    """A parser that was made from arguments, and knows them: a prompt is saved with it."""

    def __init__(self, read: Callable[[str], T_co], name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments
        self._read = read

    def __call__(self, text: str, /) -> T_co:
        """The value. Raises ValueError where there is none."""
        return self._read(text)

    def __repr__(self) -> str:
        shown = (getattr(one, "__name__", None) or repr(one) for one in self.arguments)
        return f"{self.name}({', '.join(shown)})"


def final_answer(text: str) -> str:
    """What follows the last "the answer is", "Answer:" or "####", to the end of its line; else the last line."""
    said = list(_SAID.finditer(text))
    lines = (text[said[-1].end() :] if said else text).strip().splitlines()
    found = "" if not lines else lines[0 if said else -1].strip()
    found = found.strip("*`\"' ").rstrip(".").strip("*`\"' ")
    if not found:
        raise ValueError("it says nothing")
    return found


def before_answer(text: str) -> str:
    """What stands before the sentence that says "the answer is" last; all of it where none does."""
    said = list(_SAID.finditer(text))
    if not said:
        return text.strip()
    before = text[: said[-1].start()]
    ends = [end.end() for end in re.finditer(r"[.!?](?=\s)|\n", before)]
    return before[: ends[-1] if ends else 0].strip()


def last_number(text: str) -> float:
    """The last number: thousands may be parted by commas."""
    found = _NUMBER.findall(text)
    if not found:
        raise ValueError("it has no number")
    return float(found[-1].replace(",", "").replace("−", "-"))


def mark(text: str) -> float:
    """The last number that is no end of a scale: 8 of "8/10", "8 (out of 10)" and "8 on a scale from 1 to 10"."""
    return last_number(_SCALE.sub("", text))


def listed(text: str) -> list[str]:
    """The lines that are not empty, without bullets and numbers; a heading before them, which ends in ":", is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].rstrip().endswith(":") and not _BULLET.match(lines[0]):
        lines = lines[1:]
    return [found for line in lines if (found := _BULLET.sub("", line).strip())]


def letter(letters: str = "ABCD") -> Parser[str]:
    """A parser for the letter of a choice: behind "answer", at the beginning, in brackets, or alone on the last line.

    The article "A" before a word is no choice.
    """
    one = f"[{re.escape(letters)}]"
    end = r"(?=\s*(?:$|[.):,;*\]\n]))"
    article = r"(?!(?<=[AI])\s+(?!because\b|since\b|as\b)\w)"
    ways = [
        re.compile(rf"\banswer(?:\s+is|\s*:)?[\s:*(\[]*(?:option\s+)?\(?({one})(?!\w){article}", re.IGNORECASE),
        re.compile(rf"^\W*({one}){end}"),
        re.compile(rf"[(\[*]({one})[)\]*]"),
    ]

    def parse(text: str) -> str:
        for way in ways:
            found = [f for f in way.findall(text) if f in letters]
            if found:
                return str(found[-1])
        if (last := _alone(text)) and last in letters:
            return last
        raise ValueError(f"it names none of {', '.join(letters)}")

    return Parser(parse, "letter", letters)


def _alone(text: str) -> str:
    """The last line that has words, where it has one sign only; else nothing."""
    signs = ""
    for sign in reversed(text):  # an expression would look at a long run of empty lines again and again
        if sign.isalnum():
            signs += sign
        elif signs and (sign == "\n" or len(signs) > 1):
            break
    return signs if len(signs) == 1 else ""


def label(labels: Sequence[str]) -> Parser[str]:
    """A parser for one of some labels, whatever its case: the one that comes first, of equal ones the longest."""
    if isinstance(labels, str) or not labels:
        raise ValueError(f"labels={labels!r}: give a list of labels")
    longest = sorted(labels, key=len, reverse=True)
    way = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in longest), re.IGNORECASE)

    def parse(text: str) -> str:
        found = way.search(text)
        if found is None:
            raise ValueError(f"it names none of {', '.join(labels)}")
        said = found[0]  # by the expression again: the "İ" of "POSİTİVE" is an "i" to it, and to nothing else
        return next(one for one in labels if re.fullmatch(re.escape(one), said, re.IGNORECASE))

    return Parser(parse, "label", list(labels))


def json_value(text: str) -> Any:
    """The first JSON object or array; words around it and fences do not matter."""
    read = json.JSONDecoder()
    for opening in _OPEN.finditer(text):
        try:
            value, _ = read.raw_decode(text, opening.start())
        except RecursionError:
            break
        except ValueError:
            continue
        return value
    raise ValueError("it has no JSON object or array")


def after(marker: str, parse: Callable[[str], T] | None = None) -> Parser[Any]:
    """A parser for what follows the last `marker`, whatever its case: `parse` reads it, else it is one line of text."""
    if not marker:
        raise ValueError("marker is empty: give the words before the answer, such as 'Answer:'")
    way = re.compile(re.escape(marker), re.IGNORECASE)

    def find(text: str) -> Any:
        places = list(way.finditer(text))
        if not places:
            raise ValueError(f"it has no {marker!r}")
        rest = text[places[-1].end() :].strip()
        if not rest:
            raise ValueError(f"nothing follows {marker!r}")
        return rest.splitlines()[0].strip() if parse is None else parse(rest)

    return Parser(find, "after", marker, *([] if parse is None else [parse]))


def first_of(*parsers: Callable[[str], T]) -> Parser[T]:
    """The first parser that finds an answer."""

    def parse(text: str) -> T:
        reasons = []
        for one in parsers:
            try:
                return one(text)
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError("; ".join(reasons) or "no parser was given")

    return Parser(parse, "first_of", *parsers)
