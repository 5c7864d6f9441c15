"""What a failed call to a service says: ask again, and when; or that it never will.

    asked_again(error)          # a timeout, a lost connection, 408, 409, 429 or 5xx
    wait_seconds(error, 2)      # about 2 s behind the third try, or what the service asks for

Services have errors of their own and none in common, so they are read by what they carry: a status, headers, a cause.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from condition.errors import ConditionError

FIRST_SECONDS = 0.5
"""The wait behind the first failure; it doubles with each further one."""
MOST_SECONDS = 30.0
LONGEST_SECONDS = 120.0
"""A service that asks for a longer wait than this has failed: its limit is one of hours or days."""
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_LINES = ("ConnectionError", "ConnectError", "TransportError", "Timeout", "TimeoutError", "TimeoutException")
"""How the names of errors end that come from the line: httpx, requests, urllib3 and the services' clients."""
_JITTER = random.Random()  # of its own: the user's seeds stay as they are


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, carries."""
    for part in _causes(error):
        for holder in (part, getattr(part, "response", None)):
            for name in ("status_code", "status", "code"):
                found = getattr(holder, name, None)
                if isinstance(found, int) and 100 <= found < 600:
                    return int(found)
    return None


def asked_again(error: BaseException) -> bool:
    """True where another try may help."""
    if isinstance(error, ConditionError):
        return False
    status = status_of(error)
    if status is not None:
        return status in _AGAIN or status >= 500
    return any(isinstance(part, TimeoutError | ConnectionError) or _of_the_line(part) for part in _causes(error))


def wait_seconds(error: BaseException, tries: int) -> float:
    """Seconds to wait behind one failure and so many before it.

    Doubled each time, up to half of it by chance, so that calls do not come back all at once; or a little longer than
    the service asks for.
    """
    chance = _JITTER.uniform(0.5, 1.0)
    wait = min(MOST_SECONDS, FIRST_SECONDS * 2.0**tries) * chance
    return max(wait, (_told_seconds(error) or 0.0) + FIRST_SECONDS * chance)


def said(error: BaseException) -> str:
    """An error in one line, with what caused it."""
    lines: list[str] = []
    for part in _causes(error):
        text = " ".join(f"{part} {_detail(part)}".split())
        if not any(text and text in line for line in lines):
            lines.append(f"{type(part).__name__}: {text}" if text else type(part).__name__)
    return " <- ".join(lines)


def advice(error: BaseException) -> str:
    """What to do about an error."""
    status = status_of(error)
    if status in (401, 403):
        return "check the key and what it may use"
    if status == 404:
        return "check the model's name and the address (base_url)"
    if status == 429:
        return "lower concurrency=, raise retries=, or look at the service's limits"
    if status is not None and status >= 500:
        return "look at the service's own log, or raise retries="
    if status is not None:
        return "the service refuses the prompt or a setting: check both, and the model's name"
    if asked_again(error):
        return "check the address (base_url), that a server listens there, and its timeout"
    return "check the settings of the LangChain model"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from."""
    part: BaseException | None = error
    while part is not None:
        yield part
        part = part.__cause__


def _detail(error: BaseException) -> str:
    """What FastAPI's servers say, which OpenAI's client leaves out of its message."""
    body = getattr(error, "body", None)
    return str(body.get("detail", "")) if isinstance(body, Mapping) else ""


def _of_the_line(error: BaseException) -> bool:
    return any(kind.__name__.endswith(_LINES) for kind in type(error).__mro__)


def _told_seconds(error: BaseException) -> float | None:
    """What the Retry-After header says, as seconds or as a date, or OpenAI's in milliseconds."""
    headers: Any = next(
        (h for p in _causes(error) if (h := getattr(getattr(p, "response", None), "headers", None))), {}
    )
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return float(milliseconds) / 1000
        told = headers.get("retry-after") or headers.get("Retry-After")
        if not told:
            return None
        return float(told) if _is_number(told) else parsedate_to_datetime(told).timestamp() - time.time()
    except (AttributeError, TypeError, ValueError):
        return None  # whatever a proxy wrote there


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()
