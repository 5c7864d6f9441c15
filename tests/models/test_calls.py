"""Calls over endpoints that are plain functions: how many at once, what is asked again, where a dead one's calls go."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import RunnableLambda

from condition.errors import BudgetError
from condition.models import retry
from condition.models.calls import HOPELESS, Answered, Call, Endpoint, outcomes


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)


class Refusal(Exception):
    """An error with a status, as services' clients have them."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Desk:
    """Answers with what it was asked, unless `trouble` gives an error for it; counts."""

    def __init__(self, trouble: Callable[[Any, int], Exception | None] = lambda *_: None, seconds: float = 0.0) -> None:
        self.trouble = trouble
        self.seconds = seconds
        self.lock = threading.Lock()
        self.asked: Counter[Any] = Counter()
        self.inside = self.most = 0

    def __call__(self, x: Any) -> Any:
        with self.lock:
            self.asked[x] += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
            error = self.trouble(x, self.asked[x])
        time.sleep(self.seconds)
        with self.lock:
            self.inside -= 1
        if error:
            raise error
        return x

    def endpoint(self, at_once: int = 4, name: str = "desk") -> Endpoint:
        return Endpoint(RunnableLambda(self), name, at_once)


def ask(n: int, *desks: Desk | Endpoint, retries: int = 2) -> dict[int, Any]:
    endpoints = [desk.endpoint() if isinstance(desk, Desk) else desk for desk in desks]
    found = dict(outcomes(endpoints, [Call(i, {}) for i in range(n)], retries))
    assert sorted(found) == list(range(n))
    return {place: one.written if isinstance(one, Answered) else one for place, one in found.items()}


def test_every_call_is_answered_once_and_so_many_are_under_way() -> None:
    desk = Desk(seconds=0.01)
    assert ask(40, desk.endpoint(at_once=5)) == {i: i for i in range(40)}
    assert set(desk.asked.values()) == {1}
    assert desk.most == 5


def test_nothing_to_ask() -> None:
    assert ask(0, Desk()) == {}


def test_trouble_that_passes_is_asked_again() -> None:
    desk = Desk(lambda x, times: Refusal(503) if times <= x % 3 else None)
    assert ask(9, desk, retries=2) == {i: i for i in range(9)}
    assert desk.asked == {i: i % 3 + 1 for i in range(9)}


def test_a_refused_call_fails_alone_and_at_once() -> None:
    desk = Desk(lambda x, _: Refusal(400) if x == 3 else None)
    found = ask(9, desk)
    assert str(found.pop(3)) == "status 400"
    assert found == {i: i for i in range(9) if i != 3}
    assert desk.asked[3] == 1


def test_a_call_that_always_meets_trouble_fails_where_others_are_answered() -> None:
    desk = Desk(lambda x, _: Refusal(500) if x == 0 else None, seconds=0.005)
    found = ask(60, desk, retries=2)
    assert str(found.pop(0)) == "status 500"
    assert found == {i: i for i in range(1, 60)}
    assert desk.asked[0] == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_name_is_found_out_by_one_call(status: int) -> None:
    desk = Desk(lambda *_: Refusal(status))
    found = ask(50, desk.endpoint(at_once=1), retries=9)
    assert {str(error) for error in found.values()} == {f"status {status}"}
    assert desk.asked.total() == 1


def test_refusals_without_one_answer_end_soon() -> None:
    desk = Desk(lambda *_: Refusal(400))
    assert all(isinstance(error, Refusal) for error in ask(500, desk.endpoint(at_once=1)).values())
    assert desk.asked.total() == HOPELESS + 1


def test_a_dead_line_ends_soon() -> None:
    desk = Desk(lambda *_: ConnectionError("refused"))
    assert all(isinstance(error, ConnectionError) for error in ask(500, desk.endpoint(at_once=4), retries=2).values())
    assert desk.asked.total() <= 4 * 3


def test_rows_of_a_dead_endpoint_go_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "condition")
    dead, alive = Desk(lambda *_: ConnectionError("refused")), Desk(seconds=0.005)
    assert ask(60, dead.endpoint(name="north"), alive.endpoint(name="south")) == {i: i for i in range(60)}
    assert "north answers no more: ConnectionError: refused" in caplog.text
    assert caplog.text.count("answers no more") == 1


def test_an_endpoint_that_dies_in_the_middle_loses_nothing() -> None:
    gone = threading.Event()

    def dies(x: int, _: int) -> Exception | None:
        if x >= 20:
            gone.set()
        return ConnectionError("reset") if gone.is_set() else None

    dying, alive = Desk(dies, seconds=0.005), Desk(seconds=0.005)
    assert ask(80, dying, alive) == {i: i for i in range(80)}
    assert dying.asked
    assert alive.asked


def test_every_endpoint_works() -> None:
    desks = [Desk(seconds=0.01) for _ in range(3)]
    assert ask(60, *desks) == {i: i for i in range(60)}
    assert all(0 < desk.most <= 4 for desk in desks)


def test_a_wait_of_hours_is_not_waited() -> None:
    class Later(Refusal):
        class response:
            headers = {"retry-after": "7200"}  # noqa: RUF012

    desk = Desk(lambda *_: Later(429))
    assert isinstance(ask(1, desk)[0], Later)
    assert desk.asked.total() == 1


def test_an_error_of_ours_is_an_outcome() -> None:
    assert isinstance(ask(1, Desk(lambda *_: BudgetError("spent")))[0], BudgetError)


def test_closing_stops_the_asking() -> None:
    desk = Desk(seconds=0.01)
    coming = outcomes([desk.endpoint(at_once=2)], [Call(i, {}) for i in range(1000)], 0)
    next(coming)
    coming.close()
    time.sleep(0.05)
    asked = desk.asked.total()
    time.sleep(0.05)
    assert desk.asked.total() == asked < 20


def test_what_no_thread_survives_is_raised() -> None:
    desk = Desk(lambda x, _: SystemExit("out") if x == 3 else None)  # type: ignore[arg-type,return-value]
    with pytest.raises(SystemExit, match="out"):
        ask(9, desk)


def test_calls_with_equal_options_go_together() -> None:
    llm = FakeListLLM(responses=list("abcdefgh"))
    sizes: list[int] = []

    class Counting(FakeListLLM):
        def batch(self, inputs: list[Any], *args: Any, **kwargs: Any) -> list[str]:
            sizes.append(len(inputs))
            return super().batch(inputs, *args, **kwargs)

    llm = Counting(responses=list("abcdefgh"))
    calls = [Call("x", {"stop": ["a"]} if i >= 5 else {}) for i in range(8)]
    found = dict(outcomes([Endpoint(llm, "fake", 1, together=3)], calls, 0))
    assert [found[i].written for i in range(8)] == list("abcdefgh")  # type: ignore[union-attr]
    assert sizes == [3, 2, 3]
