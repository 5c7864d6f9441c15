"""Where examples are looked for by meaning: their vectors in memory, or a LangChain vector store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Protocol, final

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

from condition.encoder import encoder, vectors
from condition.prompts.examples import is_item, others, text_of
from condition.types import Example

Vectors = NDArray[np.float32]
_PLACE = "condition_example"


class Pool(Protocol):
    """Finds examples that are not the item itself, best first."""

    def nearest(self, inputs: Mapping[str, object], k: int) -> list[Example]: ...

    def varied(self, inputs: Mapping[str, object], k: int, fetch: int, diversity: float) -> list[Example]: ...


def pool_of(examples: Sequence[Example], names: Sequence[str], source: object, *, stored: bool = False) -> Pool:
    """A pool in a vector store, or in memory with whatever `encoder` takes. Raises ModelError for what is neither."""
    if isinstance(source, VectorStore):
        return StoredPool(examples, names, source, stored=stored)
    return EncodedPool(examples, names, source)


@final
class EncodedPool:
    """Vectors in memory, made when they are first asked for."""

    def __init__(self, examples: Sequence[Example], names: Sequence[str], source: object = None) -> None:
        self.examples, self.names = examples, names
        # The embedded one takes a second to load, so it waits; what is no encoder is refused now.
        self._embeddings = None if source is None else encoder(source)
        self._vectors: Vectors | None = None
        self._lock = Lock()

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        return self._embeddings or encoder()

    def vectors(self) -> Vectors:
        """Of the examples, `[examples, width]`, each of length 1."""
        with self._lock:
            if self._vectors is None:
                self._vectors = vectors(self.embeddings, [text_of(e.inputs, self.names) for e in self.examples])
        return self._vectors

    def nearest(self, inputs: Mapping[str, object], k: int) -> list[Example]:
        return [self.examples[i] for i in self._ranking(self._cosines(inputs), inputs)[: max(k, 0)]]

    def varied(self, inputs: Mapping[str, object], k: int, fetch: int, diversity: float) -> list[Example]:
        cosines, known = self._cosines(inputs), self.vectors()
        left = self._ranking(cosines, inputs)[:fetch]
        chosen: list[int] = []
        while left and len(chosen) < k:
            repeats = (known[left] @ known[chosen].T).max(axis=1) if chosen else np.zeros(len(left))
            worth = (1 - diversity) * cosines[left] - diversity * repeats
            chosen.append(left.pop(int(worth.argmax())))
        return [self.examples[i] for i in chosen]

    def _cosines(self, inputs: Mapping[str, object]) -> NDArray[np.float32]:
        (item,) = vectors(self.embeddings, [text_of(inputs, self.names)])
        found: NDArray[np.float32] = self.vectors() @ item
        return found

    def _ranking(self, cosines: NDArray[np.float32], inputs: Mapping[str, object]) -> list[int]:
        return sorted(others(self.examples, inputs), key=lambda i: -cosines[i])


@final
class StoredPool:
    """A vector store, which is given the examples when it is first asked; `stored` says that it has them already."""

    def __init__(
        self, examples: Sequence[Example], names: Sequence[str], store: VectorStore, *, stored: bool = False
    ) -> None:
        self.examples, self.names, self.store = examples, names, store
        self._stored = stored
        self._texts = [text_of(e.inputs, names) for e in examples]
        self._by_text = {text: i for i, text in reversed(list(enumerate(self._texts)))}
        self._lock = Lock()

    def nearest(self, inputs: Mapping[str, object], k: int) -> list[Example]:
        item = text_of(inputs, self.names)
        return self._found(inputs, k, lambda wanted: self.store.similarity_search(item, k=wanted))

    def varied(self, inputs: Mapping[str, object], k: int, fetch: int, diversity: float) -> list[Example]:
        item = text_of(inputs, self.names)
        return self._found(
            inputs,
            k,
            lambda wanted: self.store.max_marginal_relevance_search(
                item, k=wanted, fetch_k=max(fetch, wanted), lambda_mult=1 - diversity
            ),
        )

    def _found(self, inputs: Mapping[str, object], k: int, search: Callable[[int], list[Document]]) -> list[Example]:
        """The item's own places in the store are asked for too, and then left out, as are texts of others.

        More is asked for where too few are left: a store may hold a text twice, or much that is no example.
        """
        self._fill()
        wanted = k + len(self.examples) - len(others(self.examples, inputs))
        while k > 0:
            documents = search(wanted)
            found = self._others(documents, inputs)
            if len(found) >= k or len(documents) < wanted:
                return found[:k]
            wanted *= 2
        return []

    def _fill(self) -> None:
        with self._lock:
            if not self._stored:
                self.store.add_texts(self._texts, [{_PLACE: i} for i in range(len(self._texts))])
                self._stored = True

    def _others(self, found: Iterable[Document], inputs: Mapping[str, object]) -> list[Example]:
        known = dict.fromkeys(place for d in found if (place := self._place(d)) is not None)
        return [self.examples[p] for p in known if not is_item(self.examples[p], inputs)]

    def _place(self, document: Document) -> int | None:
        """Of the example that a document is. One that another pool has put there has a place of that pool's."""
        text, told = document.page_content, str(document.metadata.get(_PLACE, ""))
        place = int(told) if told.isdecimal() else len(self._texts)
        return place if place < len(self._texts) and self._texts[place] == text else self._by_text.get(text)
