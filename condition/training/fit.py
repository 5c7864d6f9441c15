"""Fitting, which all trainers share: checks, one seeded run in a folder of its own, and the contract of what comes out.

A trainer is its settings and a Task: how its rows are prepared, and what is minimised over them.

    task = Task("MyTrainer", prepare, measure)
    tuned = fitted(task, LoRA(), Settings(), model, rows, "{question}", None)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, TrainerCallback

from condition.adapters.fused import fused
from condition.adapters.registry import KeptAdapter
from condition.adapters.reward_head import head_of
from condition.errors import ModelError, SettingsError
from condition.models.arguments import check_options
from condition.models.device import has_bf16
from condition.models.history import History
from condition.models.local import LocalModel
from condition.models.place import check_writable
from condition.models.render import TURNS
from condition.models.reward import RewardModel
from condition.models.seeded import seeded
from condition.prefix_sharing.head import cast_once
from condition.prefix_sharing.logprobs import output_head
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.training.adapting import (
    adapted,
    adapter_for,
    check_adapter,
    check_gradients,
    made_whole,
    steps_of,
    tokens_taken,
)
from condition.training.engine import Engine
from condition.training.objective import BeforeStep, Measure, Objective, Whole
from condition.training.output import claim, finished, keep_finished, kept_or_gone, locked, make_own
from condition.training.overlap import without_repeats
from condition.training.processes import is_first, one_folder, together, warn_alone
from condition.training.progress import say_finished
from condition.training.record import contract_behind, same_run
from condition.training.rounding import rounded
from condition.training.rows import Prepared
from condition.training.settings import Settings
from condition.training.sharded import check_launcher
from condition.training.trackers import own_run
from condition.training.watch import Watch, asking, check_watch


def _as_prepared(model: LocalModel, rows: Prepared, dtype: torch.dtype) -> Prepared:
    return rows


def _nothing(network: PreTrainedModel) -> None:
    return None


@dataclass(frozen=True)
class Task:
    """What one kind of training is."""

    trainer: str
    """The trainer's name."""
    prepare: Callable[[LocalModel, object, Prompt, Settings, str, int], Prepared]
    """Rows, rendered and checked. The last arguments are "training" or "validation", and how many tokens the adapter
    takes of the context before each row."""
    measure: Measure
    """What is minimised."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The trainer's own settings, as JSON has them."""
    complete: Callable[[LocalModel, Prepared, torch.dtype], Prepared] = _as_prepared
    """Rows with what takes the network to compute, asked for when all else is checked."""
    extend: Callable[[PreTrainedModel], None] = _nothing
    """Adds to the adapted network what is trained beside the adapter."""
    around: Callable[[PreTrainedModel], AbstractContextManager[object]] = nullcontext
    """Holds while it trains."""
    before_step: BeforeStep | None = None
    """Told the batches of a step before the first of them."""
    whole: Whole | None = None
    """Told the parts of all validation rows, where the loss is more than a mean over them."""
    callbacks: Sequence[TrainerCallback] = ()
    """Who looks on while it trains."""


class _Trained(NamedTuple):
    """What came out of the engine."""

    network: PreTrainedModel
    history: History
    seconds: float
    """Of the training loop, with the laying out of frozen weights."""


def check_arguments(adapter: object, settings: object, trainer: str) -> None:
    """Raises SettingsError where a trainer was given something else than an adapter and Settings."""
    if isinstance(adapter, Settings):
        raise SettingsError(f"the adapter's place holds Settings: give {trainer}(settings=cd.Settings(...))")
    check_adapter(adapter)
    check_options(settings, Settings, "settings", {"epochs": settings}, {"epochs": 1})


