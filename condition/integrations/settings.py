"""What the chat model and the text model share: a model, its adapters, the settings of a call, and batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, cast

from langchain_core.language_models import BaseLanguageModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.runnables import RunnableConfig, run_in_executor
from langchain_core.runnables.config import ensure_config, get_config_list
from pydantic import BeforeValidator, Field

from condition.errors import PromptError, SettingsError
from condition.integrations.adapters import Adapters, fingerprint
from condition.integrations.batch import Batch, Caller, together
from condition.integrations.waiting import Ticket
from condition.models.arguments import check_control
from condition.models.load import load
from condition.models.local import LocalModel
from condition.prompts.fill import several
from condition.prompts.wrapped import WrappedPrompt, wrapped
from condition.protocols import Control
from condition.types import Messages, Sampling

_OF_SERVICES = ("api_key", "max_retries", "timeout")
"""LangChain's standard parameters that mean nothing to a model on this machine."""
_OF_LANGCHAIN = ("stream", "ls_structured_output_format", "structured_output_format")
"""What LangChain tells itself in the settings of a call."""
_ELSEWHERE = dict.fromkeys(("model", "model_name", "model_id"), "model_or_folder")
"""What other chat models call it."""


def _loaded(x: object) -> LocalModel:
    if isinstance(x, LocalModel):
        return x
    if x is None or isinstance(x, str | Path):
        return load(x)
    raise SettingsError(f"this takes a loaded model, a folder or a hub id, not {type(x).__name__}")


def _as_adapters(x: Any) -> Adapters:
    return x if isinstance(x, Adapters) else Adapters(x)


class Call(NamedTuple):
    """The settings of one call."""

    model: LocalModel
    sampling: Sampling
    control: Control | None
    logprobs: bool

    def ticket(self, *prompts: Messages) -> Ticket:
        """Prompts to be written by it."""
        return Ticket(self.model, list(prompts), self.sampling, self.control)


