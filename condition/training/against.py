"""What a policy is held against while it learns preferences: a reference, and how far from it good answers may fall."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import torch
from transformers import TrainerCallback

from condition.errors import SettingsError
from condition.models.local import LocalModel
from condition.training.references import check_reference, reference_hash, with_references
from condition.training.rows import Prepared
from condition.training.watched import DriftStop


@final
@dataclass(frozen=True)
class Against:
    """The reference, which is the model given to `fit` where there is none, and the drift from it that ends a training.

    Raises SettingsError for a reference that is no loaded model and a limit that is no number above 0.
    """

    reference: LocalModel | None = None
    stop_drift: float | None = None

    def __post_init__(self) -> None:
        if self.stop_drift is not None:
            check_positive(stop_drift=self.stop_drift)
        if self.reference is not None and not isinstance(self.reference, LocalModel):
            raise SettingsError(f"reference={self.reference!r:.60} is no loaded model: load it first, or leave it out")

    def check(self, model: object) -> None:
        """Raises ContractError where the reference stands on another base than the model."""
        if self.reference is not None and isinstance(model, LocalModel):
            check_reference(model, self.reference)

    @property
    def options(self) -> dict[str, Any]:
        """What of it makes a run the same run."""
        own = None if self.reference is None else reference_hash(self.reference)
        return {"stop_drift": self.stop_drift, "reference": own}

    @property
    def callbacks(self) -> tuple[TrainerCallback, ...]:
        return () if self.stop_drift is None else (DriftStop(self.stop_drift),)

    def complete(self, model: LocalModel, rows: Prepared, dtype: torch.dtype) -> Prepared:
        """Rows of Candidates with the reference's log-probabilities."""
        found: Any = rows.rows
        return replace(rows, rows=with_references(found, self.reference or model, dtype))


def check_positive(**given: object) -> None:
    """Raises SettingsError for what is no number above 0."""
    for name, value in given.items():
        if not _is_number(value) or not 0 < value < float("inf"):  # type: ignore[operator]  # asked just before
            raise SettingsError(f"{name}={value!r:.60}: give a number above 0")


def check_not_negative(**given: object) -> None:
    """Raises SettingsError for what is no number of 0 or more."""
    for name, value in given.items():
        if not _is_number(value) or not 0 <= value < float("inf"):  # type: ignore[operator]  # asked just before
            raise SettingsError(f"{name}={value!r:.60}: give a number, 0 or more")


def check_switch(**given: object) -> None:
    """Raises SettingsError for what is neither True nor False."""
    for name, value in given.items():
        if not isinstance(value, bool):
            raise SettingsError(f"{name}={value!r:.60}: give True or False")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
