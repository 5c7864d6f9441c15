"""A text as one sees it: what is invisible taken out, letters in their plainest form, without case.

seen("ＤＡ\\u200bＲＮ")                # "darn"
places("ＤＡ\\u200bＲＮ")              # [(0, 1), (1, 3), (3, 4), (4, 5)]: where each of its characters comes from
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

_HIDDEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters that are no white space
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0334-\u0338\u0488\u0489\u20d2-\u20d3\u20d8-\u20da\u20e5-\u20eb"  # strokes through a letter
)
"""What has no look of its own: Unicode's default-ignorable code points (UAX 44) and strokes."""

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese: no spaces between words. The inside of a character class."""

_GONE = re.compile(f"[{_HIDDEN}]+")
_ASCII_RUNS = re.compile("[a-z0-9]+")  # six times quicker
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")


def seen(text: str) -> str:
    """Compatibility-decomposed (UAX 15), case-folded, nothing hidden; an underscore is a space."""
    text = _GONE.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return _GONE.sub("", text.casefold()).replace("_", " ")


def places(text: str) -> list[tuple[int, int]]:
    """For each character of `seen(text)`, the part of the text that it comes from: start and stop."""
    if text.isascii() and not _GONE.search(text):
        return [(place, place + 1) for place in range(len(text))]
    # Decomposing orders the marks behind a letter anew: a letter and its marks are the smallest piece to look at alone.
    return [match.span() for match in _clusters().finditer(text) for _ in seen(match[0])]


def goes_on(letter: str) -> bool:
    """True for what makes a longer word of a word beside it."""
    if unicodedata.category(letter)[0] == "M":
        return True
    return letter.isalnum() and not _IS_UNSPACED.match(letter)


def runs(shown: str) -> re.Pattern[str]:
    """Finds words in a seen text: letters and digits with their marks, of scripts that put spaces between words."""
    return _ASCII_RUNS if shown.isascii() else _runs()


@cache
def _runs() -> re.Pattern[str]:
    return re.compile(rf"(?:[^\W{UNSPACED}][{_marks()}]*)+")


@cache
def _clusters() -> re.Pattern[str]:
    return re.compile(f"[^{_marks()}{_HIDDEN}]?[{_marks()}{_HIDDEN}]*", re.DOTALL)


@cache
def _marks() -> str:
    """Every combining mark, as the inside of a character class."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
