"""The error of looking after every row, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from condition.evaluation.sequential import STAKES, Bet, Race


def test_a_bet_by_hand() -> None:
    bet = Bet()
    assert bet.fortune == pytest.approx(0)
    bet.add(-1.0)
    bet.add(0.5)
    wanted = sum((1 + s) * (1 - s / 2) for s in STAKES) / len(STAKES)
    assert bet.fortune == pytest.approx(math.log(wanted))


@pytest.mark.parametrize("x", [-1.01, 1.5, float("nan")])
def test_no_bet_is_fair_outside_the_bounds(x: float) -> None:
    with pytest.raises(ValueError, match="not between"):
        Bet().add(x)


def stopped(rates: tuple[float, ...], rounds: int, runs: int, seed: int) -> list[tuple[dict[str, str], int]]:
    """Who was taken out of each race, and after how many rounds the first one was; all answer the same rows."""
    numbers = np.random.default_rng(seed)
    names = "abcdef"[: len(rates)]
    found = []
    for _ in range(runs):
        race, first = Race(tuple(names)), 0
        for at in range(1, rounds + 1):
            right = numbers.random(len(rates)) < rates
            race.add({name: float(value) for name, value in zip(names, right, strict=True)})
            if not first and race.worse():
                first = at
        found.append((race.worse(), first))
    return found


def test_equal_ones_are_seldom_told_apart_however_often_one_looks() -> None:
    """The bound is 5 %; looking at a t-test after each of 150 rows would err in about a third of the runs."""
    found = stopped((0.6, 0.6, 0.6), rounds=150, runs=150, seed=0)
    assert sum(bool(worse) for worse, _ in found) / len(found) <= 0.05


def test_a_test_for_one_look_would_err() -> None:
    numbers = np.random.default_rng(0)
    x = np.where(numbers.random((500, 150)) < 0.6, 1.0, 0.0) - np.where(numbers.random((500, 150)) < 0.6, 1.0, 0.0)
    at = np.arange(1, 151)
    means, squares = x.cumsum(axis=1) / at, np.square(x).cumsum(axis=1) / at
    errors = np.sqrt(np.maximum(squares - means**2, 1e-9) / at)
    assert np.mean((np.abs(means / errors)[:, 10:] > 1.96).any(axis=1)) > 0.2


def test_a_bet_errs_within_its_bound_on_small_and_skewed_differences() -> None:
    """The mean is 0: rare large losses and frequent small gains, as where a method fails on one row of twenty."""
    numbers = np.random.default_rng(3)
    drawn = np.where(numbers.random((3000, 200)) < 0.05, -0.95, 0.05)
    logs = np.log1p(-np.asarray(STAKES)[:, None, None] * drawn).cumsum(axis=2)
    top = logs.max(axis=0)
    fortunes = top + np.log(np.exp(logs - top).mean(axis=0))
    assert np.mean((fortunes >= math.log(20)).any(axis=1)) <= 0.05
    bet = Bet()
    for x in drawn[0]:
        bet.add(float(x))
    assert bet.fortune == pytest.approx(fortunes[0, -1])


def test_a_much_worse_one_leaves_soon_and_the_better_ones_stay() -> None:
    found = stopped((0.8, 0.8, 0.3), rounds=120, runs=40, seed=1)
    assert sum(worse.keys() == {"c"} for worse, _ in found) / len(found) >= 0.9
    assert np.median([first for _, first in found]) <= 40


def test_one_that_has_left_is_not_asked_again() -> None:
    race = Race(("a", "b"))
    for _ in range(12):
        race.add({"a": 1.0, "b": 0.0})
    assert race.worse() == {"b": "a"}
    for _ in range(500):
        race.add({"a": 0.0})
    assert race.worse() == {"b": "a"}


def test_one_alone_has_nobody_to_be_worse_than() -> None:
    race = Race(("a",))
    race.add({"a": 0.0})
    assert race.worse() == {}


def test_one_may_be_kept_whatever_comes() -> None:
    race = Race(("a", "b"), stays="b")
    for _ in range(50):
        race.add({"a": 1.0, "b": 0.0})
    assert race.worse() == {}
