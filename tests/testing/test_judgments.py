"""Metrics, verifiers, moderators and filters that break a promise are caught: plain functions, and objects."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from condition.testing import check_filter, check_metric, check_moderator, check_verifier
from condition.types import Answer, Example, Verdict
from tests.testing.conftest import catch

NUMBERS = itertools.count()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "Metric object: it has __call__. Seen: object without __call__"),
        (
            lambda prediction, target: 1.0,
            "it gives a mapping of names to numbers. Seen: 1.0 for the prediction 'Paris'",
        ),
        (lambda prediction, target: {"f1": math.nan}, "each value is a finite number. Seen: f1 = nan"),
        (lambda prediction, target: {"f1": "high"}, "each value is a finite number. Seen: f1 = 'high'"),
        (lambda prediction, target: {1: 1.0}, "names are texts. Seen: int, 1"),
        (lambda prediction, target: {"n": len(target) / len(prediction)}, "it measures the prediction ''"),
        (lambda prediction, target: {"n": next(NUMBERS)}, "gives the same numbers again"),
    ],
)
def test_a_metric_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_metric, block)


def test_a_metric_that_sorts_its_target() -> None:
    def sorting(prediction: str, target: list[str]) -> dict[str, float]:
        target.sort()
        return {"found": float(prediction in target)}

    catch("it changes nothing of what it is given", check_metric, sorting, [("b", ["b", "a"])])
    check_metric(lambda prediction, target: {"length": np.float32(len(prediction))})


class Lengths:
    """A verifier."""

    def __call__(self, question: str, candidates: Any) -> Any:
        return [float(len(one)) for one in candidates]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has __call__"),
        (lambda question, candidates: 1.0, "no candidates get []. Seen: float instead of a list"),
        (lambda question, candidates: [candidates[0]], "it takes no candidates. Seen: IndexError"),
        (lambda question, candidates: [1.0] * bool(candidates), "one number for each candidate. Seen: 1 for 5"),
        (lambda question, candidates: [math.nan for _ in candidates], "can be compared. Seen: nan for '5'"),
        (lambda question, candidates: ["good" for _ in candidates], "can be compared. Seen: 'good' for '5'"),
        (lambda question, candidates: np.ones(len(candidates)), "Seen: ndarray instead of a list"),
        (lambda question, candidates: sorted(map(float, map(len, candidates))), "in the order of the candidates"),
        (lambda question, candidates: [float(next(NUMBERS)) for _ in candidates], "get the same numbers again"),
        (lambda question, candidates: [(candidates.pop() and 1.0) or 0.0 for _ in candidates[:]], "it changes nothing"),
    ],
)
def test_a_verifier_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_verifier, block)


def test_whole_verifiers() -> None:
    check_verifier(Lengths())
    check_verifier(lambda question, candidates: [float(next(NUMBERS)) for _ in candidates], repeatable=False)


class Polite:
    """A moderator that knows one word, and takes many texts at once."""

    def __call__(self, text: str) -> Any:
        return Verdict("damn" not in text)

    def many(self, texts: Any) -> Any:
        return [self(text) for text in texts]


class Hasty(Polite):
    def many(self, texts: Any) -> Any:
        return [Verdict(True) for _ in texts]


class Sparing(Polite):
    def many(self, texts: Any) -> Any:
        return [self(text) for text in texts if text]


class Never(Polite):
    def many(self, texts: Any) -> Any:
        return super().many([texts[0], *texts[1:]])


class Tripping(Polite):
    def many(self, texts: Any) -> Any:
        raise RuntimeError("too many")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (Never(), "many takes no texts. Seen: IndexError"),
        (Tripping(), "many takes the texts. Seen: RuntimeError: too many"),
        (lambda text: "damn" not in text, "a text gets a Verdict. Seen: bool, True"),
        (lambda text: Verdict(bool(text[0])), "it judges ''. Seen: IndexError"),
        (lambda text: Verdict(next(NUMBERS) % 2 == 0), "a text gets the same verdict again"),
        (lambda text: Verdict(False), "'a pound' may pass"),
        (lambda text: Verdict(True), "'damn it' may not pass"),
        (Hasty(), "many says what one call says"),
        (Sparing(), "many gives one verdict for each text. Seen: 8 for 9 texts"),
        (object(), "it has __call__"),
    ],
)
def test_a_moderator_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_moderator, block, allowed=["a pound"], refused=["damn it"])


def test_a_whole_moderator() -> None:
    check_moderator(Polite(), allowed=["a pound"], refused=["damn it"])


def forgetting(example: Example) -> bool:
    example.inputs.clear()  # type: ignore[attr-defined]
    return True


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has __call__"),
        (lambda example: "yes", "it says True or False. Seen: str, 'yes'"),
        (lambda example: example.inputs["label"] == "a", "Seen: KeyError: 'label'"),
        (lambda example: next(NUMBERS) % 2 == 0, "the same example is judged alike again"),
        (lambda example: Answer("no"), "it says True or False. Seen: Answer"),
    ],
)
def test_a_filter_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_filter, block)


def test_a_filter_that_empties_examples() -> None:
    catch("it changes nothing of what it is given", check_filter, forgetting, [Example({"a": "b"}, "c")])
    check_filter(lambda example: len(example.target) < 9)
