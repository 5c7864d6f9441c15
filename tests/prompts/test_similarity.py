"""Nearness by vectors: plain ones whose cosines are known, LangChain's stores, and the embedded encoder."""

from __future__ import annotations

import subprocess
import sys

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from condition.errors import ConditionError, PromptError
from condition.prompts.selectors import BalancedSelector, LengthSelector
from condition.prompts.similarity import DiverseSelector, MMRSelector, SemanticSelector
from condition.types import Example


class Letters(Embeddings):
    """Counts of a, b and c."""

    calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return [[text.count(letter) + 1e-3 for letter in "abc"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


POOL = [Example({"q": q}, q.upper(), id=q) for q in ("aaa", "aaaa", "aab", "abb", "bbb", "ccc", "cca")]


def ids(examples: list[Example]) -> list[str | None]:
    return [e.id for e in examples]


class TestSemantic:
    def test_the_nearest_come_first(self) -> None:
        selector = SemanticSelector(POOL, Letters())
        assert ids(selector.select({"q": "aaab"}, 3)) == ["aab", "aaa", "aaaa"]
        assert ids(selector.select({"q": "bbbbbc"}, 2)) == ["bbb", "abb"]

    def test_never_the_item(self) -> None:
        assert ids(SemanticSelector(POOL, Letters()).select({"q": "aab"}, 1)) == ["aaa"]

    def test_the_pool_is_encoded_once(self) -> None:
        letters = Letters()
        selector = SemanticSelector(POOL, letters)
        assert letters.calls == 0
        for _ in range(3):
            selector.select({"q": "b"}, 1)
        assert letters.calls == 4

    def test_a_vector_store_is_given_the_examples(self) -> None:
        store = InMemoryVectorStore(Letters())
        selector = SemanticSelector(POOL, store)
        assert ids(selector.select({"q": "aaab"}, 3)) == ["aab", "aaa", "aaaa"]
        assert ids(selector.select({"q": "aab"}, 2)) == ["aaa", "aaaa"]
        assert len(store.store) == len(POOL)
        again = SemanticSelector(POOL, store, stored=True)
        assert ids(again.select({"q": "bbbbbc"}, 2)) == ["bbb", "abb"]
        assert len(store.store) == len(POOL)

    def test_a_store_that_was_filled_elsewhere_is_read_by_its_words(self) -> None:
        store = InMemoryVectorStore(Letters())
        store.add_texts(["ccc", "bbb", "no example"])
        assert ids(SemanticSelector(POOL, store, stored=True).select({"q": "ccb"}, 3)) == ["ccc", "bbb"]

    def test_a_store_may_hold_the_examples_of_others(self) -> None:
        store = InMemoryVectorStore(Letters())
        others = [Example({"q": q}, "other") for q in ("aaab", "aaabb", "bbbbb")]
        assert SemanticSelector(others, store).select({"q": "aaabbb"}, 1) == [others[1]]
        selector = SemanticSelector(POOL, store)
        assert ids(selector.select({"q": "aaabc"}, 3)) == ["aab", "aaa", "aaaa"]
        assert len(MMRSelector(POOL, store, stored=True).select({"q": "aaabc"}, 3)) == 3

    def test_a_store_that_was_given_them_twice_gives_each_once(self) -> None:
        store = InMemoryVectorStore(Letters())
        for _ in range(3):  # a cell of a notebook that is run again
            found = ids(SemanticSelector(POOL, store).select({"q": "aab"}, 3))
        assert found == ["aaa", "aaaa", "abb"]
        assert len(SemanticSelector(POOL, store, stored=True).select({"q": "aab"}, 99)) == 6
        assert SemanticSelector(POOL, store, stored=True).select({"q": "aab"}, 0) == []

    def test_what_is_no_encoder_is_refused_at_once(self) -> None:
        with pytest.raises(ConditionError, match="encoder"):
            SemanticSelector(POOL, 5)


class TestMMR:
    def test_no_diversity_is_nearness(self) -> None:
        item = {"q": "aaab"}
        assert MMRSelector(POOL, Letters(), diversity=0).select(item, 4) == SemanticSelector(POOL, Letters()).select(
            item, 4
        )

    def test_diversity_passes_over_repetitions(self) -> None:
        assert ids(MMRSelector(POOL, Letters(), diversity=0.6).select({"q": "aaab"}, 3)) == ["aab", "ccc", "bbb"]

    def test_only_the_nearest_are_considered(self) -> None:
        assert ids(MMRSelector(POOL, Letters(), diversity=0.6, fetch=3).select({"q": "aaab"}, 3))[1:] == ["aaaa", "aaa"]

    def test_a_vector_store_does_the_same(self) -> None:
        found = set()
        for diversity in (0.1, 0.5, 0.9):
            ours = MMRSelector(POOL, Letters(), diversity=diversity)
            theirs = MMRSelector(POOL, InMemoryVectorStore(Letters()), diversity=diversity)
            for q in ("aaab", "bbc", "cccaab"):
                assert ids(theirs.select({"q": q}, 4)) == ids(ours.select({"q": q}, 4))
            found.add(tuple(ids(ours.select({"q": "aaab"}, 4))))
        assert len(found) > 1

    def test_diversity_is_a_share(self) -> None:
        with pytest.raises(PromptError, match=r"diversity=1\.5"):
            MMRSelector(POOL, Letters(), diversity=1.5)


class TestDiverse:
    def test_one_of_each_cluster(self) -> None:
        found = DiverseSelector(POOL, Letters()).select({}, 3)
        groups = ({"aaa", "aaaa", "aab"}, {"abb", "bbb"}, {"ccc", "cca"})
        assert [sum(e.id in group for e in found) for group in groups] == [1, 1, 1]

    def test_they_are_as_many_as_are_shown(self) -> None:
        """Of seven clusters of seven examples the first three are no choice at all."""
        groups = ({"aaa", "aaaa", "aab"}, {"abb", "bbb"}, {"ccc", "cca"})
        diverse = DiverseSelector(POOL, Letters())
        for selector in (
            LengthSelector(POOL, 1000, selector=diverse),
            BalancedSelector(POOL, diverse, label=lambda example: ""),
            LengthSelector(POOL, 1000, selector=BalancedSelector(POOL, diverse, label=lambda example: "")),
        ):
            found = selector.select({}, 3)
            assert [sum(e.id in group for e in found) for group in groups] == [1, 1, 1]
        each = BalancedSelector(POOL, diverse, label=lambda example: str(example.id)[0]).select({}, 6)
        assert len(set(ids(each))) == 6
        tight = LengthSelector(POOL, 8, selector=diverse, count=len).select({}, 3)
        assert ids(tight)[0] == ids(diverse.select({}, 3))[0]
        near = MMRSelector(POOL, Letters(), diversity=0.6, fetch=3)
        assert ids(LengthSelector(POOL, 1000, selector=near).select({"q": "aaab"}, 3))[1:] == ["aaaa", "aaa"]

    def test_the_items_place_is_filled(self) -> None:
        selector = DiverseSelector(POOL, Letters())
        for example in POOL:
            found = ids(selector.select(example.inputs, 5))
            assert example.id not in found
            assert len(set(found)) == 5
        assert selector.select({}, 0) == []


@pytest.mark.real
def test_the_embedded_encoder_knows_what_is_near() -> None:
    texts = [
        "How do I bake bread?",
        "Who won the football match?",
        "What is the capital of Peru?",
        "Is rye flour sour?",
    ]
    pool = [Example({"q": text}, "x") for text in texts]
    near = SemanticSelector(pool).select({"q": "My dough does not rise."}, 2)
    assert {e.inputs["q"] for e in near} == {texts[0], texts[3]}


def test_no_torch_until_something_is_encoded() -> None:
    code = (
        "import sys; from condition.prompts.similarity import SemanticSelector; from condition.types import Example;"
        "SemanticSelector([Example({'q': 'a'}, 'b')]); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
