"""Examples that share rare words with the item.

    BM25Selector(examples).select({"question": "Who built the bridge at Orla?"}, 4)

Okapi BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"): needs no network and no encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from condition.errors import PromptError
from condition.prompts.examples import On, checked, names_in_common, others, text_of, words_of
from condition.types import Example


@final
class BM25Selector:
    """The examples with the highest BM25 score; among equals the earlier one.

    `k1` says how soon more of the same word stop to count, `b` how much a long example is held back. `on` names the
    inputs to compare. Only examples with a score `above` that number are shown: with 0, those that share a word.
    """

    ranked = True

    def __init__(
        self,
        examples: Iterable[Example],
        *,
        k1: float = 1.5,
        b: float = 0.75,
        on: On = None,
        above: float | None = None,
    ) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise PromptError(f"k1={k1}, b={b}: k1 is at least 0 and b between 0 and 1")
        self.examples = checked(examples)
        self.k1, self.b, self.above = k1, b, above
        self.on = names_in_common(self.examples, on)
        self._weights = _weights([_words(text_of(e.inputs, self.on)) for e in self.examples], k1, b)

    def scores(self, inputs: Mapping[str, object]) -> NDArray[np.float64]:
        """The item's score with each example, `[examples]`."""
        total = np.zeros(len(self.examples))
        for word in _words(text_of(inputs, self.on)):
            if word in self._weights:
                places, weights = self._weights[word]
                total[places] += weights
        return total

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The best first."""
        scores = self.scores(inputs)
        allowed = [i for i in others(self.examples, inputs) if self.above is None or scores[i] > self.above]
        ranking = sorted(allowed, key=lambda i: -scores[i])
        return [self.examples[i] for i in ranking[: max(k, 0)]]


def _words(text: str) -> list[str]:
    return words_of(text.casefold())


def _weights(texts: list[list[str]], k1: float, b: float) -> dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """For each word the places of the texts that hold it, and what it adds to the score of each."""
    lengths = np.array([len(words) for words in texts], float)
    held = k1 * (1 - b + b * lengths / max(lengths.mean(), 1.0))
    found: dict[str, list[tuple[int, int]]] = {}
    for place, words in enumerate(texts):
        for word, count in Counter(words).items():
            found.setdefault(word, []).append((place, count))
    weights = {}
    for word, pairs in found.items():
        places = np.array([place for place, _ in pairs])
        counts = np.array([count for _, count in pairs], float)
        rarity = np.log1p((len(texts) - len(pairs) + 0.5) / (len(pairs) + 0.5))
        weights[word] = places, rarity * counts * (k1 + 1) / (counts + held[places])
    return weights
