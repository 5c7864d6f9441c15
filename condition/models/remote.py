"""LangChain's models as ours: `as_model` takes whatever writes.

    judge = as_model(ChatOpenAI(model="gpt-4.1-mini", max_retries=0))
    judge.generate("Is the sky blue?")[0][0].text
    farm = as_model([ChatOpenAI(model="qa", base_url=url) for url in urls], concurrency=64)    # several servers

So a model elsewhere can judge, draft or be measured wherever one of this machine can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast, final, overload

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from tqdm.auto import tqdm

from condition.errors import ConditionError, ControlError, Interrupted, ModelError, UnfinishedError
from condition.models.arguments import check_counts, check_options
from condition.models.calls import Answered, Call, Endpoint, outcomes
from condition.models.conversations import Said, conversations
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.retry import advice, said
from condition.prompts.messages import to_langchain_message
from condition.protocols import Control, Model
from condition.types import Completion, Messages, Sampling, Usage

_TOO_LONG = {"length", "max_tokens", "max_output_tokens", "model_length"}
"""How services say that a completion was cut off, in small letters."""
_LIMITED = {
    *("control", "content_filter", "content_filtered", "guardrail_intervened", "refusal"),
    *("safety", "recitation", "blocklist", "prohibited_content", "spii"),
}
"""How they say that something let no more be said."""


@overload
def as_model(x: LocalModel | str | Path | None, /, *, retries: int = ..., concurrency: int = ...) -> LocalModel: ...
@overload
def as_model(
    x: BaseLanguageModel[Any], /, *, retries: int = ..., concurrency: int = ...
) -> LangChainModel | LocalModel: ...
@overload
def as_model(x: list[Any] | tuple[Any, ...], /, *, retries: int = ..., concurrency: int = ...) -> LangChainModel: ...
@overload
def as_model(x: object, /, *, retries: int = ..., concurrency: int = ...) -> Model: ...
def as_model(x: object, /, *, retries: int = 4, concurrency: int = 16) -> Model:
    """A Model from one of ours (as it is), what `load` takes, or a LangChain chat model or LLM, bound or not.

    Several LangChain models, in a list, are endpoints of one model: the rows are spread over them. `retries` and
    `concurrency` are for LangChain's, see LangChainModel. A `ChatCondition` gives the model that it holds; its sampling
    stays behind. Raises ModelError for anything else, and SettingsError for numbers that make no sense.
    """
    if isinstance(x, list | tuple):
        return LangChainModel(*x, retries=retries, concurrency=concurrency)
    if isinstance(x, BaseLanguageModel):  # before Model: LangChain's have a `generate` and a `name` of their own
        own = getattr(x, "model", None)
        return own if isinstance(own, LocalModel) else LangChainModel(x, retries=retries, concurrency=concurrency)
    if _is_langchain(x):
        return LangChainModel(cast("Runnable[Any, Any]", x), retries=retries, concurrency=concurrency)
    if x is None or isinstance(x, str | Path):
        return load(x)
    if isinstance(x, Model) and not isinstance(x, type):
        return x
    raise ModelError(
        f"{type(x).__name__} is no model: give a loaded model, a hub id, a folder or a LangChain chat model"
    )


@final
class LangChainModel:
    """A LangChain chat model or LLM that writes for us, at one endpoint or several that serve the same.

    Of the sampling only what was set is passed on, by the names of its fields: `Sampling(temperature=0.0)` sends a
    temperature, `Sampling()` leaves it as the LangChain model was made. `n` asks n times. Text prompts go as one human
    message.

    Each endpoint gets at most `concurrency` calls at once, or fewer where the LangChain model has a `max_concurrency`.
    A call that meets a timeout, a lost connection, or status 408, 409, 429 or 5xx is made up to `retries` times more,
    behind a wait that doubles and that respects Retry-After. The client's own retries come inside these: give
    `ChatOpenAI(max_retries=0)` to have one kind only.
    """

    def __init__(self, *runnables: Runnable[Any, Any], retries: int = 4, concurrency: int = 16) -> None:
        check_counts(retries=retries, least=0)
        check_counts(concurrency=concurrency)
        if not runnables:
            raise ModelError("no endpoint: give at least one LangChain chat model")
        for runnable in runnables:
            if not _is_langchain(runnable):
                raise ModelError(f"{type(runnable).__name__} is no LangChain chat model: several endpoints need to be")
        self.runnables = runnables
        self.retries = retries
        self.concurrency = concurrency

    @property
    def name(self) -> str:
        """What LangChain's traces call it; every name once where endpoints differ."""
        return " | ".join(dict.fromkeys(map(_name, self.runnables)))

    def __repr__(self) -> str:
        return f"LangChainModel({self.name!r})"

    def generate(
        self,
        prompts: Sequence[Said] | Said,
        sampling: Sampling = Sampling(),
        *,
        control: Control | None = None,
        finished: Mapping[int, list[Completion]] | None = None,
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in the order given; with a seed, sample i has seed + i.

        A prompt that fails leaves the others alone. At the end UnfinishedError holds what was finished; on Ctrl-C
        Interrupted does. Give it back as `finished` to ask for the rest only: `generate(prompts, finished=e.finished)`.
        Raises ControlError for a control, which needs a local model, and other errors of ours as they are.
        """
        check_options(sampling, Sampling, "sampling", {"max_tokens": sampling}, {"max_tokens": 64})
        if control is not None:
            raise ControlError(f"{self.name} runs elsewhere and can't be controlled token by token; use a local model")
        asked = [_input(messages) for messages in conversations(prompts)]
        found = dict(finished or {})
        if any(not 0 <= row < len(asked) or len(answers) != sampling.n for row, answers in found.items()):
            raise ModelError(f"`finished` is of other work: not {sampling.n} completions each for {len(asked)} prompts")
        self._answer(asked, sampling, found)
        return [found[row] for row in range(len(asked))]

    def _answer(self, asked: list[Any], sampling: Sampling, finished: dict[int, list[Completion]]) -> None:
        """Put the missing rows into `finished`."""
        endpoints = [self._endpoint(runnable, sampling) for runnable in self.runnables]
        places = [(row, i) for row in range(len(asked)) if row not in finished for i in range(sampling.n)]
        if sampling.seed is not None and any(endpoint.together > 1 for endpoint in endpoints):
            places.sort(key=lambda place: place[1])  # only equal seeds can be asked together
        seeds = [{} if sampling.seed is None else {"seed": sampling.seed + i} for i in range(sampling.n)]
        calls = [Call(asked[row], seeds[i]) for row, i in places]
        answers: dict[int, dict[int, Completion]] = {}
        failed: dict[int, Exception] = {}
        rows = tqdm(total=len(asked), initial=len(finished), desc="generate", unit="prompt", delay=3, leave=False)
        try:
            with rows, closing(outcomes(endpoints, calls, self.retries)) as coming:
                for place, outcome in coming:
                    row, sample = places[place]
                    if isinstance(outcome, ConditionError):
                        raise outcome
                    if isinstance(outcome, Exception):
                        failed.setdefault(row, outcome)
                        continue
                    samples = answers.setdefault(row, {})
                    samples[sample] = _completion(outcome, sampling.stop)
                    if len(samples) == sampling.n:
                        finished[row] = [samples[i] for i in range(sampling.n)]
                        rows.update()
        except KeyboardInterrupt:
            raise Interrupted(finished, len(asked)) from None
        if failed:
            raise self._unfinished(finished, dict(sorted(failed.items())), len(asked)) from next(iter(failed.values()))

    def _endpoint(self, runnable: Runnable[Any, Any], sampling: Sampling) -> Endpoint:
        at_once = min([self.concurrency, *_limits(runnable)])
        bound = runnable.bind(**_settings(runnable, sampling))
        if type(_innermost(runnable)).batch is Runnable.batch:
            return Endpoint(bound, _name(runnable), at_once)
        return Endpoint(bound, _name(runnable), 1, together=at_once)  # it makes batches of its own

    def _unfinished(
        self, finished: dict[int, list[Completion]], failed: dict[int, Exception], total: int
    ) -> UnfinishedError:
        row, error = next(iter(failed.items()))
        what = f"{self.name} did not answer: {said(error)}; {advice(error)}"
        if total > 1:
            what += (
                f". {len(failed)} of {total} prompts are unanswered, the first at index {row}; the {len(finished)} "
                "finished ones are in `.finished`, by index: generate(prompts, finished=error.finished) asks the rest"
            )
        return UnfinishedError(what, finished, failed)


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


def _is_langchain(x: object) -> bool:
    return isinstance(x, Runnable) and isinstance(_innermost(x), BaseLanguageModel)


def _name(runnable: Runnable[Any, Any]) -> str:
    inner = _innermost(runnable)
    told = inner._get_ls_params() if isinstance(inner, BaseLanguageModel) else {}
    return str(told.get("ls_model_name") or type(inner).__name__)


def _limits(runnable: Runnable[Any, Any]) -> list[int]:
    """What `.with_config(max_concurrency=...)` allows."""
    limits: list[int] = []
    while isinstance(runnable, RunnableBindingBase):
        if limit := runnable.config.get("max_concurrency"):
            limits.append(limit)
        runnable = runnable.bound
    return limits


def _settings(runnable: Runnable[Any, Any], sampling: Sampling) -> dict[str, Any]:
    """What was set of the sampling, but the seed, which each sample has its own of."""
    settings: dict[str, Any] = sampling.model_dump(include=sampling.model_fields_set - {"n", "stop", "seed"})
    if sampling.stop:
        settings["stop"] = list(sampling.stop)
    # OpenAI's protocol knows no top_k and no min_p; its client passes on in `extra_body` what servers know beyond it.
    beyond = settings.keys() & {"top_k", "min_p"}
    if beyond and hasattr(_innermost(runnable), "extra_body"):
        settings["extra_body"] = {**_extra_body(runnable), **{name: settings.pop(name) for name in sorted(beyond)}}
    return settings


def _extra_body(runnable: Runnable[Any, Any]) -> Mapping[str, Any]:
    while isinstance(runnable, RunnableBindingBase):
        if found := runnable.kwargs.get("extra_body"):
            return cast("Mapping[str, Any]", found)
        runnable = runnable.bound
    return getattr(runnable, "extra_body", None) or {}


def _completion(answered: Answered, stops: Sequence[str]) -> Completion:
    written: BaseMessage | str = answered.written
    text = written if isinstance(written, str) else str(written.text)
    ended = min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)  # some models ignore stops
    metadata = {} if isinstance(written, str) else written.response_metadata
    reason = next(
        (str(metadata[key]) for key in ("finish_reason", "stop_reason", "done_reason") if metadata.get(key)), ""
    )
    finish: Literal["stop", "length", "control"] = "stop"
    if ended is None and reason.lower() in _TOO_LONG:
        finish = "length"
    elif ended is None and reason.lower() in _LIMITED:
        finish = "control"
    return Completion(text[:ended], finish_reason=finish, usage=_usage(written, answered.seconds))


def _usage(written: BaseMessage | str, seconds: float) -> Usage | None:
    spent = cast("dict[str, int] | None", getattr(written, "usage_metadata", None))
    if not spent:
        return None
    return Usage(input_tokens=spent["input_tokens"], output_tokens=spent["output_tokens"], seconds=seconds)
