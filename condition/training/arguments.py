"""Our settings as transformers' arguments."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import is_mlflow_available

from condition.errors import SettingsError
from condition.training.settings import Settings

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
"""Our names, and those of transformers."""


def arguments_for(s: Settings, output: Path, rows: int, best: str | None, device: torch.device) -> TrainingArguments:
    """How `rows` rows are trained on; `best` is what a validation is judged by, none where there is none.

    Raises SettingsError for an optimizer that this device does not have.
    """
    validates = best is not None
    each_step = s.eval_every or s.save_every
    keeps = validates or s.output is not None
    if device.type != "cuda" and ("8bit" in s.optimizer or "paged" in s.optimizer):
        raise SettingsError(f"optimizer={s.optimizer!r} needs a GPU, the model is on the {device.type}: use 'adamw'")
    if "mlflow" in s.report_to and not is_mlflow_available():  # its callback, half made, would complain once more
        raise SettingsError("report_to='mlflow' needs mlflow, which is not installed: pip install mlflow")
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=s.epochs,
        max_steps=s.max_steps or -1,
        per_device_train_batch_size=s.batch_size,
        per_device_eval_batch_size=s.batch_size,
        gradient_accumulation_steps=s.accumulation,
        learning_rate=s.learning_rate,
        lr_scheduler_type=s.schedule if s.schedule in ("cosine", "linear") else "constant_with_warmup",
        optim=OPTIMIZERS[s.optimizer],
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
        metric_for_best_model=best,
        greater_is_better=best != "eval_loss" if validates else None,
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


def checkpoint_at(args: TrainingArguments, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return Path(str(args.output_dir)) / f"checkpoint-{step}"
