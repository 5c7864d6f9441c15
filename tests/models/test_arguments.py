"""What is said where settings are of another type."""

from __future__ import annotations

import pytest

from condition.control.codes import ControlCodes
from condition.control.grammar import Choice
from condition.errors import ControlError, SettingsError
from condition.models.arguments import check_control, check_options
from condition.types import Sampling


@pytest.mark.parametrize(
    ("given", "call"),
    [
        (4, "sampling=4 is no Sampling: give cd.Sampling(max_tokens=4)"),
        ({"max_tokens": 4, "n": 2}, "give cd.Sampling(max_tokens=4, n=2)"),
        (-4, "give cd.Sampling(temperature=0.5)"),  # what is not possible is not advised
        (None, "sampling=None is no Sampling: give cd.Sampling(temperature=0.5)"),
    ],
)
def test_the_call_that_was_meant_is_shown(given: object, call: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_options(given, Sampling, "sampling", {"max_tokens": given}, {"temperature": 0.5})
    assert str(caught.value).endswith(call)


def test_settings_pass() -> None:
    check_options(Sampling(), Sampling, "sampling")
    with pytest.raises(SettingsError, match=r"give cd\.Sampling\(\)"):
        check_options(3, Sampling, "sampling")


def test_controls_pass_and_others_do_not() -> None:
    check_control(None)
    check_control(Choice(["yes"]))
    for given in ("yes", Choice, ["yes"]):
        with pytest.raises(ControlError, match="is no control: give one, such as"):
            check_control(given)
    with pytest.raises(ControlError, match="belong into the prompt"):
        check_control(ControlCodes("news"))
