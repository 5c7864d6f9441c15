"""A list of words that a text may not hold.

    words = WordList(["darn", "heck of a"], category="mild")
    words("What a DARN mess")                  # Verdict(allowed=False, categories=("mild",), reason="holds 'darn'")
    words.mask("What a DARN mess")             # "What a **** mess"

Whole words, in any case and any of Unicode's ways to write them (wide letters, ligatures, characters of several parts).
Invisible characters inside a word and strokes through its letters do not hide it; between the parts of a phrase may be
any white space, hyphens and underscores. Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words:
there a word is found anywhere. Not seen through: other spellings (d4rn), letters of other alphabets that look alike,
spaces between letters. They have no end, and what catches them catches the innocent; a classifier is the tool.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Annotated, Any, final

from pydantic import BeforeValidator, Field, model_validator

from condition.errors import DataError
from condition.types import Options, Verdict

_HIDDEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters that are no white space
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0334-\u0338\u0488\u0489\u20d2-\u20d3\u20d8-\u20da\u20e5-\u20eb"  # strokes through a letter
)
"""What has no look of its own: Unicode's default-ignorable code points (UAX 44) and strokes."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_SEPARATORS = r"\s_\-\u2010-\u2015"
_BETWEEN = f"[{_SEPARATORS}]+"
_INSIDE = re.compile(f"(?<=[^{_SEPARATORS}]){_BETWEEN}(?=[^{_SEPARATORS}])")
_GONE = re.compile(f"[{_HIDDEN}]+")


def _as_words(given: object) -> object:
    if isinstance(given, str):
        raise ValueError("give a list of words, not one text: its letters would be the words")
    return tuple(dict.fromkeys(given)) if isinstance(given, Iterable) else given


@final
class WordList(Options):
    """Refuses texts that hold one of the words. Raises SettingsError for none, or one of which nothing can be seen."""

    words: Annotated[tuple[str, ...], BeforeValidator(_as_words), Field(min_length=1)]
    category: str = Field(default="words", min_length=1)

    def __init__(self, words: Iterable[str], category: str = "words") -> None:
        super().__init__(words=words, category=category)

    @model_validator(mode="after")
    def _can_be_seen(self) -> WordList:
        if nothing := [word for word in self.words if not _seen(word).strip()]:
            raise ValueError(f"nothing of {nothing[0]!r} can be seen in a text: take it out of the list")
        return self

    def __repr__(self) -> str:
        return f"WordList({len(self.words)} words, category={self.category!r})"  # a long list would fill a log

    def __call__(self, text: str, /) -> Verdict:
        """Whether the text holds none of the words. Raises DataError for what is no text."""
        found = self._pattern.search(_seen(_text(text)))
        if found is None:
            return Verdict(True)
        return Verdict(False, (self.category,), f"holds {found[0]!r}")

    def many(self, texts: Sequence[str], /) -> list[Verdict]:
        """A verdict for each text."""
        return [self(text) for text in texts]

    def mask(self, text: str, /, sign: str = "*") -> str:
        """The text with a sign in the place of each character of the words and of what was hidden in them."""
        found = [match.span() for match in self._pattern.finditer(_seen(_text(text)))]
        if not found:
            return text
        places = _places(text)
        parts, last = [], 0
        for start, stop in found:
            begin, end = places[start][0], places[stop - 1][1]
            parts += [text[last:begin], re.sub(r"\S", lambda _: sign, text[begin:end])]
            last = max(last, end)
        return "".join([*parts, text[last:]])

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        spelt = {tuple(_INSIDE.split(_seen(word).strip())) for word in self.words}
        return re.compile(_any_of(sorted(map(_expression, spelt), key=_order)))


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise DataError(f"a moderator reads text, not {type(given).__name__}: {given!r:.60}")
    return given


def _seen(text: str) -> str:
    """The text as one sees it, without case: compatibility-decomposed (UAX 15), folded, nothing hidden."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", _GONE.sub("", text)).casefold())
    return _GONE.sub("", text.casefold())


def _places(text: str) -> list[tuple[int, int]]:
    """For each character of `_seen(text)`, where it comes from: start and stop in the text."""
    # Decomposing orders the marks behind a letter anew: a letter and its marks are the smallest piece to look at alone.
    clusters = re.finditer(f"[^{_marks()}{_HIDDEN}]?[{_marks()}{_HIDDEN}]*", text, re.DOTALL)
    return [match.span() for match in clusters for _ in _seen(match[0])]


def _order(expression: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    return expression[:3], -len(expression)


def _expression(parts: tuple[str, ...]) -> tuple[str, ...]:
    """A phrase as pieces of a regular expression: the border before it, each letter, the border behind it."""
    letters = [piece for part in parts for piece in (*map(re.escape, part), _BETWEEN)][:-1]
    return (_border(parts[0][0], behind=True), *letters, _border(parts[-1][-1], behind=False))


def _border(letter: str, *, behind: bool) -> str:
    """Nothing that would go on with a word beside its first or last letter."""
    if re.match(f"[{_UNSPACED}]", letter) or not re.match(rf"[\w{_marks()}]", letter) or letter == "_":
        # A mark behind the last letter would still make another letter of it.
        return "" if behind else f"(?![{_marks()}])"
    return rf"(?<![^\W_])(?<![{_marks()}])" if behind else rf"(?![^\W_])(?![{_marks()}])"


def _any_of(expressions: Sequence[tuple[str, ...]], depth: int = 3) -> str:
    """Alternatives, grouped by how they begin: a list of ten thousand words is not tried one by one at each place."""
    if depth == 0:
        longest_first = sorted(expressions, key=len, reverse=True)
        return "|".join("".join(expression) for expression in longest_first)
    groups = [(first, [e[1:] for e in rest]) for first, rest in groupby(expressions, key=lambda e: e[:1])]
    return "|".join(f"{first[0]}(?:{_any_of(rest, depth - 1)})" if first else "" for first, rest in groups[::-1])


@cache
def _marks() -> str:
    """Every combining mark, as the inside of a character class."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
