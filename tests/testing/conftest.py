"""How the tests of the checks say what a check has to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def catch(words: str, check: Callable[..., None], *args: Any, **named: Any) -> None:
    """The check fails, with these words."""
    with pytest.raises(AssertionError) as caught:
        check(*args, **named)
    assert words in str(caught.value)
