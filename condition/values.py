"""What the library's values have in common: frozen, nothing unknown, and errors that say what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from condition.errors import DataError, SettingsError


def _not_one(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"one text where several are wanted: give a list, [{value!r:.80}]")
    return value


Texts = Annotated[Sequence[str], BeforeValidator(_not_one), AfterValidator(tuple)]
"""Several texts in whatever sequence they are typed; kept as a tuple."""


class Value(BaseModel):
    """Base of the value types: frozen, no unknown fields, positional where the order is plain."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    if TYPE_CHECKING:  # a type checker would not know that subclasses may pass their own fields on

        def __init__(self, **values: Any) -> None: ...


class Options(Value):
    """Base of settings that people type: what does not fit is a SettingsError that names the nearest known setting."""

    model_config = ConfigDict(allow_inf_nan=False)

    def __init__(self, *given: Any, **settings: Any) -> None:
        if given:
            name, first = type(self).__name__, next(iter(type(self).model_fields), "")
            raise SettingsError(f"{name} takes its settings by name: {name}({first}={given[0]!r:.80})")
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise SettingsError(sentences(type(self), error)) from None


@contextmanager
def meant(owner: type[BaseModel], call: str) -> Iterator[None]:
    """Raises DataError, with the call that was meant, for a value of data that does not fit."""
    try:
        yield
    except ValidationError as error:
        raise DataError(f"{sentences(owner, error)}. Write {call}") from None


_ELSEWHERE = {
    "lr": "learning_rate",
    **dict.fromkeys(("num_train_epochs", "num_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size", "micro_batch_size"), "batch_size"),
    "gradient_accumulation_steps": "accumulation",
    **dict.fromkeys(("max_seq_length", "max_seq_len", "cutoff_len"), "max_length"),
    **dict.fromkeys(("bf16", "fp16"), "precision"),
    **dict.fromkeys(("stop_strings", "stop_sequences"), "stop"),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit"), "bits"),
    "gradient_checkpointing": "checkpointing",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "max_grad_norm": "clip",
    "output_dir": "output",
    "logging_steps": "log_every",
    "eval_steps": "eval_every",
    "save_steps": "save_every",
    "save_total_limit": "keep",
    "early_stopping_patience": "patience",
    "r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "use_rslora": "rank_stabilised",
    "use_dora": "weight_decomposed",
    "max_new_tokens": "max_tokens",
    "do_sample": "temperature",
    "num_return_sequences": "n",
    "bnb_4bit_quant_type": "kind",
    "bnb_4bit_use_double_quant": "double",
    "bnb_4bit_compute_dtype": "compute_dtype",
}
"""What transformers, PEFT and TRL call our settings."""


def sentences(owner: type[BaseModel], error: ValidationError) -> str:
    """What does not fit, in words."""
    return "; ".join(_sentence(owner, problem) for problem in error.errors())


def _sentence(owner: type[BaseModel], problem: ErrorDetails) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        ours = _ELSEWHERE.get(name)
        near = [ours] if ours in owner.model_fields else get_close_matches(name, owner.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(owner.model_fields)}"
        return f"{owner.__name__} has no setting {name!r}; {hint}"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{owner.__name__}.{name} = {problem['input']!r:.80}: {said}" if name else f"{owner.__name__}: {said}"
