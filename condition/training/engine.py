"""The one engine: `transformers.Trainer`, subclassed once, on accelerate.

What is ours: batches that are never padded, checkpoints of only what is trained, one of them at each best validation,
batches of rows that begin alike, a schedule whose first step counts, and errors instead of numbers that are none.
Everything else (trackers, resume, several processes) is theirs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from condition.errors import ModelError, SettingsError
from condition.training.checkpoints import any_complete, is_complete, load_trainable, save_trainable, writing
from condition.training.objective import Objective
from condition.training.packing import AlikeSampler
from condition.training.rows import Trained, collate
from condition.training.schedule import share_of_rate
from condition.training.settings import Settings


class Engine(Trainer):
    """Trains an Objective."""

    model: Objective

    def __init__(
        self,
        objective: Objective,
        settings: Settings,
        output: Path,
        rows: Sequence[Trained],
        validation: Sequence[Trained] | None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.settings = settings
        self._watch = _Watch()
        try:
            arguments = _arguments(settings, output, len(rows), validation is not None, objective.network.device)
            super().__init__(
                model=objective,
                args=arguments,
                train_dataset=rows,
                eval_dataset=validation,
                data_collator=collate,
                callbacks=[
                    self._watch,
                    *callbacks,
                    *([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
                ],
            )
        except (ImportError, RuntimeError, ValueError) as error:
            raise SettingsError(f"these settings can't be used here: {error}") from error
        for noisy in (ProgressCallback, PrinterCallback):
            self.remove_callback(noisy)

    def train(self, *given: Any, **options: Any) -> Any:
        """As transformers', and says what is left where it is stopped by Ctrl-C."""
        try:
            return super().train(*given, **options)
        except KeyboardInterrupt:
            self._watch.stopped(self.state, self.settings.output)
            raise

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """Our schedule on the optimizer."""
        if self.lr_scheduler is None:
            warmup = math.ceil(num_training_steps * self.settings.warmup)
            share = partial(share_of_rate, steps=num_training_steps, warmup=warmup, schedule=self.settings.schedule)
            self.lr_scheduler = LambdaLR(cast(Optimizer, optimizer or self.optimizer), share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _run_epoch(self, *given: Any, **options: Any) -> None:
        if not self.control.should_training_stop:
            super()._run_epoch(*given, **options)  # type: ignore[no-untyped-call]  # transformers types it in part

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        if self.settings.packing:
            return AlikeSampler(rows, self.settings.batch_size, self.settings.seed)
        return super()._get_train_sampler(train_dataset)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As transformers', with what is watched beside the loss."""
        super().log({**logs, **self._watched(training=True)} if "loss" in logs else logs, start_time)

    def _watched(self, *, training: bool) -> dict[str, float]:
        """Means over all processes since they were last asked for."""
        found = {} if self.model is None else self.model.watched.take(training=training)
        if not found:
            return {}
        totals = torch.tensor(list(found.values()), dtype=torch.float64, device=self.args.device)
        totals = self.accelerator.reduce(totals)
        return {name: float(total / count) for name, (total, count) in zip(found, totals.tolist(), strict=True)}

    def evaluation_loop(self, *given: Any, **options: Any) -> Any:
        """The mean loss over all labels; transformers would weigh the last batch by its rows."""
        self._held = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(*given, **options)
        total, tokens = self.accelerator.reduce(self._held.to(self.args.device)).tolist()
        watched = {f"eval_{name}": mean for name, mean in self._watched(training=False).items()}
        return output._replace(metrics={**(output.metrics or {}), "eval_loss": total / tokens, **watched})

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """The mean loss of a batch, added up over its labels."""
        with torch.no_grad():
            loss = model(**self._prepare_inputs(inputs))["loss"].detach()
        tokens = inputs["labels"].numel()
        self._held += torch.tensor([float(loss) * tokens, tokens], dtype=torch.float64)
        return loss, None, None

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # What is returned in the end is a checkpoint, so each best one is written, whichever steps are saved.
        is_best = super()._determine_best_metric(metrics, trial)
        self.control.should_save = self.control.should_save or is_best
        return is_best

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with writing(_checkpoint(self.args, self.state.global_step)):
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_trainable(self.model.network, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trainable(self.model.network, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            load_trainable(self.model.network, Path(self.state.best_model_checkpoint))


class _Watch(TrainerCallback):
    """A progress bar with the running loss, and a stop before gradients that are no numbers reach the weights."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown: dict[str, str] = {}
        self.trained: list[tuple[str, nn.Parameter]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.load_best_model_at_end and state.best_global_step:
            best = _checkpoint(args, state.best_global_step)  # the folder may have been moved
            if not is_complete(best):
                raise SettingsError(
                    f"{best}, the best so far, is gone or broken: start over with Settings(resume=False)"
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
        if bool(torch.isfinite(get_total_norm(gradients.values()))):
            return
        name = next((name for name, grad in gradients.items() if not bool(torch.isfinite(grad).all())), "the network")
        raise ModelError(
            f"step {state.global_step + 1}: the gradient of {name} is not finite. "
            f"Lower Settings.learning_rate; checkpoints written before are intact"
        )

    def stopped(self, state: Any, output: str | None) -> None:
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


def _checkpoint(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{step}"


def _arguments(s: Settings, output: Path, rows: int, validates: bool, device: torch.device) -> TrainingArguments:
    each_step = s.eval_every or s.save_every
    keeps = validates or s.output is not None
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=s.epochs,
        max_steps=s.max_steps or -1,
        per_device_train_batch_size=s.batch_size,
        per_device_eval_batch_size=s.batch_size,
        gradient_accumulation_steps=s.accumulation,
        learning_rate=s.learning_rate,
        lr_scheduler_type=s.schedule if s.schedule != "constant" else "constant_with_warmup",
        warmup_steps=s.warmup,
        weight_decay=s.weight_decay,
        max_grad_norm=s.clip,
        seed=s.seed,
        use_cpu=device.type == "cpu",
        logging_steps=s.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=("steps" if each_step else "epoch") if validates else "no",
        eval_steps=each_step,
        save_strategy=("steps" if each_step else "epoch") if keeps else "no",
        save_steps=s.save_every or s.eval_every or 500,
        save_total_limit=s.keep,
        metric_for_best_model="eval_loss" if validates else None,
        greater_is_better=False if validates else None,
        report_to=list(s.report_to) or "none",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=device.type == "cuda",
        restore_callback_states_from_checkpoint=bool(s.patience),
        disable_tqdm=True,
    )
    # Behind its check that steps saved are steps validated: the engine saves each best one besides.
    arguments.load_best_model_at_end = validates
    return arguments
