"""How to train. Every trainer takes the same Settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from condition.types import Options


def _as_names(value: object) -> object:
    if not isinstance(value, Iterable):
        raise ValueError("give names, such as 'wandb' or ['wandb', 'tensorboard'], or leave it out")
    return (value,) if isinstance(value, str) else tuple(value)


def _as_rows_at_once(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_number and value is not None and value != "auto":
        raise ValueError("at_once is a number of rows, 1 or more, or 'auto'")
    return value


def _as_text(value: object) -> object:
    text = fspath(value) if isinstance(value, PathLike) else value
    if text is not None and (not isinstance(text, str) or not text):
        raise ValueError("give a folder, or leave it out")
    return text


class Settings(Options):
    """Training settings; unknown names and impossible values are a SettingsError."""

    epochs: float = Field(default=1, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; overrides `epochs`."""
    batch_size: int = Field(default=8, ge=1)
    """Rows that go through the network at once, on each device."""
    accumulation: int = Field(default=1, ge=1)
    """Batches in an optimizer step. The loss is the mean over all their tokens, as if they were one batch."""
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant", "inverse-sqrt", "stable-decay"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises, rounded up. The first of them has a rate already."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the processor multiplies bf16 itself, fp32 elsewhere. Trained numbers are always fp32."""
    checkpointing: Literal["auto", True, False] = "auto"
    """Compute activations again instead of keeping them: less memory, a third slower. `auto` is off on the CPU."""
    packing: bool = False
    """Rows lie end to end without padding in any case. True also puts rows whose prompts begin alike into one batch,
    where the common beginning is computed once."""
    max_length: int | None = Field(default=None, ge=2)
    """Most tokens in a row; the model's context where it is not given."""
    too_long: Literal["raise", "drop", "trim"] = "raise"
    """What to do with longer rows: an error, leave them out, or cut the beginning of the longest message. Counted."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    output: Annotated[str | Path | None, BeforeValidator(_as_text)] = None
    """Folder for checkpoints. Without one nothing outlives the call."""
    resume: bool = True
    """Go on from the last complete checkpoint of the same run in `output`; False starts over, at each call, and
    deletes those."""
    report_to: Annotated[Sequence[str], BeforeValidator(_as_names)] = ()
    """Trackers by name: wandb, tensorboard, trackio, mlflow …"""
    log_every: int = Field(default=10, ge=1)
    """Steps."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between validations; with each checkpoint, or each epoch, where it is not given. Needs validation rows."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; with each validation, or each epoch, where it is not given. With validation each best
    one so far is a checkpoint besides."""
    keep: int = Field(default=5, ge=1)
    """Checkpoints kept, the best among them."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a lower loss. With validation the best weights are what you get."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    lowest: float = Field(default=0.0, ge=0, le=1)
    """Share of the learning rate that the schedule ends at."""
    order: Literal["shuffled", "by-length", "short-first"] = "shuffled"
    """Rows at random; batches of rows of like length; or, in the first epoch, from short to long."""
    neftune: float | None = Field(default=None, gt=0)
    """Strength of the noise on the embeddings of training rows, often 5 to 15. Jain et al. 2023, arXiv 2310.05914."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor", "sgd"] = "adamw"
    """Those of 8 bits, and paged ones, are bitsandbytes' and need a GPU."""
    quantization_aware: Literal[8, 4, 3, 2] | None = None
    """Compute with the base's linear layers rounded to so many bits, so that what is learned fits a base that is loaded
    with `Quantization(bits=…, kind="intx")`. Needs torchao."""
    at_once: Annotated[int | Literal["auto"] | None, BeforeValidator(_as_rows_at_once)] = None
    """Rows of a batch that go through the network at once; the optimizer sees the same batch. All of them where it is
    not given; `auto` as many as fit, by a dry run of three steps. Where memory runs out, half as many from then on."""
    duplicates: Literal["allow", "drop", "raise"] = "allow"
    """Training rows that say what another one says: counted and kept, left out, or an error."""
    overlap: Literal["raise", "drop", "allow"] = "raise"
    """Training rows that are validation rows too: an error, left out of the training, or kept."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.packing and self.order != "shuffled":
            raise ValueError(f"packing puts rows together by how they begin, order={self.order!r} by length: take one")
        return self
