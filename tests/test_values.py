"""What all settings have in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import condition as cd
from condition.errors import SettingsError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: cd.Settings(1), r"Settings takes its settings by name: Settings\(epochs=1\)"),
        (lambda: cd.Quantization(4), r"by name: Quantization\(bits=4\)"),
        (lambda: cd.Settings(epochs=float("inf")), "a finite number"),
        (lambda: cd.LoRA(alpha=float("nan")), r"LoRA\.alpha = nan"),
        (lambda: cd.Settings(seed=2**70), r"Settings\.seed = .*less than"),
        (lambda: cd.Sampling(seed=2**70), r"Sampling\.seed = .*less than"),
        (lambda: cd.Settings(output=""), r"Settings\.output = ''"),
    ],
)
def test_settings_that_would_fail_later_are_refused_at_once(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        wrong()
