"""A model of this machine as a LangChain chat model.

    llm = ChatCondition("qa-lora", max_tokens=64)                 # a folder that was saved, or the tuned model itself
    chain = llm.prompt | llm | StrOutputParser()
    chain.invoke({"context": "Ada was born in 1815.", "question": "When was Ada born?"})

A chat model takes messages as they are. What the model was tuned with is in `llm.prompt`, a LangChain template; without
it the model answers as any chat model does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, cast, final

from langchain_core.callbacks import CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompts.chat import BaseChatPromptTemplate
from langchain_core.runnables import RunnableConfig, run_in_executor
from langchain_core.runnables.config import get_config_list
from pydantic import BeforeValidator, Field, PrivateAttr

from condition.errors import PromptError, SettingsError
from condition.integrations.batch import Batch, complete, together
from condition.models.contract import memory_fingerprint
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.remote import to_langchain_messages
from condition.prompts.template import from_langchain_messages
from condition.protocols import Prompt
from condition.types import Completion, Messages, Sampling

_OF_SERVICES = ("api_key", "max_retries", "timeout")
"""LangChain's standard parameters that mean nothing to a model on this machine."""
_ELSEWHERE = dict.fromkeys(("model", "model_name", "model_id"), "model_or_folder")
"""What other chat models call it."""


def _loaded(x: object) -> LocalModel:
    if isinstance(x, LocalModel):
        return x
    if x is None or isinstance(x, str | Path):
        return load(x)
    raise SettingsError(f"ChatCondition takes a loaded model, a folder or a hub id, not {type(x).__name__}")


