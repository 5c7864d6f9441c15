"""LangChain's models as ours: `as_model` takes whatever writes.

    judge = as_model(ChatOpenAI(model="gpt-4.1-mini"))
    judge.generate("Is the sky blue?")[0][0].text

So a model elsewhere can judge, draft or be measured wherever one of this machine can.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, final

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import (
    BaseMessage,
)
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from condition.errors import ConditionError, ControlError, ModelError
from condition.models.load import load
from condition.models.local import LocalModel, Said, conversations
from condition.prompts.template import to_langchain_message
from condition.protocols import Control, Model
from condition.types import Completion, Messages, Sampling, Usage

_TOO_LONG = {"length", "max_tokens", "max_output_tokens", "model_length"}
"""How services say that a completion was cut off, in small letters."""


def as_model(x: object, /) -> Model:
    """A Model from one of ours (as it is), what `load` takes, or a LangChain chat model or LLM, bound or not.

    A `ChatCondition` gives the model that it holds; its sampling stays behind. Raises ModelError for anything else.
    """
    if isinstance(x, BaseLanguageModel):  # before Model: LangChain's have a `generate` and a `name` of their own
        own = getattr(x, "model", None)
        return own if isinstance(own, LocalModel) else LangChainModel(x)
    if isinstance(x, RunnableBindingBase) and isinstance(_innermost(x), BaseLanguageModel):
        return LangChainModel(x)
    if x is None or isinstance(x, str | Path):
        return load(x)
    if isinstance(x, Model) and not isinstance(x, type):
        return x
    raise ModelError(
        f"{type(x).__name__} is no model: give a loaded model, a hub id, a folder or a LangChain chat model"
    )


@final
class LangChainModel:
    """A LangChain chat model or LLM that writes for us.

    Of the sampling only what was set is passed on, by the names of its fields: `Sampling(temperature=0.0)` sends a
    temperature, `Sampling()` leaves it as the LangChain model was made. `n` asks n times. Text prompts go as one human
    message.
    """

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self.runnable = runnable

    @property
    def name(self) -> str:
        """What LangChain's traces call it."""
        inner = _innermost(self.runnable)
        told = inner._get_ls_params() if isinstance(inner, BaseLanguageModel) else {}
        return str(told.get("ls_model_name") or type(inner).__name__)

    def __repr__(self) -> str:
        return f"LangChainModel({self.name!r})"

    def generate(
        self, prompts: Sequence[Said] | Said, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in one `batch` of the LangChain model, or with a seed in n.

        Raises ControlError for a control, which needs a local model, and ModelError where the model fails.
        """
        if control is not None:
            raise ControlError(f"{self.name} runs elsewhere and can't be controlled token by token; use a local model")
        asked = [_input(messages) for messages in conversations(prompts)]
        began = time.perf_counter()
        if sampling.seed is None:
            written = self._write([prompt for prompt in asked for _ in range(sampling.n)], sampling)
        else:  # one seed would give one answer n times: sample i has seed + i
            seeds = (sampling.model_copy(update={"seed": sampling.seed + i}) for i in range(sampling.n))
            calls = [self._write(asked, seeded) for seeded in seeds]
            written = [answer for answers in zip(*calls, strict=True) for answer in answers]
        seconds = (time.perf_counter() - began) / max(1, len(written))
        completions = [_completion(message, sampling.stop, seconds) for message in written]
        return [completions[i : i + sampling.n] for i in range(0, len(completions), sampling.n)]

    def _write(self, asked: list[Any], sampling: Sampling) -> list[Any]:
        options: dict[str, Any] = sampling.model_dump(include=sampling.model_fields_set - {"n", "stop"})
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        try:
            return self.runnable.batch(asked, **options)
        except ConditionError:
            raise
        except Exception as error:  # each service has errors of its own
            raise ModelError(f"{self.name} did not answer: {type(error).__name__}: {error}") from error


def to_langchain_messages(messages: Messages) -> list[BaseMessage]:
    """Ours as LangChain's, which `from_langchain_messages` reads back the same."""
    return [to_langchain_message(message) for message in messages]


def _innermost(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """What is inside `.bind(...)`, `.with_retry()` and `.with_config(...)`."""
    while isinstance(runnable, RunnableBindingBase):
        runnable = runnable.bound
    return runnable


def _input(messages: Messages) -> str | list[BaseMessage]:
    """A string is one human message to a chat model and plain text to an LLM."""
    if messages[0].role == "text":
        return "".join(m.content for m in messages)
    return to_langchain_messages(messages)


def _completion(written: BaseMessage | str, stops: tuple[str, ...], seconds: float) -> Completion:
    text = written if isinstance(written, str) else str(written.text)
    ended = min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)  # some models ignore stops
    metadata = {} if isinstance(written, str) else written.response_metadata
    reason = next(
        (str(metadata[key]) for key in ("finish_reason", "stop_reason", "done_reason") if metadata.get(key)), ""
    )
    cut_off = ended is None and reason.lower() in _TOO_LONG
    return Completion(text[:ended], finish_reason="length" if cut_off else "stop", usage=_usage(written, seconds))


def _usage(written: BaseMessage | str, seconds: float) -> Usage | None:
    spent = cast("dict[str, int] | None", getattr(written, "usage_metadata", None))
    if not spent:
        return None
    return Usage(input_tokens=spent["input_tokens"], output_tokens=spent["output_tokens"], seconds=seconds)
