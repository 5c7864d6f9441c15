"""A model that always writes under a control, wherever a model can stand: in a chain, in an evaluation.

from condition import Choice, Controlled, evaluate, load, tasks

evaluate(Controlled(load(), Choice(["yes", "no"])), task)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

from condition.errors import ControlError, ModelError
from condition.models.arguments import check_control
from condition.models.local import LocalModel
from condition.models.remote import as_model
from condition.protocols import Control, Model, Prompt
from condition.types import Completion, Messages, Sampling


@final
class Controlled:
    """A model and the control that it always writes under. Raises ControlError for what is no control."""

    def __init__(self, model: Any, control: Control) -> None:
        if control is None:
            raise ControlError("Controlled needs a control; without one, use the model itself")
        check_control(control)
        self.model: Model = as_model(model)
        self.control = control

    @property
    def name(self) -> str:
        """The model's name and the control's kind."""
        return f"{self.model.name} within {type(self.control).__name__}"

    @property
    def prompt(self) -> Prompt | None:
        """The model's own prompt, where it has one."""
        return getattr(self.model, "prompt", None)

    def __repr__(self) -> str:
        return f"Controlled({self.model!r}, {self.control!r})"

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        """What the model says under the control, and under that of this call where there is one.

        Raises ControlError where the two can't be joined.
        """
        return self.model.generate(prompts, sampling, control=self._with(control))

    def stream(
        self, prompt: Any, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> Iterator[str | Completion]:
        """Pieces of one completion under the control, then the whole Completion.

        Raises ModelError for a model that does not stream.
        """
        if not isinstance(self.model, LocalModel):
            raise ModelError(f"{self.model.name} does not stream under a control: call generate, or load it here")
        return self.model.stream(prompt, sampling, control=self._with(control))

    def _with(self, other: Control | None) -> Control:
        if other is None or other == self.control:
            return self.control
        try:
            both: Control = self.control & other  # type: ignore[operator]  # ours have it, and say what they can't join
        except TypeError as error:
            raise ControlError(
                f"{type(self.control).__name__} of the model and {type(other).__name__} of the call can't be joined: "
                "call the model itself, or use controls of condition.control"
            ) from error
        return both
