"""What a training has added up since its last log line, in each checkpoint: a resumed run logs the same means.

transformers begins both anew, the mean since the last line and `train_loss`, the mean of the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from condition.training.processes import is_first, number_of_processes, summed
from condition.training.watched import totals


@final
class Tally(TrainerCallback, ExportableState):
    """Carries it into checkpoints and out of them. Nothing is known of older ones, whose steps are not counted."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        self.kept = kept
        self.resumed: Mapping[str, Any] | None = None
        self.since = 0

    def state(self) -> dict[str, Any]:
        """As transformers writes it into checkpoints."""
        return {"args": {"kept": self.kept}, "attributes": {}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        told = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.resumed = told["args"]["kept"] if state.global_step else None
        self.since = 0 if self.resumed else state.global_step


def keep(engine: Any) -> None:
    """Before a checkpoint is written; every process has to ask."""
    loss = summed(engine._tr_loss.detach().reshape(1).clone()) / number_of_processes()
    _of(engine).kept = {
        "loss": float(loss),
        "total": engine._total_loss_scalar,
        "logged": engine._globalstep_last_logged,
        "watched": totals(engine.model.watched.so_far(), engine.args.device),
    }


def take_up(engine: Any) -> None:
    """Behind the beginning of a run: what a checkpoint has kept goes on, once."""
    tally = _of(engine)
    kept, tally.resumed = tally.resumed, None
    if kept is None:
        return
    engine._tr_loss += kept["loss"]
    engine._total_loss_scalar += kept["total"]
    engine._globalstep_last_logged = kept["logged"]
    if is_first():  # which holds the sums of all
        engine.model.watched.go_on(kept["watched"])


def mean_loss(engine: Any) -> dict[str, float]:
    """`train_loss`, the mean over all steps of a run, whichever call has made them."""
    take_up(engine)
    return {"train_loss": engine._total_loss_scalar / max(1, engine.state.global_step - _of(engine).since)}


def _of(engine: Any) -> Tally:
    return next(found for found in engine.callback_handler.callbacks if isinstance(found, Tally))
