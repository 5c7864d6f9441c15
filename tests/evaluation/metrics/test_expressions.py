from __future__ import annotations

import time

import pytest

from condition.errors import DataError
from condition.evaluation.metrics.equality import Equality
from condition.evaluation.metrics.expressions import expression, final, normalised

EQUAL = [
    (r"so it is $\boxed{\frac{2}{4}}$.", "0.5"),
    (r"\boxed{1}, no, \boxed{2}", "2"),
    (r"\sqrt{8}", r"2\sqrt2"),
    (r"\frac12", ".5"),
    (r"\dfrac{1}{2}", r"\tfrac12"),
    ("The answer is 5.", "5"),
    ("The final answer is $x = 3$.", "3"),
    ("so we get $4$ and then $7$", "7"),
    (r"10\text{ cm}", "10"),
    (r"50\%", "50"),
    ("1,000", "1000"),
    (r"(x+1)^2", "x^2+2x+1"),
    (r"\left(0, 100\right)", "(0,100)"),
    (r"\{1, 2\}", r"\{2,1\}"),
    ("1, 2", "2, 1"),
    (r"\pi r^2", r"r^2 \cdot \pi"),
    (r"\sin 0", "0"),
    (r"90^\circ", "90"),
    (r"2^{10}", "1024"),
    ("-(-3)", "3"),
    (r"\text{Tuesday}", "Tuesday"),
    ("6!", "720"),
    (r"\sqrt[3]{27}", "3"),
]
DIFFERENT = [
    ("(0, 1]", "(0,1)"),
    ("(1, 2)", "(2, 1)"),
    ("x", "y"),
    ("1/3", "0.333"),
    ("", "1"),
    ("no idea", "1"),
    (r"\frac{1}{0}", "1"),
    ("((((", "1"),
    ("(" * 200, "1"),
    ("1" * 5000, "2"),
    ("__import__('os').system('true')", "0"),
    ("0,100", "0100"),
]


@pytest.mark.parametrize(("said", "wanted"), EQUAL)
def test_equal(said: str, wanted: str) -> None:
    assert expression(said, wanted, seconds=60) == {"equal": 1.0}


@pytest.mark.parametrize(("said", "wanted"), DIFFERENT)
def test_different(said: str, wanted: str) -> None:
    assert expression(said, wanted, seconds=60) == {"equal": 0.0}


@pytest.mark.parametrize("endless", ["9^{9^{9^{9}}}", "(1000000000!)!"])
def test_what_takes_too_long_is_not_equal_and_the_next_one_is_answered(endless: str) -> None:
    expression("1+1", "2", seconds=60)  # started
    began = time.monotonic()
    assert expression(endless, "1", seconds=0.5) == {"equal": 0.0}
    assert time.monotonic() - began < 30
    assert expression("1+1", "2", seconds=60) == {"equal": 1.0}


def test_a_process_that_was_ended_is_started_anew() -> None:
    equality = Equality()
    assert equality("1+1", "2", 60)
    equality.stop()
    equality.stop()
    assert equality("1+1", "2", 60)
    equality.stop()


@pytest.mark.parametrize(
    ("text", "answer"),
    [(r"\boxed{\frac{a}{b}} and", r"\frac{a}{b}"), (r"\boxed 7$", "7"), ("Answer: 12\nmore", "12"), (r"\boxed{1", "1")],
)
def test_the_answer_in_a_solution(text: str, answer: str) -> None:
    assert final(text) == answer


def test_normalised() -> None:
    assert normalised(r"$\left[1,2\right]$.") == "[1,2]"
    assert normalised("1,234,567") == "1234567"


def test_a_target_without_an_answer() -> None:
    with pytest.raises(DataError, match="the target has no answer"):
        expression("1", " ")