class Conditioned(BaseLanguageModel[Any]):
    """A LangChain model over a LocalModel. `ChatCondition` and `ConditionLLM` say what it takes and gives."""

    model_or_folder: Annotated[LocalModel, BeforeValidator(_loaded)] = Field(
        default=cast(LocalModel, None), validate_default=True
    )
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int | None = None
    control: Control | None = None
    """A limit on what may be said."""
    logprobs: bool = False
    """Whether answers tell the log-probability of each token."""
    adapters: Annotated[Adapters, BeforeValidator(_as_adapters)] = Field(default_factory=Adapters)
    """Folders of adapters on this base, by name."""
    adapter: str | Path | None = None
    """That of calls which name none."""

    _of_calls: ClassVar[frozenset[str]] = frozenset({*Sampling.model_fields, "control", "logprobs", "adapter"})

    def __init__(
        self,
        model_or_folder: LocalModel | str | Path | None = None,
        *,
        base: str | Path | LocalModel | None = None,
        **settings: Any,
    ) -> None:
        settings = {k: v for k, v in settings.items() if k not in _OF_SERVICES}
        _check_names(type(self), settings, type(self).model_fields)
        check_control(settings.get("control"))
        sampling = _sampling({k: settings.pop(k) for k in Sampling.model_fields if k in settings})
        chosen = {k: getattr(sampling, k) for k in sampling.model_fields_set}
        if base is not None:
            if not isinstance(model_or_folder, str | Path):
                own = type(self).__name__
                raise SettingsError(f"base= goes with the folder of a tuned model: {own}(folder, base=...)")
            model_or_folder = load(model_or_folder, base=base)
        super().__init__(**{"model_or_folder": model_or_folder, **chosen, **settings})

    @property
    def model(self) -> LocalModel:
        """The model that writes where a call names no other adapter."""
        return self.adapters.on(self.model_or_folder, self.adapter)

    @property
    def model_name(self) -> str:
        """Its name."""
        return self.model.name

    @property
    def prompt(self) -> WrappedPrompt:
        """The prompt that the model was tuned with, as a LangChain template. Raises PromptError where it has none."""
        own = self.model.prompt
        if own is None:
            raise PromptError(f"{self.model.name} has no prompt of its own: give it one with model.with_prompt(prompt)")
        return wrapped(own)

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangChain's, by the adapter that the config names."""
        return super().invoke(input, config, **with_adapter(config, kwargs))  # type: ignore[safe-super]  # LangChain's has it

    async def ainvoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `invoke`; requests that wait at the same time are written together."""
        kwargs = with_adapter(config, kwargs)
        await self._load_adapter(kwargs)
        return await super().ainvoke(input, config, **kwargs)

    def stream(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """As LangChain's, by the adapter that the config names."""
        return super().stream(input, config, **with_adapter(config, kwargs))

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """As `stream`."""
        kwargs = with_adapter(config, kwargs)
        await self._load_adapter(kwargs)
        async for piece in super().astream(input, config, **kwargs):
            yield piece

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Answers to all inputs in one call of the model for each adapter; with `max_concurrency` in so many at a time.

        Each input has its own config and callbacks, and with `return_exceptions` its own error.
        """
        inputs = several(inputs)
        configs = get_config_list(config, len(inputs)) if inputs else []
        size = (configs[0].get("max_concurrency") if configs else None) or max(1, len(inputs))
        answers: list[Any] = []
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            with together(self._batches(inputs[part], configs[part], kwargs)):
                for given, own in zip(inputs[part], configs[part], strict=True):
                    try:
                        answers.append(self.invoke(given, own, **kwargs))
                    except Exception as error:  # whatever it is, the caller asked for it
                        if not return_exceptions:
                            raise
                        answers.append(error)
        return answers

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """As `batch`, in a thread. Cancelled, it frees its place."""
        caller = Caller()

        def work() -> list[Any]:
            with caller:
                return self.batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

        try:
            return await run_in_executor(None, work)
        finally:
            caller.leave()

    def get_token_ids(self, text: str) -> list[int]:
        """Tokens of a text, by the model's own tokenizer."""
        return list(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _read(self, given: LanguageModelInput, call: Call, settings: Mapping[str, Any]) -> Messages:
        """An input as the model is asked it. Each subclass has its own."""
        raise NotImplementedError

    def _call(self, stop: Sequence[str] | str | None, given: Mapping[str, Any]) -> Call:
        """The settings of one call over those of the model; stops of a call add to the model's."""
        given = {k: v for k, v in given.items() if k not in _OF_LANGCHAIN}
        _check_names(type(self), given, self._of_calls)
        given = {k: v for k, v in given.items() if v is not None}
        own = {name: getattr(self, name) for name in Sampling.model_fields}
        more = _texts(stop)
        changed = {k: v for k, v in given.items() if k in Sampling.model_fields}
        sampling = _sampling({**own, **changed, "stop": tuple(dict.fromkeys((*self.stop, *more)))})
        logprobs = bool(given.get("logprobs", self.logprobs))
        return Call(self._model_of(given), sampling, given.get("control", self.control), logprobs)

    def _model_of(self, given: Mapping[str, Any]) -> LocalModel:
        return self.adapters.on(self.model_or_folder, self._adapter_of(given))

    def _adapter_of(self, given: Mapping[str, Any]) -> str | Path | None:
        return self.adapter if given.get("adapter") is None else given["adapter"]

    async def _load_adapter(self, given: Mapping[str, Any]) -> None:
        """Load the adapter of a call beside the event loop, not in it."""
        if not self.adapters.ready(self.model_or_folder, self._adapter_of(given)):
            await run_in_executor(None, self._model_of, given)

    def _batches(
        self, inputs: Sequence[LanguageModelInput], configs: Sequence[RunnableConfig], given: Mapping[str, Any]
    ) -> list[Batch]:
        """Inputs that the first call of each adapter writes together, while each keeps LangChain's own handling.

        What can't be read or set is left out: its own call will say so.
        """
        tickets: list[Ticket] = []
        for one, config in zip(inputs, configs, strict=True):
            own = with_adapter(config, given)
            stop = own.pop("stop", None)
            with suppress(Exception):
                call = self._call(stop, own)
                ticket = call.ticket(self._read(one, call, own))
                alike = next((other for other in tickets if other.like(ticket)), None)
                if alike is None:
                    tickets.append(ticket)
                else:
                    alike.prompts += ticket.prompts
        return [Batch(ticket) for ticket in tickets]

    def _traced(self, found: LangSmithParams, stop: Sequence[str] | None, given: Mapping[str, Any]) -> LangSmithParams:
        """What traces are told of a call, beside what LangChain knows."""
        found["ls_provider"] = "condition"
        if not isinstance(given.get("model"), str):
            found["ls_model_name"] = self._model_of(given).name
        if stops := [*self.stop, *_texts(stop)]:
            found["ls_stop"] = stops
        return found

    @property
    def _llm_type(self) -> str:
        return "condition"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Also the key of LangChain's caches, so two adapters of one kind must differ."""
        own = {name: getattr(self, name) for name in (*Sampling.model_fields, "logprobs")}
        told = {"model_name": self.model.name, "fingerprint": fingerprint(self.model), **own}
        return told if self.control is None else {**told, "control": self.control}


def with_adapter(config: RunnableConfig | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a call with the adapter that its config names, if any."""
    named = ensure_config(config).get("configurable", {}).get("adapter")
    return {**given} if named is None else {**given, "adapter": named}


def _check_names(owner: type, given: Mapping[str, Any], known: Mapping[str, Any] | frozenset[str]) -> None:
    for name in given.keys() - set(known):
        ours = _ELSEWHERE.get(name)
        near = [ours] if ours in known else get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"sampling takes {', '.join(Sampling.model_fields)}"
        raise SettingsError(f"{owner.__name__} has no setting {name!r}; {hint}")


def _texts(stop: Sequence[str] | str | None) -> Sequence[str]:
    more = (stop,) if isinstance(stop, str) else stop or ()
    if not isinstance(more, Sequence):
        raise SettingsError(f'stop={stop!r:.80}: give a list of texts, such as ["\\n"]')
    return more


def _sampling(given: Mapping[str, Any]) -> Sampling:
    return Sampling(**{k: v for k, v in given.items() if v is not None})
