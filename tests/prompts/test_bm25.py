from __future__ import annotations

from math import log

import pytest

from condition.errors import PromptError
from condition.prompts.bm25 import BM25Selector
from condition.types import Example

POOL = [
    Example({"q": text}, str(i), id=str(i))
    for i, text in enumerate(
        ["the bridge at Orla", "the the the letter", "who wrote a letter", "", "Überraschung für den MÜLLER"]
    )
]


def test_scores_are_those_of_the_formula() -> None:
    selector = BM25Selector(POOL, k1=1.2, b=0.5)
    scores = selector.scores({"q": "the LETTER letter unknown"})
    mean = (4 + 4 + 4 + 0 + 4) / 5
    held = 1.2 * (0.5 + 0.5 * 4 / mean)
    the, letter = log(1 + (5 - 2 + 0.5) / 2.5), log(1 + (5 - 2 + 0.5) / 2.5)
    once, thrice = 2.2 / (1 + held), 3 * 2.2 / (3 + held)
    assert scores.tolist() == pytest.approx([the * once, the * thrice + 2 * letter * once, 2 * letter * once, 0, 0])


def test_the_best_come_first_and_equals_in_their_order() -> None:
    selector = BM25Selector(POOL)
    assert [e.id for e in selector.select({"q": "a letter"}, 2)] == ["2", "1"]
    assert [e.id for e in selector.select({"q": "nothing"}, 9)] == ["0", "1", "2", "3", "4"]
    assert selector.select({"q": "müller überraschung"}, 1)[0].id == "4"


def test_examples_that_share_too_little_are_left_out() -> None:
    asked = {"q": "the letter"}
    first, second, third = (BM25Selector(POOL).scores(asked)[i] for i in (1, 2, 0))
    assert first > second >= third > 0
    assert [e.id for e in BM25Selector(POOL, above=0).select(asked, 9)] == ["1", "0", "2"]
    assert [e.id for e in BM25Selector(POOL, above=second).select(asked, 9)] == ["1"]
    assert BM25Selector(POOL, above=100).select(asked, 9) == []


def test_without_saturation_or_length() -> None:
    pool = [Example({"q": text}, text) for text in ("a a a", "a b c d e f", "z")]
    same = BM25Selector(pool, k1=0, b=0).scores({"q": "a"})
    assert same[0] == same[1] > same[2]  # a word counts once, in a long example as in a short one


def test_the_item_is_never_among_them() -> None:
    assert [e.id for e in BM25Selector(POOL).select({"q": "who wrote a letter"}, 2)] == ["1", "0"]
    assert "1" not in [e.id for e in BM25Selector(POOL).select({"q": "letter", "id": "1"}, 9)]


def test_only_the_inputs_named_are_compared() -> None:
    pool = [Example({"q": "red", "topic": "blue"}, "1"), Example({"q": "blue", "topic": "red"}, "2")]
    assert BM25Selector(pool, on="topic").select({"q": "blue", "topic": "red cars"}, 1)[0].target == "2"
    assert BM25Selector(pool, on="q").select({"q": "blue", "topic": "red cars"}, 1)[0].target == "2"
    assert BM25Selector(pool, on=["q"]).select({"q": "red", "topic": "x"}, 1)[0].target == "1"


@pytest.mark.parametrize("settings", [{"k1": -1.0}, {"b": 1.5}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(PromptError, match="k1 is at least 0 and b between 0 and 1"):
        BM25Selector(POOL, **settings)  # type: ignore[arg-type]


def test_a_thousand_examples_are_searched_quickly_and_exactly() -> None:
    pool = [Example({"q": f"word{i} word{i % 7} and more words"}, str(i)) for i in range(1000)]
    best = BM25Selector(pool).select({"q": "word999 word5"}, 2)
    assert best[0].target == "999"
    assert int(best[1].target) % 7 == 5 or best[1].target == "5"


@pytest.mark.parametrize(
    ("texts", "asked", "best"),
    [
        (["苹果多少钱", "法国的首都在哪里", "今天下雨"], "英国首都是哪里", 1),
        (["りんごはいくら", "首都はどこですか", "rain today"], "フランスの首都", 1),
    ],
)
def test_languages_without_spaces(texts: list[str], asked: str, best: int) -> None:
    pool = [Example({"q": text}, str(i)) for i, text in enumerate(texts)]
    selector = BM25Selector(pool)
    assert selector.scores({"q": asked}).argmax() == best
    assert selector.scores({"q": asked})[best] > 0
