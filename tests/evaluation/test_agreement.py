from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError
from condition.evaluation.agreement import agreement


def test_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: agree 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa 0.4."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = agreement(one, other)
    assert found.share.value == pytest.approx(0.7)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.kappa.n == 50
    # sum of p_ij ((1 - 0.5) [i = j] - (p_.i + p_j.) (1 - 0.7))^2 less (0.7 * 0.5 - 2 * 0.5 + 0.7)^2
    yes_yes, yes_no = 0.4 * (0.5 - 1.1 * 0.3) ** 2, 0.1 * (1.1 * 0.3) ** 2
    no_yes, no_no = 0.2 * (0.9 * 0.3) ** 2, 0.3 * (0.5 - 0.9 * 0.3) ** 2
    spread = yes_yes + yes_no + no_yes + no_no - 0.05**2
    assert found.kappa.high - found.kappa.value == pytest.approx(1.95996 * (spread / 50) ** 0.5 / 0.25, abs=1e-4)


def test_its_interval_covers_the_truth() -> None:
    """Labels of three kinds; the second labeller copies with 0.6, else draws anew: kappa is 0.6."""
    numbers = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        one = numbers.choice(3, 120, p=[0.5, 0.3, 0.2])
        other = np.where(numbers.random(120) < 0.6, one, numbers.choice(3, 120, p=[0.5, 0.3, 0.2]))
        kappa = agreement(one.tolist(), other.tolist()).kappa
        covered += kappa.low <= 0.6 <= kappa.high
    assert 0.925 <= covered / 400 <= 0.975


def test_no_disagreement_among_ten_is_no_certainty() -> None:
    found = agreement(list("aabbaabbab"), list("aabbaabbab"))
    assert found.kappa.value == found.kappa.high == 1
    assert 0.2 < found.kappa.low < 0.6


def test_one_label_for_everything_tells_nothing() -> None:
    kappa = agreement(["a"] * 9, ["a"] * 9).kappa
    assert (kappa.value, kappa.low, kappa.high) == (0, -1, 1)


def test_what_can_not_be_read_is_counted() -> None:
    found = agreement(["a", None, "b", "a"], ["a", "b", None, "b"])
    assert (found.unreadable, found.share.n, found.share.value) == (2, 2, 0.5)
    assert "2 unreadable" in str(found)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_the_order_of_the_two_does_not_matter(pairs: list[tuple[str, str]]) -> None:
    one, other = map(list, zip(*pairs, strict=True))
    found, turned = agreement(one, other), agreement(other, one)
    assert found.kappa.value == pytest.approx(turned.kappa.value)
    assert -1 <= found.kappa.low <= found.kappa.value <= found.kappa.high <= 1


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [(["a"], ["a", "b"], "1 labels beside 2"), ([], [], "of 0 pairs"), ([None], ["a"], "of 1 pairs, each lacks")],
)
def test_bad_labels(one: list[str | None], other: list[str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        agreement(one, other)
