"""Fixed, drawn, balanced and measured examples."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from condition.errors import PromptError
from condition.prompts.bm25 import BM25Selector
from condition.prompts.examples import checked, is_item, names_in_common, text_of
from condition.prompts.outcome import OutcomeSelector
from condition.prompts.selectors import BalancedSelector, FixedSelector, LengthSelector, RandomSelector, counter
from condition.prompts.template import ChatPrompt
from condition.protocols import Selector
from condition.types import Example

POOL = [Example({"q": f"question {i}"}, "ab"[i % 4 == 0], id=str(i)) for i in range(20)]


def ids(examples: list[Example]) -> list[str | None]:
    return [e.id for e in examples]


@pytest.mark.parametrize(
    "selector",
    [
        FixedSelector(POOL),
        RandomSelector(POOL),
        BalancedSelector(POOL),
        LengthSelector(POOL),
        BM25Selector(POOL),
        OutcomeSelector(POOL, len),
    ],
)
class TestEach:
    def test_fits_the_protocol(self, selector: Selector) -> None:
        assert isinstance(selector, Selector)

    @pytest.mark.parametrize("item", [{"q": "question 3"}, {"q": "other words", "id": "3"}, {"q": "x", "id": 3}])
    def test_never_gives_the_item(self, selector: Selector, item: dict[str, object]) -> None:
        found = ids(selector.select(item, 20))
        assert len(found) == len(set(found)) == 19
        assert "3" not in found

    def test_gives_at_most_k(self, selector: Selector) -> None:
        for k in (-1, 0, 1, 5, 100):
            assert len(selector.select({"q": "new"}, k)) == max(0, min(k, 20))


def test_fixed_keeps_the_order_given() -> None:
    assert ids(FixedSelector(POOL).select({"q": "question 1"}, 3)) == ["0", "2", "3"]


class TestRandom:
    def test_the_same_item_gets_the_same_examples_and_others_others(self) -> None:
        first, again = RandomSelector(POOL, 1), RandomSelector(POOL, 1)
        drawn = [ids(first.select({"q": f"new {i}"}, 4)) for i in range(30)]
        assert drawn == [ids(again.select({"q": f"new {i}", "other": 5}, 4)) for i in range(30)]
        assert len(set(map(tuple, drawn))) > 25
        assert drawn != [ids(RandomSelector(POOL, 2).select({"q": f"new {i}"}, 4)) for i in range(30)]

    def test_another_process_draws_the_same(self) -> None:
        code = (
            "from condition.prompts.selectors import RandomSelector; from condition.types import Example;"
            "pool = [Example({'q': f'question {i}'}, 'a', id=str(i)) for i in range(20)];"
            "print([e.id for e in RandomSelector(pool, 1).select({'q': 'new'}, 6)])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == str(ids(RandomSelector(POOL, 1).select({"q": "new"}, 6)))

    def test_every_example_is_drawn_about_as_often(self) -> None:
        selector = RandomSelector(POOL)
        counts = Counter(e.id for i in range(500) for e in selector.select({"q": f"new {i}"}, 4))
        assert len(counts) == 20
        assert 60 < min(counts.values()) <= max(counts.values()) < 145  # 100 expected, deviation 9

    def test_all_items_may_share_them(self) -> None:
        selector = RandomSelector(POOL, 1, each_item=False)
        assert ids(selector.select({"q": "new"}, 4)) == ids(selector.select({"q": "newer"}, 4))


class TestBalanced:
    @given(st.integers(1, 20))
    def test_labels_are_as_even_as_can_be(self, k: int) -> None:
        labels = Counter(e.target for e in BalancedSelector(POOL).select({"q": "new"}, k))
        few, many = labels["b"], labels["a"]
        assert few + many == k
        assert abs(few - many) <= 1 or few == 5

    def test_the_order_is_the_inner_selectors(self) -> None:
        selector = BalancedSelector(POOL, FixedSelector(POOL))
        assert ids(selector.select({"q": "new"}, 4)) == ["0", "1", "2", "4"]
        assert selector.ranked is False
        assert BalancedSelector(POOL, BM25Selector(POOL)).ranked is True

    def test_a_label_of_ones_own(self) -> None:
        selector = BalancedSelector(POOL, FixedSelector(POOL), label=lambda e: int(e.id or 0) < 10)
        assert ids(selector.select({"q": "new"}, 4)) == ["0", "1", "10", "11"]


def test_what_there_is_room_for_is_balanced_too() -> None:
    """Each takes 3 words of the budget, the item 1."""
    balanced = BalancedSelector(POOL, FixedSelector(POOL))
    for selector in (balanced, BalancedSelector(POOL, balanced)):
        for room, k in ((1 + 4 * 3, 9), (500, 4)):
            found = LengthSelector(POOL, room, selector=selector).select({"q": "new"}, k)
            assert Counter(e.target for e in found) == {"a": 2, "b": 2}


LONG = [Example({"q": "x " * n}, "y", id=str(n)) for n in (50, 10, 30, 5)]


class TestLength:
    def test_what_does_not_fit_is_passed_over(self) -> None:
        selector = LengthSelector(LONG, 22)
        assert ids(selector.select({"q": "one two"}, 9)) == ["10", "5"]  # 2 + 11 + 6 of 22
        assert ids(selector.select({"q": "a " * 16}, 9)) == ["5"]
        assert ids(selector.select({"q": "a " * 30}, 9)) == []

    def test_the_words_of_the_template_count(self) -> None:
        prompt = ChatPrompt([("user", "1 2 3 4 {q}")])
        assert ids(LengthSelector(LONG, 22, prompt=prompt).select({"q": "b"}, 9)) == ["10"]  # 5 + 15 of 22

    def test_a_model_or_its_tokenizer_counts_real_tokens(self, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
        class Model:
            tokenizer = tiny_tokenizer

        words = "Bread needs flour"
        real = len(tiny_tokenizer(words)["input_ids"])
        assert counter(Model())(words) == counter(tiny_tokenizer)(words) == real
        assert counter(len)(words) == 17
        assert counter(None)("two words, and a sign") == 6
        with pytest.raises(PromptError, match="int counts no tokens"):
            counter(5)

    def test_no_room_at_all_is_refused(self) -> None:
        with pytest.raises(PromptError, match="max_tokens=0"):
            LengthSelector(LONG, 0)


class TestExamples:
    def test_what_is_the_item(self) -> None:
        example = Example({"q": "x", "topic": "t"}, "y", id="7")
        assert is_item(example, {"q": "x"})
        assert is_item(example, {"q": "z", "id": 7})
        assert not is_item(example, {"q": "z", "topic": "t"})
        assert not is_item(example, {"other": "x"})

    @pytest.mark.parametrize(
        ("value", "same", "other"),
        [
            (float("nan"), float("nan"), 1.0),
            (np.array([1, 2]), np.array([1, 2]), np.array([1, 3])),
            (np.array([1, 2]), np.array([1, 2]), np.array([1, 2, 3])),
            ("x", "x", float("nan")),
        ],
        ids=["nan", "array", "shorter array", "text"],
    )
    def test_the_item_is_known_by_any_values(self, value: Any, same: Any, other: Any) -> None:
        example = Example({"q": "x", "hint": value}, "y")
        assert is_item(example, {"q": "x", "hint": same})
        assert not is_item(example, {"q": "x", "hint": other})
        assert not is_item(example, {"q": "z", "hint": same})

    def test_values_that_can_not_be_compared_are_read(self) -> None:
        class Odd:
            def __init__(self, words: str) -> None:
                self.words = words

            def __eq__(self, other: object) -> bool:
                raise TypeError("not comparable")

            def __hash__(self) -> int:
                return 0

            def __repr__(self) -> str:
                return self.words

        assert is_item(Example({"q": Odd("a")}, "y"), {"q": Odd("a")})
        assert not is_item(Example({"q": Odd("a")}, "y"), {"q": Odd("b")})

    def test_what_is_compared_is_the_same_in_every_process(self) -> None:
        many = Example(dict.fromkeys("gcafbed", "x"), "y")
        assert names_in_common([many, many], None) == tuple("abcdefg")  # a set of words has another order each time
        assert text_of({"a": 1, "b": "two\nlines", "c": 3}, ("b", "a")) == "two\nlines\n1"

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: checked([]), "no examples to choose from"),
            (lambda: checked(["x"]), "not str"),  # type: ignore[list-item]
            (lambda: checked(5), "a list of Example, not int"),  # type: ignore[arg-type]
            (lambda: names_in_common(POOL, "topic"), "not every example has the input 'topic'"),
            (lambda: names_in_common([POOL[0], Example({"r": "1"}, "2")], None), "no input in common"),
            (lambda: text_of({"r": 1}, ("q",)), "they have 'q', given: 'r'"),
        ],
    )
    def test_what_can_not_be_compared_is_refused(self, make: Any, message: str) -> None:
        with pytest.raises(PromptError, match=message):
            make()
