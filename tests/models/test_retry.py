"""What the errors of services say: the real ones of openai's client, httpx and Python itself."""

from __future__ import annotations

import email.utils
import random
import time

import httpx
import openai
import pytest

from condition.errors import BudgetError
from condition.models.retry import (
    FIRST_SECONDS,
    MOST_SECONDS,
    advice,
    asked_again,
    said,
    status_of,
    wait_seconds,
)

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")


def refusal(status: int, **headers: str) -> openai.APIStatusError:
    response = httpx.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError("no", response=response, body=None)


def caused(cause: Exception) -> Exception:
    try:
        raise ValueError("no answer") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_asked_again(status: int) -> None:
    assert status_of(refusal(status)) == status
    assert asked_again(refusal(status))
    assert asked_again(caused(refusal(status)))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_stays_is_not(status: int) -> None:
    assert not asked_again(refusal(status))
    assert not asked_again(caused(refusal(status)))


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("cut off"),
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(request=REQUEST),
        caused(ConnectionRefusedError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_line_is_tried_again(error: Exception) -> None:
    assert status_of(error) is None
    assert asked_again(error)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), BudgetError("spent")])
def test_other_errors_are_not(error: Exception) -> None:
    assert not asked_again(error)


def test_an_error_of_ours_is_not_whatever_caused_it() -> None:
    error = BudgetError("spent")
    error.__cause__ = TimeoutError()
    assert not asked_again(error)


def test_the_wait_doubles_up_to_a_limit() -> None:
    for tries in range(12):
        most = min(MOST_SECONDS, FIRST_SECONDS * 2**tries)
        waits = [wait_seconds(TimeoutError(), tries) for _ in range(50)]
        assert most / 2 <= min(waits) < max(waits) <= most


def test_the_service_says_how_long() -> None:
    assert 7 <= wait_seconds(refusal(429, **{"Retry-After": "7"}), 0) <= 7 + FIRST_SECONDS
    assert 0.25 <= wait_seconds(refusal(429, **{"retry-after-ms": "250"}), 0) <= 0.25 + FIRST_SECONDS
    past = email.utils.formatdate(time.time() - 60, usegmt=True)
    assert wait_seconds(refusal(503, **{"Retry-After": past}), 0) <= FIRST_SECONDS
    later = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 <= wait_seconds(caused(refusal(503, **{"Retry-After": later})), 0) <= 60 + FIRST_SECONDS


@pytest.mark.parametrize("told", ["", "soon", "1.2.3", "-5", "nan"])
def test_a_wait_that_makes_no_sense_is_left_out(told: str) -> None:
    assert 0 < wait_seconds(refusal(429, **{"Retry-After": told}), 0) <= 2 * FIRST_SECONDS


def test_the_users_random_numbers_stay_as_they_are() -> None:
    state = random.getstate()
    wait_seconds(TimeoutError(), 0)
    assert random.getstate() == state


def test_said_has_the_cause() -> None:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = httpx.ConnectError("[Errno 111] Connection\n refused")
    assert said(error) == "APIConnectionError: Connection error. <- ConnectError: [Errno 111] Connection refused"
    assert said(TimeoutError()) == "TimeoutError"
    response = httpx.Response(400, request=REQUEST)
    pinned = openai.BadRequestError("Error code: 400", response=response, body={"detail": "the server is pinned"})
    assert said(pinned) == "BadRequestError: Error code: 400 the server is pinned"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (refusal(401), "key"),
        (refusal(404), "base_url"),
        (refusal(429), "concurrency"),
        (refusal(500), "log"),
        (refusal(400), "setting"),
        (httpx.ConnectError("refused"), "server listens"),
        (TypeError("x"), "LangChain model"),
    ],
)
def test_advice_fits(error: Exception, what: str) -> None:
    assert what in advice(error)
