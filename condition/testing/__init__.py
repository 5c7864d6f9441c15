"""Contracts to run on blocks of your own: which promise of a Protocol is broken, and what was seen.

    from condition.testing import check_chain

    def test_mine():
        check_chain(Mine(model), [{"question": "What is 2 + 3?"}, {"question": "What is 2 + 4?"}])

Plain functions for any test runner or a notebook. They raise AssertionError; what they need and you do not give is
small: a tiny random network, three prompts, six examples. Each is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condition.testing.adapters import check_adapter as check_adapter
    from condition.testing.chains import check_chain as check_chain
    from condition.testing.controls import check_control as check_control
    from condition.testing.judgments import check_filter as check_filter
    from condition.testing.judgments import check_metric as check_metric
    from condition.testing.judgments import check_moderator as check_moderator
    from condition.testing.judgments import check_verifier as check_verifier
    from condition.testing.models import check_model as check_model
    from condition.testing.models import check_scorer as check_scorer
    from condition.testing.prompts import check_prompt as check_prompt
    from condition.testing.selectors import check_selector as check_selector
    from condition.testing.trainers import check_trainer as check_trainer

_PLACES = {
    "check_adapter": "adapters",
    "check_chain": "chains",
    "check_control": "controls",
    "check_filter": "judgments",
    "check_metric": "judgments",
    "check_model": "models",
    "check_moderator": "judgments",
    "check_prompt": "prompts",
    "check_scorer": "models",
    "check_selector": "selectors",
    "check_trainer": "trainers",
    "check_verifier": "judgments",
}

__all__ = [
    "check_adapter",
    "check_chain",
    "check_control",
    "check_filter",
    "check_metric",
    "check_model",
    "check_moderator",
    "check_prompt",
    "check_scorer",
    "check_selector",
    "check_trainer",
    "check_verifier",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'condition.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"condition.testing.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
