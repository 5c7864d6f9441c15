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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple, final

from pydantic import BeforeValidator, Field, model_validator

from condition.errors import DataError
from condition.moderation.seen import goes_on, places, runs, seen
from condition.types import Options, Verdict

_SEPARATORS = r"\s\-\u2010-\u2015"
_BETWEEN = re.compile(f"[{_SEPARATORS}]+")
_INSIDE = re.compile(f"(?<=[^{_SEPARATORS}])[{_SEPARATORS}]+(?=[^{_SEPARATORS}])")

Place = tuple[int, int]


def _as_words(given: object) -> object:
    if isinstance(given, str):
        raise ValueError("give a list of words, not one text: its letters would be the words")
    words = tuple(dict.fromkeys(given)) if isinstance(given, Iterable) else given
    if words == ():
        raise ValueError("no words to look for: give at least one")
    return words


@final
class WordList(Options):
    """Refuses texts that hold one of the words. Raises SettingsError for none, or one of which nothing can be seen."""

    words: Annotated[tuple[str, ...], BeforeValidator(_as_words)]
    category: str = Field(default="words", min_length=1)

    def __init__(self, words: Iterable[str], category: str = "words") -> None:
        super().__init__(words=words, category=category)

    @model_validator(mode="after")
    def _can_be_seen(self) -> WordList:
        if nothing := [word for word in self.words if not seen(word).strip()]:
            raise ValueError(f"nothing of {nothing[0]!r} can be seen in a text: take it out of the list")
        return self

    def __repr__(self) -> str:
        return f"WordList({len(self.words)} words, category={self.category!r})"  # a long list would fill a log

    def __call__(self, text: str, /) -> Verdict:
        """Whether the text holds none of the words. Raises DataError for what is no text."""
        shown = seen(_text(text))
        for start, stop in self._found(shown):
            return Verdict(False, (self.category,), f"holds {shown[start:stop]!r}")
        return Verdict(True)

    def many(self, texts: Sequence[str], /) -> list[Verdict]:
        """A verdict for each text."""
        return [self(text) for text in texts]

    def mask(self, text: str, /, sign: str = "*") -> str:
        """The text with a sign in the place of each character of the words and of what was hidden in them."""
        found = sorted(self._found(seen(_text(text))))
        if not found:
            return text
        origin = places(text)
        parts, last = [], 0
        for start, stop in found:
            begin, end = max(last, origin[start][0]), max(last, origin[stop - 1][1])
            parts += [text[last:begin], re.sub(r"\S", lambda _: sign, text[begin:end])]
            last = end
        return "".join([*parts, text[last:]])

    def _found(self, shown: str) -> Iterator[Place]:
        """Where a seen text holds the words."""
        plain, other = self._index
        if plain:
            yield from _phrases(shown, plain)
        for word in other:
            if word.longest in shown:  # much quicker than the expression where a list is long
                yield from (place for place in map(_span, word.pattern.finditer(shown)) if _is_whole(shown, *place))

    @cached_property
    def _index(self) -> tuple[dict[str, list[tuple[str, ...]]], list[_Other]]:
        """Phrases of words that stand alone, by their first word, longest first; and all others."""
        plain: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        other = []
        for parts in sorted({tuple(_INSIDE.split(seen(word).strip())) for word in self.words}, key=len, reverse=True):
            if all(runs(part).fullmatch(part) for part in parts):
                plain[parts[0]].append(parts)
            else:
                expression = _BETWEEN.pattern.join(map(re.escape, parts))
                other.append(_Other(max(parts, key=len), re.compile(expression)))
        return dict(plain), other


class _Other(NamedTuple):
    """A word with signs in it, or of a script without spaces."""

    longest: str
    pattern: re.Pattern[str]


def _phrases(shown: str, phrases: dict[str, list[tuple[str, ...]]]) -> Iterator[Place]:
    """Where phrases of whole words stand."""
    found = runs(shown)
    for match in found.finditer(shown):
        for parts in phrases.get(match[0], ()):
            end: int | None = match.end()
            for part in parts[1:]:
                gap = _BETWEEN.match(shown, end or 0)
                follows = found.match(shown, gap.end()) if gap else None
                end = follows.end() if follows and follows[0] == part else None
                if end is None:
                    break
            if end is not None:
                yield match.start(), end
                break


def _span(match: re.Match[str]) -> Place:
    return match.span()


def _is_whole(shown: str, start: int, stop: int) -> bool:
    """Whether no word goes on beside it; a sign at its own end may stand against a word."""
    before, after = shown[start - 1 : start], shown[stop : stop + 1]
    if before and goes_on(shown[start]) and goes_on(before):
        return False
    # a mark would make another letter of the last one
    return not (after and goes_on(after) and (goes_on(shown[stop - 1]) or not after.isalnum()))


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise DataError(f"a moderator reads text, not {type(given).__name__}: {given!r:.60}")
    return given
