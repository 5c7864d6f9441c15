from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.prompts.outcome import OutcomeSelector, influence
from condition.types import Example

POOL = [Example({"q": f"question {i}"}, "a", id=str(i)) for i in range(12)]
WORTH = {"3": 1.0, "7": 0.5, "9": -1.0}


def outcome(shown: list[Example]) -> float:
    return sum(WORTH.get(e.id or "", 0.0) for e in shown)


def test_what_helps_comes_first_and_what_harms_last() -> None:
    selector = OutcomeSelector(POOL, outcome, trials=200)
    ranking = [e.id for e in selector.select({"q": "new"}, 12)]
    assert ranking[:2] == ["3", "7"]
    assert ranking[-1] == "9"
    # with examples dealt evenly the company's mean differs little between sets with and without one
    assert selector.influence[3] == pytest.approx(1.0, abs=0.35)
    assert selector.influence[0] == pytest.approx(0.0, abs=0.35)


def test_what_every_set_reaches_is_nobodys_help() -> None:
    assert influence(POOL, lambda shown: 5.0) == [0.0] * 12


def test_the_item_is_never_among_them() -> None:
    selector = OutcomeSelector(POOL, outcome)
    assert "3" not in [e.id for e in selector.select({"q": "question 3"}, 12)]
    assert "3" not in [e.id for e in selector.select({"q": "x", "id": "3"}, 12)]


def test_every_example_is_shown_equally_often_never_twice_in_a_set() -> None:
    seen: list[list[str | None]] = []

    def note(shown: list[Example]) -> float:
        seen.append([e.id for e in shown])
        return 0.0

    assert influence(POOL, note, size=5) == [0.0] * 12
    assert len(seen) == 20  # 8 x 12 / 5, rounded up
    assert all(len(set(shown)) == 5 for shown in seen)
    counts = [sum(e.id in shown for shown in seen) for e in POOL]
    assert max(counts) - min(counts) <= 1
    first = list(seen)
    seen.clear()
    influence(POOL, note, size=5)
    assert seen == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 12}, "not all of 12"),
        ({"size": 0}, "at least one"),
        ({"size": 2, "trials": 5}, "give more trials"),
    ],
)
def test_trials_that_tell_nothing_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        influence(POOL, outcome, **settings)


def test_an_outcome_that_is_no_number_is_refused() -> None:
    with pytest.raises(PromptError, match="an outcome is nan"):
        influence(POOL, lambda shown: float("nan"))
