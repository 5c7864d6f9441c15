"""Means between two log lines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from condition.training.watched import DriftStop, Watched, compared


def test_values_are_counted_apart_and_begin_anew() -> None:
    watched = Watched()
    watched.add({"a": torch.tensor([1.0, 2.0])}, training=True)
    watched.add({"a": torch.tensor([6.0]), "b": torch.zeros(0)}, training=True)
    watched.add({"a": torch.tensor([7.0])}, training=False)
    assert watched.take(training=True) == {"a": (9.0, 3), "b": (0.0, 0)}
    assert watched.take(training=True) == {}
    assert watched.take(training=False) == {"a": (7.0, 1)}


def test_a_training_goes_on_from_what_was_counted() -> None:
    """What a checkpoint keeps is of the training alone, and stays as it was while that goes on."""
    watched, again = Watched(), Watched()
    watched.add({"a": torch.tensor([1.0, 2.0])}, training=True)
    watched.add({"b": torch.tensor([7.0])}, training=False)
    kept = watched.so_far()
    again.go_on(kept)
    for each in (watched, again):
        each.add({"a": torch.tensor([6.0])}, training=True)
        assert each.take(training=True) == {"a": (9.0, 3)}
    assert kept == {"a": (3.0, 2)}


def test_many_values_are_added_in_full_precision() -> None:
    """257 is no number of bfloat16."""
    watched = Watched()
    watched.add({"a": torch.ones(257, dtype=torch.bfloat16)}, training=True)
    assert watched.take(training=True) == {"a": (257.0, 257)}


def test_curves_of_pairs() -> None:
    """Half where there is nothing but rounding; pairs of like lengths, or undecided ones, say nothing of length."""
    better, worse = torch.tensor([5.0, 3.0, 4.0, 9.0, 2.0]), torch.tensor([3.0, 5.0, 4.0, 2.0, 6.0])
    found = compared(torch.tensor([1.0, -1.0, 2.0, 1e-6, 3.0]), better, worse)
    assert found["accuracy"].tolist() == [1.0, 0.0, 1.0, 0.5, 1.0]
    assert found["prefers_longer"].tolist() == [1.0, 1.0, 0.0]
    assert found["longer_is_better"].tolist() == [1.0, 0.0, 1.0, 0.0]


def test_the_stop_waits_for_its_limit() -> None:
    control: Any = SimpleNamespace(should_training_stop=False)
    stop, state = DriftStop(0.5), SimpleNamespace(global_step=3)
    for logs in ({"loss": 1.0}, {"drift_better": -0.4}, None):
        stop.on_log(None, state, control, logs)
        assert not control.should_training_stop
    stop.on_log(None, state, control, {"drift_better": -0.6})
    assert control.should_training_stop
