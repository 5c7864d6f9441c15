"""Words that may not be said.

    banned = WordList(["idiot*", "shut up"], category="insults")
    banned("Oh, SHUT  up!")              # Verdict(allowed=False, categories=("insults",), reason="it says 'SHUT  up'")
    banned.redact("Such idiots.")        # "Such ******."

Words are compared without case, in Unicode's compatibility form (NFKC), without characters that nobody sees: zero-width
and other format characters, soft hyphens, variation selectors, control characters. So fullwidth letters, ligatures,
composed and decomposed accents, and words with something invisible inside are found. Not found are letters of other
alphabets that look alike, digits for letters, and letters with spaces between: list those, or train a classifier.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby
from typing import Any, final

from condition.errors import SettingsError
from condition.moderation.texts import checked
from condition.types import Verdict

# Scripts that put no space between words: a word of theirs is found wherever it stands.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_BETWEEN = r"[\s_-]+"
_SEPARATOR = re.compile(_BETWEEN)
_START, _END, _LETTERS = "start", "end", "letters"
_PLAIN = re.compile(r"[\t\n\r -~]+")
_IGNORED = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0"}


@final
class WordList:
    """Refuses a text that has one of the words, whole and in any case; `idiot*` stands for all words that begin so.

    Between the words of a phrase there may be any white space, hyphens or underscores. Scripts without spaces between
    words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are searched everywhere. Raises SettingsError for no words and
    for an empty one.
    """

    def __init__(self, words: Iterable[str], category: str = "words") -> None:
        if isinstance(words, str) or not isinstance(words, Iterable):
            raise SettingsError(f"WordList takes a list of words, not {type(words).__name__}: WordList(['idiot'])")
        self.words = tuple(words)
        self.category = category
        if not self.words:
            raise SettingsError("a WordList without words would let everything pass: give at least one")
        self._pattern = _pattern(self.words)

    def __repr__(self) -> str:
        return f"WordList({len(self.words)} words, category={self.category!r})"

    def __call__(self, text: str, /) -> Verdict:
        """Refused where a word is found; the reason names the first ones as they are written."""
        said = list(dict.fromkeys(text[start:stop] for start, stop in self.found(text)))
        if not said:
            return Verdict(True)
        more = f" and {len(said) - 3} more" if len(said) > 3 else ""
        return Verdict(False, (self.category,), f"it says {', '.join(map(repr, said[:3]))}{more}")

    def many(self, texts: Sequence[str]) -> list[Verdict]:
        """A verdict a text."""
        return [self(text) for text in texts]

    def redact(self, text: str, mask: str = "*") -> str:
        """The text with every character of the words replaced by `mask`."""
        pieces, done = [], 0
        for start, stop in self.found(text):
            pieces += [text[done:start], mask * (stop - start)]
            done = stop
        return "".join([*pieces, text[done:]])

    def found(self, text: str) -> list[tuple[int, int]]:
        """Where the words stand: start and stop in characters, from left to right."""
        checked(text)
        normal, starts, stops = _with_places(text)
        return [(starts[m.start()], stops[m.end() - 1]) for m in self._pattern.finditer(normal)]


def _normal(text: str) -> str:
    return _with_places(text)[0]


def _with_places(text: str) -> tuple[str, list[int], list[int]]:
    """The compared form, and for each of its characters where the one that it came from starts and stops in `text`."""
    normal: list[str] = []
    starts: list[int] = []
    stops: list[int] = []
    for start, stop in _stretches(text):
        if _PLAIN.fullmatch(text, start, stop):
            normal.append(text[start:stop].lower())
            starts.extend(range(start, stop))
            stops.extend(range(start + 1, stop + 1))
            continue
        for first, last in _clusters(text, start, stop):
            form = _form(text[first:last])
            normal.append(form)
            starts.extend([first] * len(form))
            stops.extend([last] * len(form))
    return "".join(normal), starts, stops


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Plain stretches, which are most of most texts, and the others; a mark takes the plain character that bears it."""
    done = 0
    for plain in _PLAIN.finditer(text):
        stop = plain.end()
        if stop < len(text) and stop > plain.start() and _joins(text[stop]):
            stop -= 1
        if stop > plain.start():
            if plain.start() > done:
                yield done, plain.start()
            yield plain.start(), stop
            done = stop
    if done < len(text):
        yield done, len(text)


def _clusters(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Characters with what is composed with them: marks, the later parts of a Korean syllable, and the invisible."""
    for place in range(start + 1, stop):
        if not _joins(text[place]):
            yield start, place
            start = place
    yield start, stop


@cache
def _joins(character: str) -> bool:
    return unicodedata.combining(character) > 0 or "\u1161" <= character <= "\u11ff" or _invisible(character)


@cache
def _invisible(character: str) -> bool:
    if character in _IGNORED or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return True
    category = unicodedata.category(character)
    return category == "Cf" or (category == "Cc" and not character.isspace())


@lru_cache(maxsize=65536)
def _form(cluster: str) -> str:
    visible = "".join(character for character in cluster if not _invisible(character))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())


@cache
def _marks() -> str:
    """The inside of a character class: the marks of all scripts, which belong to words but not to `\\w`."""
    marks = (code for code in range(sys.maxunicode) if unicodedata.category(chr(code))[0] == "M")
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    trees: dict[tuple[str, str], dict[str, Any]] = {}
    for place, word in enumerate(words):
        parts = _SEPARATOR.split(_normal(word).rstrip("*")) if isinstance(word, str) else []
        spelled = [part for part in parts if part]
        if not spelled:
            raise SettingsError(f"word {place} of the WordList is {word!r}: write letters, or leave it out")
        before = _START if _spaced(spelled[0][0]) else ""
        after = _LETTERS if _normal(word).endswith("*") else _END if _spaced(spelled[-1][-1]) else ""
        node = trees.setdefault((before, after), {})
        for part in [part for inner in spelled for part in (_BETWEEN, *map(re.escape, inner))][1:]:
            node = node.setdefault(part, {})
        node[""] = {}
    edges = {"": "", _START: r"(?<![^\W_])(?<![M])", _END: r"(?![^\W_]|[M])", _LETTERS: r"(?:[^\W_]|[M])*"}
    edges = {name: edge.replace("[M]", f"[{_marks()}]") for name, edge in edges.items()}
    return re.compile("|".join(edges[a] + _branches(tree) + edges[b] for (a, b), tree in trees.items()))


def _branches(node: dict[str, Any]) -> str:
    """A tree of spellings as one expression, the longest first: time does not grow with the number of words."""
    inner = [part + _branches(below) for part, below in node.items() if part]
    if not inner:
        return ""
    return f"(?:{'|'.join(inner)})" + ("?" if "" in node else "")


def _spaced(edge: str) -> bool:
    return (edge.isalnum() or unicodedata.category(edge)[0] == "M") and not _UNSPACED.match(edge)
