"""A model of this machine as a LangChain chat model.

    llm = ChatCondition("qa-lora", max_tokens=64)                 # a folder that was saved, or the tuned model itself
    chain = llm.prompt | llm | StrOutputParser()
    chain.invoke({"context": "Ada was born in 1815.", "question": "When was Ada born?"})

A chat model takes messages as they are. What the model was tuned with is in `llm.prompt`, a LangChain template; without
it the model answers as any chat model does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig

from condition.integrations.adapters import fingerprint
from condition.integrations.answers import metadata, usage
from condition.integrations.batch import complete, together
from condition.integrations.settings import Call, Conditioned, with_adapter
from condition.integrations.streams import STREAMS
from condition.integrations.structured import parser, response_format
from condition.integrations.tools import ToolLike, Tools, both_controls, instructed, read_call, tools_of
from condition.integrations.waiting import DESK
from condition.models.local import LocalModel
from condition.prompts.messages import from_langchain_messages
from condition.types import Completion, Messages, Sampling


@final
class ChatCondition(Conditioned, BaseChatModel):
    """A LangChain chat model over a LocalModel, or whatever `condition.load` takes. Settings are those of `Sampling`.

    `base` names the base of a folder anew where it has moved, as for `load`. `adapters` are folders of other adapters
    on the same base, by name: `llm.invoke(messages, config={"configurable": {"adapter": "qa"}})`.

    `batch` is one call of the model for all inputs; requests that wait at the same time, in threads or in an event
    loop, are written in one call too. Stop texts of a call add to those of the model, other settings of a call replace
    them: `llm.invoke(messages, stop=["\\n"], max_tokens=5)`.

    Raises SettingsError for an unknown or impossible setting, and what `load` raises.
    """

    streaming: bool | None = None
    """True: `invoke` writes piece by piece too, so that callbacks get every token. False: `stream` gives one piece."""

    _of_calls: ClassVar[frozenset[str]] = Conditioned._of_calls | {"tools", "tool_choice", "response_format"}

    if TYPE_CHECKING:  # a type checker would make one of the fields, as pydantic does where a class has none

        def __init__(
            self,
            model_or_folder: LocalModel | str | Path | None = None,
            *,
            base: str | Path | LocalModel | None = None,
            **settings: Any,
        ) -> None: ...

    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools: the prompt shows them, and a call is JSON that fits by a grammar, strict or not.

        `tool_choice`: auto (text or a call), any (a call), none, or the name of the tool that is to be called.
        Raises SettingsError for what is no tool, and for an unknown choice.
        """
        known = tools_of(tools, tool_choice, kwargs.get("response_format"))
        return self.bind(tools=list(known.tools), tool_choice=known.choice, **kwargs)

    def with_structured_output(
        self,
        schema: Mapping[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers as values of a schema: a pydantic model, a TypedDict or a JSON schema. The JSON fits by a grammar.

        `method`: json_schema shows the schema to the model, json_mode adds nothing to the prompt, function_calling
        asks for the call of a tool. Raises ControlError for a malformed schema, and ModelError where the token limit
        cuts the JSON off, or puts it beside the raw message with `include_raw`.
        """
        told: dict[str, Any] = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}
        if method == "function_calling":
            bound = self.bind_tools([schema], tool_choice="any", **told, **kwargs)
        else:
            wanted = response_format(schema, method)
            tools_of(None, None, wanted).control  # noqa: B018  # a schema that can't be used is refused here
            bound = self.bind(response_format=wanted, **told, **kwargs)
        return parser(bound, schema, include_raw=include_raw)

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
        own = {k: v for k, v in kwargs.items() if k not in ("tags", "metadata", "run_name", "run_id")}
        with together(self._batches(messages, [{} for _ in messages], {**own, "stop": stop})):
            return super().generate(messages, stop, callbacks, **kwargs)

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangChain's, by the adapter that the config names."""
        return super().stream_events(input, config, **_for_events(config, kwargs))

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangChain's, by the adapter that the config names."""
        return super().astream_events(input, config, **_for_events(config, kwargs))

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of the rendered prompt, the chat template's and those that show tools included."""
        known = tools_of(tools, None, None)
        return len(self.model.render(instructed(self.model, from_langchain_messages(messages), known.instruction)).ids)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, tools = self._call(stop, kwargs), _tools(kwargs)
        (found,) = complete(call.ticket(_asked(messages, call, tools)))
        return ChatResult(generations=[_generation(completion, call, tools) for completion in found])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, tools = self._call(stop, kwargs), _tools(kwargs)
        (found,) = await DESK.ask_async(call.ticket(_asked(messages, call, tools)))
        return ChatResult(generations=[_generation(completion, call, tools) for completion in found])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, tools = self._call(stop, kwargs), _tools(kwargs)
        chunks = _Chunks(call, tools)
        for piece in call.model.stream(_asked(messages, call, tools), call.sampling, control=call.control):
            if (chunk := chunks.of(piece)) is not None:
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, tools = self._call(stop, kwargs), _tools(kwargs)
        chunks = _Chunks(call, tools)
        async for piece in STREAMS.read(call.ticket(_asked(messages, call, tools))):
            if (chunk := chunks.of(piece)) is not None:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _call(self, stop: Sequence[str] | str | None, given: Mapping[str, Any]) -> Call:
        call = super()._call(stop, given)
        return call._replace(control=both_controls(_tools(given).control, call.control))

    def _read(self, given: LanguageModelInput, call: Call, settings: Mapping[str, Any]) -> Messages:
        return _asked(self._convert_input(given).to_messages(), call, _tools(settings))

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """Also the key of LangChain's caches: another adapter has another fingerprint."""
        model = self._model_of(kwargs)
        own = {"model_name": model.name, "fingerprint": fingerprint(model)}
        return {**super()._get_invocation_params(stop, **kwargs), **own}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        found = super()._get_ls_params(stop=stop, **kwargs)
        return self._traced(found, stop, kwargs)

    def _resolve_model_profile(self) -> ModelProfile:
        own = ModelProfile(tool_calling=True, tool_choice=True, structured_output=True, text_inputs=True)
        return {**own, "name": self.model.name, "max_input_tokens": self.model.context, "image_inputs": False}


def _tools(given: Mapping[str, Any]) -> Tools:
    return tools_of(given.get("tools"), given.get("tool_choice"), given.get("response_format"))


def _asked(messages: list[BaseMessage], call: Call, tools: Tools) -> Messages:
    """Messages as ours, with what the tools and the schema ask for."""
    return instructed(call.model, from_langchain_messages(messages), tools.instruction)


def _generation(completion: Completion, call: Call, tools: Tools) -> ChatGeneration:
    told = metadata(call.model, completion, logprobs=call.logprobs)
    message = read_call(completion.text, tools, _why(completion, call.sampling))
    message.response_metadata, message.usage_metadata = told, usage(completion)
    return ChatGeneration(message=message, generation_info=told)


class _Chunks:
    """Pieces of an answer as LangChain's chunks. A tool call is given whole, or as the text that it was cut off as."""

    def __init__(self, call: Call, tools: Tools) -> None:
        self.call, self.tools = call, tools
        self.held: bool | None = None  # nothing has come

    def of(self, piece: str | Completion) -> ChatGenerationChunk | None:
        if isinstance(piece, Completion):
            return _last_chunk(piece, self.call, self.tools, said_so_far=not self.held)
        if self.held is None:  # a brace further on is one of the text's
            self.held = bool(self.tools.offered) and piece.startswith("{")
        return None if self.held else ChatGenerationChunk(message=AIMessageChunk(content=piece))


def _last_chunk(piece: Completion, call: Call, tools: Tools, *, said_so_far: bool) -> ChatGenerationChunk:
    """The end of a stream, which says what it cost: empty, or a tool call."""
    told = metadata(call.model, piece, logprobs=call.logprobs)
    read = read_call(piece.text, tools)
    # Chunks have no invalid calls: LangChain would read half an argument as a whole one where it adds them up.
    last = AIMessageChunk(
        content="" if said_so_far else read.content,
        tool_calls=read.tool_calls,
        response_metadata=told,
        usage_metadata=usage(piece),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=last, generation_info=told)


def _why(completion: Completion, sampling: Sampling) -> str | None:
    """What cut an answer off, and what to do."""
    cuts = {"length": f"max_tokens={sampling.max_tokens}: raise it", "control": "two limits that contradict each other"}
    return cuts.get(completion.finish_reason)


def _for_events(config: RunnableConfig | None, given: dict[str, Any]) -> dict[str, Any]:
    """Events of version 3 do not come by `stream`, where the adapter is read."""
    return with_adapter(config, given) if given.get("version") == "v3" else given


__all__ = ["ChatCondition"]
