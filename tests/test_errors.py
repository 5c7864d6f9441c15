from __future__ import annotations

import pickle
import re

import pytest

from condition import errors
from condition.errors import ConditionError, Interrupted, SharingWarning

CHILDREN = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, ConditionError)]


def test_the_docstring_draws_every_error() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    assert drawn == {e.__name__ for e in CHILDREN}


@pytest.mark.parametrize("error", CHILDREN)
def test_every_error_is_a_condition_error_with_its_message(error: type[ConditionError]) -> None:
    with pytest.raises(ConditionError, match="what happened"):
        raise error("what happened")


def test_interrupted_is_no_ordinary_exception_and_keeps_what_was_done() -> None:
    stopped = Interrupted({0: "a", 3: "b"}, 5)
    assert isinstance(stopped, KeyboardInterrupt)
    assert not isinstance(stopped, Exception)
    assert str(stopped) == "stopped after 2 of 5 prompts; the finished ones are in `.finished`, by index"
    assert (stopped.finished, stopped.total) == ({0: "a", 3: "b"}, 5)


def test_interrupted_comes_back_from_another_process() -> None:
    again = pickle.loads(pickle.dumps(Interrupted({1: "x"}, 2, "rows")))  # noqa: S301 - written one line above
    assert (again.finished, again.total) == ({1: "x"}, 2)
    assert str(again) == "stopped after 1 of 2 rows; the finished ones are in `.finished`, by index"


def test_a_sharing_warning_can_be_silenced_by_itself() -> None:
    assert issubclass(SharingWarning, UserWarning)