@final
class ChatCondition(BaseChatModel):
    """A LangChain chat model over a LocalModel, or whatever `condition.load` takes. Settings are those of `Sampling`.

    `base` names the base of a folder anew where it has moved, as for `load`.

    `batch` is one call of the model for all inputs; threads that call at once take turns. Stop texts of a call add to
    those of the model, other settings of a call replace them: `llm.invoke(messages, stop=["\\n"], max_tokens=5)`.

    Raises SettingsError for an unknown or impossible setting, and what `load` raises.
    """

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
    streaming: bool | None = None
    """True: `invoke` writes piece by piece too, so that callbacks get every token. False: `stream` gives one piece."""
    _fingerprint: str = PrivateAttr()

    def __init__(
        self,
        model_or_folder: LocalModel | str | Path | None = None,
        *,
        base: str | Path | LocalModel | None = None,
        **settings: Any,
    ) -> None:
        settings = {k: v for k, v in settings.items() if k not in _OF_SERVICES}
        _check_names(settings, type(self).model_fields)
        sampling = _sampling({k: settings.pop(k) for k in Sampling.model_fields if k in settings})
        chosen = {k: getattr(sampling, k) for k in sampling.model_fields_set}
        if base is not None:
            if not isinstance(model_or_folder, str | Path):
                raise SettingsError("base= goes with the folder of a tuned model: ChatCondition(folder, base=...)")
            model_or_folder = load(model_or_folder, base=base)
        super().__init__(**{"model_or_folder": model_or_folder, **chosen, **settings})
        self._fingerprint = _fingerprint(self.model)

    @property
    def model(self) -> LocalModel:
        """The model that writes."""
        return self.model_or_folder

    @property
    def prompt(self) -> TunedPrompt:
        """The prompt that the model was tuned with, as a LangChain template. Raises PromptError where it has none."""
        own = self.model.prompt
        if own is None:
            raise PromptError(f"{self.model.name} has no prompt of its own: ChatCondition(model.with_prompt(prompt))")
        return TunedPrompt(prompt=own, input_variables=sorted(own.variables))

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answers to all inputs in one call of the model; with `max_concurrency` in so many at a time.

        Each input has its own config and callbacks, and with `return_exceptions` its own error.
        """
        configs = get_config_list(config, len(inputs)) if inputs else []
        size = (configs[0].get("max_concurrency") if configs else None) or max(1, len(inputs))
        answers: list[Any] = []
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            with together(self._batch(inputs[part], **kwargs)):
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
    ) -> list[AIMessage]:
        """As `batch`, in a thread."""
        work = partial(self.batch, inputs, config, return_exceptions=return_exceptions, **kwargs)
        return await run_in_executor(None, work)

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """As LangChain's, for all lists of messages in one call of the model."""
        if len(messages) < 2:  # `batch` comes by here with one after the other
            return super().generate(messages, stop, callbacks, **kwargs)
        with together(self._batch(messages, stop, **kwargs)):
            return super().generate(messages, stop, callbacks, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokens of a text, by the model's own tokenizer."""
        return list(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of the rendered prompt, the chat template's included."""
        return len(self.model.render(from_langchain_messages(messages)).ids)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = from_langchain_messages(messages)
        sampling = self._asked(stop, kwargs)
        return ChatResult(generations=[self._generation(c) for c in complete(self.model, asked, sampling)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        sampling = self._asked(stop, kwargs).model_copy(update={"n": 1})
        for piece in self.model.stream(from_langchain_messages(messages), sampling):
            chunk = self._chunk(piece)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _generation(self, completion: Completion) -> ChatGeneration:
        metadata = self._metadata(completion)
        message = AIMessage(completion.text, response_metadata=metadata, usage_metadata=_usage(completion))
        return ChatGeneration(message=message, generation_info=metadata)

    def _chunk(self, piece: str | Completion) -> ChatGenerationChunk:
        """A piece, or the empty end of a stream that says what it cost."""
        if isinstance(piece, str):
            return ChatGenerationChunk(message=AIMessageChunk(content=piece))
        metadata = self._metadata(piece)
        last = AIMessageChunk(
            content="", response_metadata=metadata, usage_metadata=_usage(piece), chunk_position="last"
        )
        return ChatGenerationChunk(message=last, generation_info=metadata)

    def _metadata(self, completion: Completion) -> dict[str, Any]:
        return {
            "model_name": self.model.name,
            "finish_reason": completion.finish_reason,
            "logprob": completion.logprob,
        }

    def _asked(self, stop: Sequence[str] | str | None, given: Mapping[str, Any]) -> Sampling:
        """The sampling of one call."""
        given = {
            k: v for k, v in given.items() if k != "stream"
        }  # LangChain's switch between `_stream` and `_generate`
        _check_names(given, Sampling.model_fields)
        own = {name: getattr(self, name) for name in Sampling.model_fields}
        more = (stop,) if isinstance(stop, str) else stop or ()
        given = {k: v for k, v in given.items() if v is not None}
        return _sampling({**own, **given, "stop": tuple(dict.fromkeys((*self.stop, *more)))})

    def _batch(
        self, inputs: Sequence[LanguageModelInput], stop: Sequence[str] | None = None, **given: Any
    ) -> Batch | None:
        """Inputs that the first `_generate` writes together, while each call keeps LangChain's own handling.

        What can't be read or set is left out: its own call will say so.
        """
        prompts: list[Messages] = []
        for one in inputs:
            with suppress(Exception):
                prompts.append(from_langchain_messages(self._convert_input(one).to_messages()))
        with suppress(SettingsError):
            sampling = self._asked(stop, {k: v for k, v in given.items() if k in Sampling.model_fields})
            return Batch(self.model, prompts, sampling)
        return None

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        found = super()._get_ls_params(stop=stop, **kwargs)
        found["ls_provider"] = "condition"
        found.setdefault("ls_model_name", self.model.name)
        if stops := [*self.stop, *(stop or ())]:
            found["ls_stop"] = stops
        return found

    @property
    def _llm_type(self) -> str:
        return "condition"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Also the key of LangChain's caches, so two adapters of one kind must differ."""
        sampling = {name: getattr(self, name) for name in Sampling.model_fields}
        return {"model_name": self.model.name, "fingerprint": self._fingerprint, **sampling}


@final
class TunedPrompt(BaseChatPromptTemplate):
    """A prompt of ours as a LangChain template: gives the very messages that the model was tuned with."""

    prompt: Prompt

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """The messages with the values in place."""
        return to_langchain_messages(self.prompt.format(**self._merge_partial_and_user_variables(**kwargs)))

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        """As LangChain's, whose advice on braces does not fit a prompt that was tuned with."""
        if isinstance(inner_input, dict) and (missing := set(self.input_variables) - inner_input.keys()):
            given = ", ".join(map(repr, inner_input)) or "nothing"
            raise PromptError(f"no value for {', '.join(map(repr, sorted(missing)))}; given: {given}")
        return super()._validate_input(inner_input)

    def pretty_repr(self, html: bool = False) -> str:
        """The prompt as our own classes show it."""
        return repr(self.prompt)


def _check_names(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given.keys() - known.keys():
        ours = _ELSEWHERE.get(name)
        near = [ours] if ours in known else get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"sampling takes {', '.join(Sampling.model_fields)}"
        raise SettingsError(f"ChatCondition has no setting {name!r}; {hint}")


def _sampling(given: Mapping[str, Any]) -> Sampling:
    return Sampling(**{k: v for k, v in given.items() if v is not None})


def _fingerprint(model: LocalModel) -> str:
    contract = None if model.contract is None else model.contract.model_dump(mode="json")
    parts = [contract, model.source.model_dump(), str(model.quantization), memory_fingerprint(model.network)]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _usage(completion: Completion) -> UsageMetadata | None:
    spent = completion.usage
    if spent is None:
        return None
    return UsageMetadata(
        input_tokens=spent.input_tokens, output_tokens=spent.output_tokens, total_tokens=spent.total_tokens
    )
