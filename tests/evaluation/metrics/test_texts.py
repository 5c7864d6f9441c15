from __future__ import annotations

from typing import Any

import pytest

from condition.errors import DataError
from condition.evaluation.metrics import accuracy, exact_match, win_rate


@pytest.mark.parametrize(
    ("prediction", "answer", "exact"),
    [(" B\n", "B", 1), ("b", "B", 0), ("", "", 1), ("B.", "B", 0), ("C", ["B", "C "], 1), ("D", ["B", "C"], 0)],
)
def test_exact_match(prediction: str, answer: Any, exact: float) -> None:
    assert exact_match(prediction, answer) == {"exact": exact}


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [(" positive.\n", "Positive", 1), ("positive!", "positive", 0), ("(A)", ["(B)", "(a)"], 1), ("", "x", 0)],
)
def test_accuracy(prediction: str, answer: Any, right: float) -> None:
    assert accuracy(prediction, answer) == {"accuracy": right}


@pytest.mark.parametrize(("said", "share"), [("A", 1), ("b", 0), ("tie", 0.5), ("Draw.", 0.5), ("nonsense", 0)])
def test_win_rate(said: str, share: float) -> None:
    assert win_rate(said, "A") == {"win_rate": share}


@pytest.mark.parametrize("answer", [5, None, [], [1]])
def test_a_target_that_is_no_text(answer: Any) -> None:
    with pytest.raises(DataError, match="the target of a metric of texts is a text or several"):
        exact_match("x", answer)
