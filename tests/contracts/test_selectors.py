"""Every implementer of `Selector` through the same checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings

from condition.evaluation.tasks.shots import SameSelector
from condition.prompts.bm25 import BM25Selector
from condition.prompts.outcome import OutcomeSelector
from condition.prompts.selectors import BalancedSelector, FixedSelector, LengthSelector, RandomSelector
from condition.prompts.similarity import DiverseSelector, MMRSelector, SemanticSelector
from condition.testing import check_selector
from condition.testing.samples import EXAMPLES


class Letters(Embeddings):
    """Counts of a few letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[text.count(letter) + 0.1 for letter in "aeios"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


SELECTORS: dict[str, Callable[[], Any]] = {
    "FixedSelector": lambda: FixedSelector(EXAMPLES),
    "RandomSelector": lambda: RandomSelector(EXAMPLES),
    "RandomSelector, the same for all": lambda: RandomSelector(EXAMPLES, each_item=False),
    "BalancedSelector": lambda: BalancedSelector(EXAMPLES),
    "LengthSelector": lambda: LengthSelector(EXAMPLES),
    "LengthSelector of few words": lambda: LengthSelector(EXAMPLES, 20, selector=BM25Selector(EXAMPLES)),
    "BM25Selector": lambda: BM25Selector(EXAMPLES),
    "BM25Selector above 0": lambda: BM25Selector(EXAMPLES, above=0),
    "OutcomeSelector": lambda: OutcomeSelector(EXAMPLES, lambda shown: len(shown[0].target), size=2, trials=8),
    "SemanticSelector": lambda: SemanticSelector(EXAMPLES, Letters()),
    "MMRSelector": lambda: MMRSelector(EXAMPLES, Letters()),
    "DiverseSelector": lambda: DiverseSelector(EXAMPLES, Letters()),
    "SameSelector": lambda: SameSelector(EXAMPLES, "question"),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector(name: str) -> None:
    check_selector(SELECTORS[name]())
