"""SQuAD's exact match and F1 against the official script's functions, as lm-evaluation-harness carries them."""

from __future__ import annotations

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condition.evaluation.metrics import squad_v2

pytestmark = pytest.mark.parity

TRICKY = [
    "",
    " ",
    "the",
    "The the a an",
    "a.n",
    "a-n the-an",
    "an_apple",
    "the.",
    "“the” cat’s",
    "¿Qué?",
    "ÀÉÎ õ Ü",
    "İstanbul ǅ ß ẞ ﬁ",
    "\u00a0the\u2003cat\u200b",
    "1,000.50 $",
    "٣ ३ ³",
    "日本 の 首都",
    "a\u0301 the\u0308",
    "\x1c\x85cat\n\tdog",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "cat cat dog",
    "dog cat cat cat",
]
texts = st.one_of(
    st.sampled_from(TRICKY),
    st.text(max_size=20),
    st.lists(st.sampled_from(["a", "an", "the", "The", "cat", "dog", ".", "-", ",", "’", " ", "  "]), max_size=8).map(
        "".join
    ),
    st.lists(st.sampled_from(["a", "an", "the", "cat", "dog", "of"]), max_size=8).map(" ".join),
)


@cache
def peer() -> dict[str, Any]:
    """The file by itself: importing its package takes seconds."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("lm-eval is not installed")
    return runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "tasks" / "qasper" / "metrics.py"))


def official(prediction: str, answers: list[str]) -> dict[str, float]:
    """Its main loop: golds of which nothing is left do not count, and no words are right only beside no words."""
    normal, f1 = peer()["normalize_answer"], peer()["f1_abstractive"]
    golds = [answer for answer in answers if normal(answer)] or [""]
    exact = [float(normal(gold) == normal(prediction)) for gold in golds]
    bare = [not normal(gold) or not normal(prediction) for gold in golds]
    overlap = [e if b else f1([prediction], [gold]) for gold, e, b in zip(golds, exact, bare, strict=True)]
    return {"exact": max(exact), "f1": float(max(overlap))}


@settings(max_examples=400)
@given(texts, st.lists(texts, max_size=4))
def test_equal_to_the_official_script(prediction: str, answers: list[str]) -> None:
    assert squad_v2(prediction, answers) == official(prediction, answers)


@pytest.mark.parametrize("prediction", TRICKY)
@pytest.mark.parametrize("answer", TRICKY)
def test_equal_on_tricky_pairs(prediction: str, answer: str) -> None:
    assert squad_v2(prediction, [answer]) == official(prediction, [answer])