def fitted(
    task: Task,
    adapter: KeptAdapter,
    settings: Settings,
    model: LocalModel,
    data: object,
    prompt: Prompt | str,
    validation: object,
    watch: Watch | None = None,
) -> LocalModel:
    """A tuned model that carries the prompt, its history and its contract; the model given stays as it is.

    `watch` is asked at each validation, and what comes out is then the best by it (higher is better).

    A model that is tuned already is tuned on. Raises DataError, SettingsError or ModelError before any work is lost.
    """
    if not isinstance(model, LocalModel):
        name = repr(str(model)) if isinstance(model, str | Path) else "..."
        advice = f"load it first: cd.load({name})"
        if isinstance(model, RewardModel):
            advice = "it gives rewards and writes nothing; give the model that should write"
        raise ModelError(f"fit takes a loaded model, not {model!r:.80}: {advice}")
    if head_of(model.network) is not None and task.extend is _nothing:
        raise ModelError(
            f"{model.name!r} was tuned to give rewards and writes nothing: {task.trainer} takes its base, or another "
            "model that writes"
        )
    prompt = as_prompt(prompt)
    for name in ("patience", "eval_every"):
        if getattr(settings, name) and validation is None:
            raise SettingsError(f"{name} needs validation rows: fit(..., validation=rows)")
    if watch is not None and validation is None:
        raise SettingsError("watch is asked whenever validation rows are: fit(..., validation=rows, watch=watch)")
    if watch is not None:
        check_watch(watch)
        task = replace(task, options={**task.options, "watch": True})
    if settings.output is not None:
        check_writable(Path(settings.output))
    elif "tensorboard" in settings.report_to:
        raise SettingsError("report_to='tensorboard' needs an output folder to write to: Settings(output=...)")
    check_gradients(model, settings)
    adapter = adapter_for(model, adapter)
    warn_alone()
    between = "watch" if watch is not None else task.trainer if task.before_step is not None else None
    check_launcher(settings, adapter, quantized=model.quantization is not None, asks_between=between)
    taken = tokens_taken(model, adapter)
    rows = task.prepare(model, data, prompt, settings, "training", taken)
    held = None if validation is None else task.prepare(model, validation, prompt, settings, "validation", taken)
    rows = without_repeats(rows, held, settings)
    with TURNS, seeded(settings.seed):  # the random state is the process's
        began = time.perf_counter()
        trained = _train(task, adapter, settings, model, rows, held, partial(asking, watch, model, prompt))
    tuned = LocalModel(
        trained.network,
        model.tokenizer,
        source=model.source,
        quantization=model.quantization,
        prompt=prompt,
        history=trained.history,
        memory_bytes=model.memory_bytes,
    )
    seconds = {"seconds": time.perf_counter() - began, "loop_seconds": trained.seconds}
    dtype = training_dtype(settings, tuned.device)
    tuned.contract = contract_behind(task.trainer, task.options, adapter, settings, tuned, rows, dtype, seconds)
    return tuned


def _train(
    task: Task,
    adapter: KeptAdapter,
    settings: Settings,
    model: LocalModel,
    rows: Prepared,
    held: Prepared | None,
    watched: Callable[[PreTrainedModel], Callable[[], float] | None],
) -> _Trained:
    dtype = training_dtype(settings, model.device)
    shared = shareable(model.network)
    network = adapted(model, adapter)
    task.extend(network)
    if settings.checkpointing is True or (settings.checkpointing == "auto" and model.device.type == "cuda"):
        network.activation_checkpointing_enable({"use_reentrant": False})
    objective = Objective(
        network, task.measure, shared=shared, dtype=dtype, before_step=task.before_step, whole=task.whole
    )
    with one_folder(settings.output, model.device) as folder:
        output = Path(folder)
        run = {"trainer": task.trainer, **task.options, **same_run(adapter, settings, model, rows, held, dtype)}
        claim(output, run, settings.resume)
        rows, held = task.complete(model, rows, dtype), held and task.complete(model, held, dtype)
        callbacks = [*task.callbacks, *steps_of(adapter, network)]
        # Before anything in the folder is touched: settings that can't be used are refused here.
        engine = Engine(
            objective, settings, output, rows.rows, held.rows if held else None, callbacks, watched(network)
        )
        with locked(output):
            checkpoint = _own(output, run, settings.resume, model.device)
            done = finished(network, output)
            if done is None:
                began = time.perf_counter()
                alone = settings.quantization_aware is None  # fused products would go past the rounding
                with (
                    kept_or_gone(output),
                    fused(network, dtype) if alone else rounded(network, settings.quantization_aware),
                    cast_once(output_head(network), dtype),
                    task.around(network),
                    own_run(settings.report_to),
                ):
                    engine.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
                done = engine.state.log_history, time.perf_counter() - began
                if engine.is_fsdp_enabled or engine.is_deepspeed_enabled:
                    network = made_whole(network, model, adapter, task.extend)
                if is_first():
                    keep_finished(network, output, *done)
                together(model.device)
            elif is_first():
                say_finished(output, settings.report_to)
    network.activation_checkpointing_disable()
    for parameter in network.parameters():
        parameter.grad = None
    lines, seconds = done
    return _Trained(network, History(lines), seconds)


def _own(output: Path, run: Mapping[str, Any], resume: bool, device: torch.device) -> Path | None:
    """The checkpoint to go on from: the first process makes the folder this run's own, then the others look."""
    if not is_first():
        together(device)
    checkpoint = make_own(output, run, resume)
    if is_first():
        together(device)
    return checkpoint


def training_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """What products are computed in. Raises SettingsError for bf16 on a processor that only emulates it."""
    if settings.precision == "auto":
        return torch.bfloat16 if has_bf16(device) else torch.float32
    if settings.precision == "bf16" and not has_bf16(device):
        raise SettingsError(
            f"precision='bf16', but this {device.type} has no bf16 instructions "
            f"and would be many times slower: use 'auto' or 'fp32'"
        )
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32
