"""Supervised fine-tuning: teach a model to say the target behind the prompt, and nothing else.

The loss is the negative log-likelihood of the target and its stop token; the prompt is never trained on.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from transformers import PreTrainedModel

from condition.adapters.attach import private_copy, trainable
from condition.adapters.fused import fused
from condition.adapters.lora import LoRA, lora_of
from condition.errors import ModelError, SettingsError
from condition.models.arguments import check_options
from condition.models.contract import Contract, memory_fingerprint
from condition.models.device import has_bf16
from condition.models.history import History
from condition.models.local import LocalModel
from condition.models.place import check_writable
from condition.models.render import TURNS
from condition.models.save import contract_of
from condition.models.seeded import seeded
from condition.prefix_sharing.head import cast_once
from condition.prefix_sharing.logprobs import output_head
from condition.prefix_sharing.probe import shareable, trust
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.training.checkpoints import claim, digest, finished, keep_finished, locked, make_own
from condition.training.engine import Engine
from condition.training.losses import sft_loss
from condition.training.objective import Objective
from condition.training.rows import Prepared, prepare
from condition.training.settings import Settings


class _Trained(NamedTuple):
    """What came out of the engine."""

    network: PreTrainedModel
    history: History
    seconds: float
    """Of the training loop, with the laying out of frozen weights."""


@final
class SFTTrainer:
    """Fits a model to examples. The model given stays as it is; the result shares its frozen weights."""

    def __init__(self, adapter: LoRA = LoRA(), settings: Settings = Settings()) -> None:
        if isinstance(adapter, Settings):
            raise SettingsError("the adapter's place holds Settings: give SFTTrainer(settings=cd.Settings(...))")
        check_options(adapter, LoRA, "adapter", {"rank": adapter}, {"rank": 16})
        check_options(settings, Settings, "settings", {"epochs": settings}, {"epochs": 1})
        self.adapter = adapter
        self.settings = settings

    def fit(self, model: LocalModel, data: object, *, prompt: Prompt | str, validation: object = None) -> LocalModel:
        """A tuned model that carries the prompt, its history and its contract.

        `data` and `validation` are Examples, rows, a `datasets.Dataset` or a path. A model that is tuned already is
        tuned on. Raises DataError, SettingsError or ModelError before any work is lost.
        """
        if not isinstance(model, LocalModel):
            name = repr(str(model)) if isinstance(model, str | Path) else "..."
            raise ModelError(f"fit takes a loaded model, not {model!r:.80}: load it first: cd.load({name})")
        prompt = as_prompt(prompt)
        settings = self.settings
        if settings.patience and validation is None:
            raise SettingsError("patience needs validation rows: fit(..., validation=rows)")
        if settings.output is not None:
            check_writable(Path(settings.output))
        elif "tensorboard" in settings.report_to:
            raise SettingsError("report_to='tensorboard' needs an output folder to write to: Settings(output=...)")
        adapter = self._adapter(model)
        rows = prepare(model, data, prompt, settings)
        held = None if validation is None else prepare(model, validation, prompt, settings, "validation")
        with TURNS, seeded(settings.seed):  # the random state is the process's
            began = time.perf_counter()
            trained = self._train(model, rows, held)
        tuned = LocalModel(
            trained.network,
            model.tokenizer,
            source=model.source,
            quantization=model.quantization,
            prompt=prompt,
            history=trained.history,
        )
        seconds = {"seconds": time.perf_counter() - began, "loop_seconds": trained.seconds}
        tuned.contract = self._contract(tuned, adapter, rows, seconds)
        return tuned

    def _adapter(self, model: LocalModel) -> LoRA:
        """What will be trained: the model's own adapter where it is tuned already."""
        own = lora_of(model.network)
        if own is None:
            return self.adapter
        names = [n for n in LoRA.model_fields if n != "targets" or self.adapter.targets != "all-linear"]
        pairs = {n: (getattr(own, n), getattr(self.adapter, n)) for n in names}
        different = [f"{n} ({was!r}, asked for {now!r})" for n, (was, now) in pairs.items() if was != now]
        if different and self.adapter != LoRA():
            raise SettingsError(
                f"this model is tuned already and keeps its adapter, which differs in {', '.join(different)}: "
                f"leave `adapter` out to tune it on, or fit the base"
            )
        return own

    def _train(self, model: LocalModel, rows: Prepared, held: Prepared | None) -> _Trained:
        dtype = training_dtype(self.settings, model.device)
        shared = shareable(model.network)
        is_tuned = lora_of(model.network) is not None
        network = private_copy(model.network) if is_tuned else self.adapter.attach(model.network)
        trust(network, model.network)
        if self.settings.checkpointing is True or (
            self.settings.checkpointing == "auto" and model.device.type == "cuda"
        ):
            network.activation_checkpointing_enable({"use_reentrant": False})
        objective = Objective(network, sft_loss, shared=shared, dtype=dtype)
        with (
            tempfile.TemporaryDirectory()
            if self.settings.output is None
            else nullcontext(self.settings.output) as folder
        ):
            output, run = Path(folder), self._run(model, rows, held, dtype)
            claim(output, run, self.settings.resume)
            # Before anything in the folder is touched: settings that can't be used are refused here.
            engine = Engine(objective, self.settings, output, rows.rows, None if held is None else held.rows)
            with locked(output):
                checkpoint = make_own(output, run, self.settings.resume)
                done = finished(network, output)
                if done is None:
                    began = time.perf_counter()
                    with fused(network, dtype), cast_once(output_head(network), dtype):
                        engine.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
                    done = engine.state.log_history, time.perf_counter() - began
                    keep_finished(network, output, *done)
        network.activation_checkpointing_disable()
        for parameter in network.parameters():
            parameter.grad = None
        lines, seconds = done
        return _Trained(network, History(lines), seconds)

    def _run(self, model: LocalModel, rows: Prepared, held: Prepared | None, dtype: torch.dtype) -> dict[str, Any]:
        """What makes a run the same run."""
        beside = {"output", "resume", "report_to", "log_every", "keep"}
        return {
            "trainer": type(self).__name__,
            "base": model.source.fingerprint or model.source.name,
            "weights_dtype": str(model.network.dtype),
            "weights": memory_fingerprint(model.network),  # may have been changed since they were read
            "quantization": model.quantization.model_dump() if model.quantization else None,
            "adapter": self._adapter(model).model_dump(mode="json"),
            "tuned_on": digest(model.network) if lora_of(model.network) else None,
            "data": rows.digest,
            "validation": None if held is None else held.digest,
            "dtype": str(dtype),
            **self.settings.model_dump(mode="json", exclude=beside),
        }

    def _contract(self, tuned: LocalModel, adapter: LoRA, rows: Prepared, seconds: dict[str, float]) -> Contract:
        _, losses = tuned.history.series("loss")
        best = min(((line["eval_loss"], line["step"]) for line in tuned.history if "eval_loss" in line), default=None)
        used = str(training_dtype(self.settings, tuned.device)).removeprefix("torch.")
        return contract_of(
            tuned,
            adapter=adapter.model_dump(mode="json"),
            trainer=type(self).__name__,
            settings={**self.settings.model_dump(mode="json"), "precision_used": used},
            data=rows.digest,
            rows=len(rows.rows),
            metrics={
                **seconds,
                "trained_parameters": float(sum(p.numel() for p in trainable(tuned.network).values())),
                "rows_dropped": float(rows.dropped),
                "rows_trimmed": float(rows.trimmed),
                **({"final_loss": losses[-1]} if losses else {}),
                **({"best_eval_loss": best[0], "best_step": float(best[1])} if best else {}),
            },
        )


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
