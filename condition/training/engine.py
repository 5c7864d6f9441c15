"""The one engine: `transformers.Trainer`, subclassed once, on accelerate.

What is ours: batches that are never padded, checkpoints of only what is trained, one of them at each best validation,
batches of rows that begin alike or are of like length, batches in pieces where memory is short, noise, a schedule whose
first step counts, a checkpoint at Ctrl-C, and errors instead of numbers that are none.
Everything else (trackers, resume, several processes) is theirs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
)

from condition.adapters.attach import trainable
from condition.errors import SettingsError
from condition.training.arguments import arguments_for, checkpoint_at
from condition.training.checkpoints import load_trainable, save_trainable, size, writing
from condition.training.exploding import Exploding
from condition.training.noise import Noise, noisy
from condition.training.objective import Objective
from condition.training.order import LengthSampler
from condition.training.packing import AlikeSampler
from condition.training.pieces import Pieces, release
from condition.training.plan import planned
from condition.training.progress import Progress
from condition.training.rows import Trained, collate
from condition.training.schedule import share_of_rate
from condition.training.settings import Settings
from condition.training.sharded import laid_out, launched_with, load_optimizer, reshard, save_optimizer
from condition.training.stopping import StopWithCheckpoint
from condition.training.tally import Tally, keep, mean_loss, take_up
from condition.training.validation import Validation
from condition.training.watch import Asked
from condition.training.watched import means

log = logging.getLogger("condition")


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
        watch: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self._watch = None if watch is None else Asked(watch, settings.seed)
        self._progress = Progress()
        self._stop = StopWithCheckpoint()
        self._noise: Noise | None = None
        self._ahead: list[dict[str, Any]] = []  # batches of the optimizer step that is computed
        self._step: list[dict[str, Any]] = []  # those of them that were begun
        try:
            best = None if validation is None else "eval_loss" if watch is None else "eval_watch"
            arguments = arguments_for(settings, output, len(rows), best, objective.network.device)
            super().__init__(
                model=objective,
                args=arguments,
                train_dataset=rows,
                eval_dataset=validation,
                data_collator=collate,
                callbacks=[
                    self._progress,
                    *callbacks,
                    self._stop,
                    Exploding(),
                    Tally(),
                    *([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
                ],
            )
        except (ImportError, RuntimeError, ValueError) as error:
            raise SettingsError(f"these settings can't be used here: {error}") from error
        if launched_with("FSDP") and not self.is_fsdp_enabled:
            raise SettingsError("FSDP2 shares out weights among GPUs, and this model is on the CPU: load it on a GPU")
        for loud in (ProgressCallback, PrinterCallback):
            self.remove_callback(loud)
        most = None if settings.at_once == "auto" else settings.at_once
        self._pieces = Pieces(most, may_shrink=self.args.world_size == 1)  # others would wait for ever

    def train(self, *given: Any, **options: Any) -> Any:
        """As transformers', and says what is left where it is stopped by Ctrl-C."""
        if self.settings.at_once == "auto":
            self._plan()
        network = self.model.network
        hearing = nullcontext() if self.settings.output is None else self._stop.listening()
        try:
            if self._watch is not None and options.get("resume_from_checkpoint") is None:
                self.model.eval()
                self._watch.ahead()
            with noisy(network, self.settings.neftune) as self._noise, hearing:
                return super().train(*given, **options)
        except KeyboardInterrupt:
            self._progress.stopped(self.state, self.settings.output)
            raise

    def _plan(self) -> None:
        """A dry run, which leaves nothing behind."""
        rows: Any = self.train_dataset
        beside = 8 * sum(p.numel() for p in trainable(self.model).values())  # the two moments of AdamW
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            plan = planned(rows, self._dry_step, self.args.device, self.settings.batch_size, beside)
        for told in (self.model.watched, self.model.surprise):
            told.take(training=True)
        self._pieces.most = plan.at_once
        log.info("memory plan: %s", plan)

    def _dry_step(self, rows: Sequence[Trained]) -> None:
        self.model.train()
        inputs = collate(rows)
        self.model.before_step([inputs["batch"]])
        self.model(**self._prepare_inputs(inputs))["loss"].backward()
        self.model.zero_grad(set_to_none=True)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The loss of a batch, in pieces where it does not fit into memory at once."""
        self._step.append(inputs)

        def work(batch: dict[str, Any]) -> Any:
            pieces = self._pieces.of(batch)
            step = super(Engine, self).training_step
            return sum(step(model, self._told(piece), num_items_in_batch) for piece in pieces)

        return self._pieces.run(self._step, work, self._forget)

    def _forget(self) -> None:
        """The step begins anew, in smaller pieces."""
        self.model.zero_grad(set_to_none=True)
        release()
        self._tell_ahead()

    def _tell_ahead(self) -> None:
        """Tell the objective of all pieces of a step."""
        self.model.before_step([piece["batch"] for batch in self._ahead for piece in self._pieces.of(batch)])

    def _told(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs, of which the noise has heard."""
        if self._noise is not None:
            rows = inputs["batch"].rows
            self._noise.tokens = sum(len(row.ids) for row in rows) / len(rows)
        return inputs

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            laid_out(self.model)
        # transformers would have DeepSpeed read all weights, those of the base too.
        ours = self.is_deepspeed_enabled and resume_from_checkpoint is not None
        prepared = super()._prepare_for_training(  # type: ignore[no-untyped-call]  # transformers types it in part
            max_steps, train_dataloader, None if ours else resume_from_checkpoint
        )
        if ours:
            self._load_from_checkpoint(resume_from_checkpoint)
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """Our schedule on the optimizer."""
        if self.lr_scheduler is None:
            warmup = math.ceil(num_training_steps * self.settings.warmup)
            share = partial(
                share_of_rate,
                steps=num_training_steps,
                warmup=warmup,
                schedule=self.settings.schedule,
                lowest=self.settings.lowest,
            )
            self.lr_scheduler = LambdaLR(cast(Optimizer, optimizer or self.optimizer), share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _run_epoch(self, *given: Any, **options: Any) -> None:
        take_up(self)
        if not self.control.should_training_stop:
            super()._run_epoch(*given, **options)  # type: ignore[no-untyped-call]  # transformers types it in part

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        if self.settings.packing:
            return AlikeSampler(rows, self.settings.batch_size, self.settings.seed)
        if self.settings.order != "shuffled":
            return LengthSampler(rows, self.settings.batch_size, self.settings.seed, self.settings.order)
        return super()._get_train_sampler(train_dataset)

    def get_batch_samples(self, *given: Any, **options: Any) -> Any:
        """As transformers', and tells the objective of all batches of a step."""
        samples, items = super().get_batch_samples(*given, **options)
        self._ahead, self._step = samples, []
        self._tell_ahead()
        return samples, items

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Labels of all batches of a step, on all processes, each as often as its row's weight says."""
        items = torch.tensor(sum(sample["batch"].items for sample in batch_samples), device=device)
        return self.accelerator.gather(items).sum() if self.args.world_size > 1 else items

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As transformers', with what is watched beside the loss."""
        beside: dict[str, float] = {}
        if "loss" in logs:
            beside = means(self.model.watched.take(training=True), self.args.device)
        elif "train_loss" in logs:
            beside = mean_loss(self)
        super().log({**logs, **beside}, start_time)

    def evaluation_loop(self, *given: Any, **options: Any) -> Any:
        """The mean loss over all labels, and what else is known of validation rows."""
        self._validation = Validation(self.model, self._pieces, self._prepare_inputs)
        output = super().evaluation_loop(*given, **options)
        if self.is_fsdp_enabled:
            rows: Any = self.eval_dataset
            most = math.ceil(math.ceil(len(rows) / self.args.eval_batch_size) / self.args.world_size)
            self._validation.go_along(collate(rows[:1]), most)
        found = self._validation.found(self.args.device)
        if self._watch is not None:
            found["watch"] = self._watch.at(self.state.global_step)
        return output._replace(
            metrics={**(output.metrics or {}), **{f"eval_{name}": mean for name, mean in found.items()}}
        )

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """Nothing is left for transformers to add up."""
        self._validation.add(model, inputs)
        return None, None, None

    def get_eval_dataloader(self, *given: Any, **options: Any) -> Any:
        """As transformers', and no row is counted twice to give each process as many."""
        config = self.accelerator.dataloader_config
        before, config.even_batches = config.even_batches, False
        try:
            return super().get_eval_dataloader(*given, **options)
        finally:
            config.even_batches = before

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # What is returned in the end is a checkpoint, so each best one is written, whichever steps are saved.
        is_best = super()._determine_best_metric(metrics, trial)
        self.control.should_save = self.control.should_save or is_best
        return is_best

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        keep(self)
        needed = size(self.model.network) * (3 if self.settings.optimizer == "adamw" else 1)  # and its two moments
        with writing(checkpoint_at(self.args, self.state.global_step), needed):
            super()._save_checkpoint(model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """What is trained; transformers would gather the frozen weights too where they are shared out."""
        reshard(self.model)
        save_trainable(self.model.network, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        reshard(self.model)
        load_trainable(self.model.network, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            held = self.deepspeed or self.optimizer
            save_optimizer(held, self.lr_scheduler, Path(output_dir), writes=self.args.should_save)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if (self.is_fsdp_enabled or self.is_deepspeed_enabled) and checkpoint is not None:
            load_optimizer(self.deepspeed or self.optimizer, self.lr_scheduler, Path(checkpoint))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
