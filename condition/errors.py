"""Every error that `condition` raises on purpose.

    ConditionError
    ├── PromptError      a template, a variable or a rendering is wrong
    ├── DataError        a row, a column or a file is wrong; names file and line
    ├── SettingsError    a setting is unknown, contradictory or impossible on this machine
    ├── ContractError    a saved model does not match its base, its template or its own numbers
    ├── ControlError     a limit on what may come next can't be satisfied
    ├── BudgetError      a budget of calls, tokens or seconds is spent
    └── ModelError       a model can't be found, loaded, trained or asked
        └── UnfinishedError  some prompts were not answered; carries those that were

`Interrupted` is a `KeyboardInterrupt` that carries what was finished before Ctrl-C.
Each message says what happened, where, and what to do next.
"""

from __future__ import annotations

from typing import Any


class ConditionError(Exception):
    """Base of every deliberate error of the library."""


class PromptError(ConditionError):
    """A template, a variable or a rendering is wrong."""


class DataError(ConditionError):
    """A row, a column or a file is wrong."""


class SettingsError(ConditionError):
    """A setting is unknown, contradictory or impossible here."""


class ContractError(ConditionError):
    """A saved model does not match what it says of itself."""


class ControlError(ConditionError):
    """A limit on what may come next can't be satisfied."""


class BudgetError(ConditionError):
    """A budget of calls, tokens or seconds is spent."""


class ModelError(ConditionError):
    """A model can't be found, loaded, trained or asked."""


class UnfinishedError(ModelError):
    """Some prompts were not answered. `finished` maps the index of each other prompt to its result, `failed` to why."""

    def __init__(
        self, message: str, finished: dict[int, Any] | None = None, failed: dict[int, Exception] | None = None
    ) -> None:
        super().__init__(message)
        self.finished = finished or {}
        self.failed = failed or {}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during long work. `finished` maps the index of each finished prompt, or what else `of` names, to its
    result."""

    def __init__(self, finished: dict[int, Any], total: int, of: str = "prompts") -> None:
        super().__init__(
            f"stopped after {len(finished)} of {total} {of}; the finished ones are in `.finished`, by index"
        )
        self.finished = finished
        self.total = total
        self.of = of

    def __reduce__(self) -> tuple[type[Interrupted], tuple[dict[int, Any], int, str]]:
        return Interrupted, (self.finished, self.total, self.of)


class SharingWarning(UserWarning):
    """Prefix sharing is off for a network, and why; results are the same, slower."""
