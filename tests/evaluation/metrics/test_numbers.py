from __future__ import annotations

import pytest

from condition.errors import DataError
from condition.evaluation.metrics import number


@pytest.mark.parametrize(
    ("prediction", "answer", "strict", "flexible", "value"),
    [
        ("2 + 1 = 3\n#### 3", "x\n#### 3", 1, 1, 1),
        ("so 1,200 apples", "#### 1200", 0, 1, 1),
        ("#### 3.0", "#### 3", 0, 0, 1),
        ("the answer is $3.50 for 2 kg", "3.5", 0, 0, 1),
        ("The answer is 7. I checked it 3 times.", "7", 0, 0, 1),
        ("#### 5\n#### 6", "6", 0, 1, 1),
        ("no number", "6", 0, 0, 0),
        ("", "6", 0, 0, 0),
        ("-4", "#### -4", 0, 1, 1),
        ("#### 7 apples", "7", 1, 1, 1),
        ("it is 25%", "25", 0, 1, 1),
    ],
)
def test_by_hand(prediction: str, answer: str, strict: float, flexible: float, value: float) -> None:
    assert number(prediction, answer) == {"strict": strict, "flexible": flexible, "number": value}


def test_a_number_as_target() -> None:
    assert number("so 12", 12)["number"] == 1
    assert number("so 0.333333333", 1 / 3)["number"] == 1


def test_a_target_without_a_number() -> None:
    with pytest.raises(DataError, match="the target has no number: 'many'"):
        number("3", "many")
