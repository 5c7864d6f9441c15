"""Examples near the item in meaning, near and unlike each other, or spread over all there is.

    SemanticSelector(examples).select({"question": "Who wrote the letter?"}, 4)        # the embedded encoder
    SemanticSelector(examples, OpenAIEmbeddings())                                     # any LangChain Embeddings
    MMRSelector(examples, InMemoryVectorStore(embeddings), diversity=0.3)              # any LangChain vector store
    DiverseSelector(examples).select({}, 4)                                            # one of each of four clusters

Liu et al. 2021, arXiv 2101.06804, chose the nearest; Carbonell & Goldstein 1998 weighed nearness against repetition;
Zhang et al. 2022, arXiv 2210.03493, took one example a cluster. Vectors are made when a first item asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import final

from condition.errors import PromptError
from condition.prompts.clusters import clusters
from condition.prompts.examples import On, checked, is_item, names_in_common
from condition.prompts.pools import EncodedPool, pool_of
from condition.types import Example


@final
class SemanticSelector:
    """The nearest examples, by the cosine of their vectors or as a vector store finds them.

    `encoder`: None for the embedded one, LangChain Embeddings, a sentence-transformers model or its name, or a
    LangChain vector store, which is given the examples unless they are `stored` there. `on` names the inputs to
    compare.
    """

    ranked = True

    def __init__(
        self, examples: Iterable[Example], encoder: object = None, *, on: On = None, stored: bool = False
    ) -> None:
        self.examples = checked(examples)
        self.encoder = encoder
        self.on = names_in_common(self.examples, on)
        self._pool = pool_of(self.examples, self.on, encoder, stored=stored)

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The nearest first."""
        return self._pool.nearest(inputs, k)


@final
class MMRSelector:
    """Near examples that do not repeat each other: maximal marginal relevance.

    `diversity` from 0 (nearness only) to 1; `fetch` nearest examples are considered, by default 20 or four times `k`.
    `encoder`, `on` and `stored` as for SemanticSelector.
    """

    ranked = True
    nested = False

    def __init__(
        self,
        examples: Iterable[Example],
        encoder: object = None,
        *,
        diversity: float = 0.5,
        fetch: int | None = None,
        on: On = None,
        stored: bool = False,
    ) -> None:
        if not 0 <= diversity <= 1:
            raise PromptError(f"diversity={diversity}: give 0 (nearest only) to 1 (unlike each other only)")
        self.examples = checked(examples)
        self.encoder = encoder
        self.diversity, self.fetch = diversity, fetch
        self.on = names_in_common(self.examples, on)
        self._pool = pool_of(self.examples, self.on, encoder, stored=stored)

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The nearest first, then what is near and new."""
        return self._pool.varied(inputs, k, max(k, self.fetch or max(20, 4 * k)), self.diversity)


@final
class DiverseSelector:
    """One example of each of `k` clusters, the nearest to its centre; the same for all items.

    `encoder` and `on` as for SemanticSelector, without vector stores.
    """

    ranked = False
    nested = False

    def __init__(self, examples: Iterable[Example], encoder: object = None, *, on: On = None, seed: int = 0) -> None:
        self.examples = checked(examples)
        self.encoder = encoder
        self.seed = seed
        self.on = names_in_common(self.examples, on)
        self._pool = EncodedPool(self.examples, self.on, encoder)
        self._clusters: dict[int, list[list[int]]] = {}

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The largest cluster's first. A second one of a cluster where the item itself took a place."""
        if k < 1:
            return []
        if k not in self._clusters:
            self._clusters[k] = clusters(self._pool.vectors(), k, self.seed)
        rounds = [place for row in zip_longest(*self._clusters[k]) for place in row if place is not None]
        return [self.examples[i] for i in rounds if not is_item(self.examples[i], inputs)][:k]
