"""A model of this machine as a LangChain LLM: text in, text out.

    llm = ConditionLLM(max_tokens=16)
    llm.invoke("The capital of France is")        # goes on with these very words

For conversations, tools and structured answers there is `ChatCondition`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from condition.integrations.answers import metadata, usage
from condition.integrations.batch import complete
from condition.integrations.settings import Call, Conditioned
from condition.integrations.streams import STREAMS
from condition.integrations.waiting import DESK
from condition.models.local import LocalModel
from condition.prompts.template import TextPrompt
from condition.types import Completion, Message, Messages


@final
class ConditionLLM(Conditioned, BaseLLM):
    """A LangChain LLM over a LocalModel, or whatever `condition.load` takes. Settings are those of `ChatCondition`.

    A string is text that no chat template touches, and the model goes on with it. Only a model that was tuned with a
    prompt of turns is given it as a user's message, since turns are all that it was tuned on; `chat` says otherwise.
    Raises SettingsError for an unknown or impossible setting, and what `load` raises.
    """

    chat: bool | None = None
    """True: a string is a user's message. False: it is plain text."""

    if TYPE_CHECKING:  # a type checker would make one of the fields, as pydantic does where a class has none

        def __init__(
            self,
            model_or_folder: LocalModel | str | Path | None = None,
            *,
            base: str | Path | LocalModel | None = None,
            **settings: Any,
        ) -> None: ...

    def generate(self, prompts: list[str], stop: list[str] | None = None, *args: Any, **kwargs: Any) -> LLMResult:
        """As LangChain's, for all prompts in one call of the model."""
        model, rest = self._set(kwargs)
        return super(ConditionLLM, model).generate(prompts, stop, *args, **rest)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResult:
        """As `generate`; requests that wait at the same time are written together."""
        model, rest = self._set(kwargs)
        return await super(ConditionLLM, model).agenerate(prompts, stop, *args, **rest)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        call = self._call(stop, kwargs)
        return _result(complete(call.ticket(*(self._said(prompt, call) for prompt in prompts))), call)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        call = self._call(stop, kwargs)
        ticket = call.ticket(*(self._said(prompt, call) for prompt in prompts))
        return _result(await DESK.ask_async(ticket), call)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        call = self._call(stop, kwargs)
        for piece in call.model.stream(self._said(prompt, call), call.sampling, control=call.control):
            chunk = _chunk(piece, call)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        call = self._call(stop, kwargs)
        async for piece in STREAMS.read(call.ticket(self._said(prompt, call))):
            chunk = _chunk(piece, call)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _set(self, given: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The model with the settings of a call, and what else was given: LangChain's caches know only the model's."""
        settings = {k: v for k, v in given.items() if k in self._of_calls and v is not None}
        rest = {k: v for k, v in given.items() if k not in self._of_calls}
        if not settings:
            return self, rest
        sampling = self._call(None, settings).sampling
        changed = {k: getattr(sampling, k, v) for k, v in settings.items()}
        return self.model_copy(update=changed), rest

    def _read(self, given: LanguageModelInput, call: Call, settings: Mapping[str, Any]) -> Messages:
        return self._said(self._convert_input(given).to_string(), call)

    def _said(self, text: str, call: Call) -> Messages:
        tuned = call.model.prompt
        turns = self.chat if self.chat is not None else tuned is not None and not isinstance(tuned, TextPrompt)
        return (Message("user" if turns else "text", text),)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self._traced(super()._get_ls_params(stop=stop, **kwargs), stop, kwargs)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**super()._identifying_params, "chat": self.chat}


def _result(found: Sequence[Sequence[Completion]], call: Call) -> LLMResult:
    generations = [[Generation(text=c.text, generation_info=_info(c, call)) for c in own] for own in found]
    return LLMResult(generations=generations, llm_output={"model_name": call.model.name})


def _chunk(piece: str | Completion, call: Call) -> GenerationChunk:
    if isinstance(piece, Completion):
        return GenerationChunk(text="", generation_info=_info(piece, call))
    return GenerationChunk(text=piece)


def _info(completion: Completion, call: Call) -> dict[str, Any]:
    return {**metadata(call.model, completion, logprobs=call.logprobs), "usage_metadata": usage(completion)}
