"""What is seen of a training while it runs, and what stops it: a bar, and gradients that are no numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from tqdm.auto import tqdm
from transformers import TrainerCallback

from condition.errors import ModelError, SettingsError
from condition.training.arguments import checkpoint_at
from condition.training.checkpoints import is_complete
from condition.training.output import any_complete
from condition.training.sharded import whole


@final
class Progress(TrainerCallback):
    """A progress bar with the running loss, and a stop before gradients that are no numbers reach the weights."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown: dict[str, str] = {}
        self.trained: list[tuple[str, nn.Parameter]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.load_best_model_at_end and state.best_global_step:
            best = checkpoint_at(args, state.best_global_step)  # the folder may have been moved
            if not is_complete(best):
                raise SettingsError(
                    f"{best}, the best so far, is gone or broken: start over with Settings(resume=False), once"
                )
            state.best_model_checkpoint = str(best)
        # Resumed from where patience had ended it: not one step more.
        control.should_training_stop = bool(
            state.stateful_callbacks.get("TrainerControl", {}).get("args", {}).get("should_training_stop")
        )
        if state.is_world_process_zero:
            if state.global_step:
                tqdm.write(f"going on behind step {state.global_step} of {state.max_steps}", file=sys.stderr)
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step", delay=1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        if state.global_step == state.max_steps:
            control.should_log = True  # the curve ends where the training ends

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.shown |= {name: f"{float(logs[name]):.3f}" for name in ("loss", "eval_loss") if logs and name in logs}
        if self.bar is not None and self.shown:
            self.bar.set_postfix(self.shown)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        # One number for all; to walk through the modules of a network at each step takes longer than to add.
        self.trained = self.trained or [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        gradients = {name: parameter.grad for name, parameter in self.trained if parameter.grad is not None}
        if bool(torch.isfinite(whole(get_total_norm(gradients.values())))):
            return
        name = next(
            (name for name, grad in gradients.items() if not bool(torch.isfinite(whole(grad)).all())), "the network"
        )
        raise ModelError(
            f"step {state.global_step + 1}: the gradient of {name} is not finite. "
            f"Lower Settings.learning_rate; checkpoints written before are intact"
        )

    def stopped(self, state: Any, output: str | Path | None) -> None:
        """Close the bar and say what was kept."""
        if self.bar is None:
            return
        self.bar.close()
        if output is None:
            kept = "nothing was kept: with Settings(output=folder, save_every=steps) the same call goes on"
        elif not any_complete(Path(output)):
            kept = f"no checkpoint was in {output} yet: the same call starts over; save_every=steps writes them sooner"
        else:
            kept = f"the same call goes on from the last checkpoint in {output}"
        tqdm.write(f"stopped behind step {state.global_step} of {state.max_steps}; {kept}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def say_finished(output: Path, report_to: Sequence[str]) -> None:
    """Say of a run that came to its end before that nothing is done."""
    unheard = f", and nothing reported to {', '.join(report_to)}" if report_to else ""
    tqdm.write(f"finished before: its result is taken from {output}, nothing is trained{unheard}", file=sys.stderr)
