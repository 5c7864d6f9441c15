"""What is written down of a training: what makes a run the same run, and the contract of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from condition.adapters.attach import trainable
from condition.adapters.registry import KeptAdapter, told_of
from condition.models.contract import Contract, memory_fingerprint
from condition.models.local import LocalModel
from condition.models.save import contract_of
from condition.training.adapting import tuned_on
from condition.training.rows import Prepared
from condition.training.runs import SAYS
from condition.training.settings import Settings


def same_run(
    adapter: KeptAdapter,
    settings: Settings,
    model: LocalModel,
    rows: Prepared,
    held: Prepared | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """What makes a run the same run, beside its trainer."""
    beside = {"output", "resume", "report_to", "log_every", "keep", "at_once"}
    return {
        "base": model.source.fingerprint or model.source.name,
        "weights_dtype": str(model.network.dtype),
        "weights": memory_fingerprint(model.network),  # may have been changed since they were read
        "quantization": model.quantization.model_dump() if model.quantization else None,
        "adapter": told_of(adapter),
        "tuned_on": tuned_on(model),
        "data": rows.digest,
        f"data{SAYS}": rows.says,
        "validation": None if held is None else held.digest,
        f"validation{SAYS}": None if held is None else held.says,
        "dtype": str(dtype),
        **settings.model_dump(mode="json", exclude=beside),
    }


def contract_behind(
    trainer: str,
    options: Mapping[str, Any],
    adapter: KeptAdapter,
    settings: Settings,
    tuned: LocalModel,
    rows: Prepared,
    dtype: torch.dtype,
    seconds: Mapping[str, float],
) -> Contract:
    """The contract of what came out of a training."""
    _, losses = tuned.history.series("loss")
    best = min(((line["eval_loss"], line["step"]) for line in tuned.history if "eval_loss" in line), default=None)
    most = max((line["eval_watch"] for line in tuned.history if "eval_watch" in line), default=None)
    used = str(dtype).removeprefix("torch.")
    return contract_of(
        tuned,
        adapter=told_of(adapter),
        trainer=trainer,
        settings={**options, **settings.model_dump(mode="json"), "precision_used": used},
        data=rows.digest,
        rows=len(rows.rows),
        metrics={
            **seconds,
            "trained_parameters": float(sum(p.numel() for p in trainable(tuned.network).values())),
            "rows_dropped": float(rows.dropped),
            "rows_trimmed": float(rows.trimmed),
            **({"final_loss": losses[-1]} if losses else {}),
            **({"best_eval_loss": best[0], "best_step": float(best[1])} if best else {}),
            **({} if most is None else {"best_watch": most}),
        },
    )
