"""A chain between moderators, and what it says where one refuses: in the type of its own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast, final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, run_in_executor
from langchain_core.runnables.base import RunnableBindingBase, RunnableSequence

from condition.moderation.guard import Guard, Stage
from condition.prompts.fill import several
from condition.protocols import Chain
from condition.types import Answer, Usage, Verdict


@final
class GuardedChain(Runnable[Any, Any]):
    """A chain between moderators, a LangChain Runnable: each text of its inputs is checked before, its answer after.

    What is said instead has the type of the chain's answers: an Answer whose `error` says why, a string where a
    Runnable gives strings, an AIMessage with finish_reason "content_filter" where it ends in a chat model. Tool calls
    are checked too; an Answer's candidates are not, and left out where there are moderators after the chain: guard the
    model inside a chain to keep them. A stream comes in one piece, since what was shown can't be taken back.
    """

    def __init__(self, chain: Chain | Runnable[Any, Any], guard: Guard) -> None:
        self.chain = chain
        self.guard = guard

    def __repr__(self) -> str:
        return f"Guarded({self.chain!r})"

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The answer to one set of inputs."""
        return self.batch([input], config, **kwargs)[0]

    def batch(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """The answers to many, in one call of the chain for those that pass."""
        work = cast("Callable[..., list[Any]]", partial(self._answers, return_exceptions=return_exceptions))
        return self._batch_with_config(work, several(inputs), config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """As `batch`, in a thread."""
        work = partial(self.batch, inputs, config, return_exceptions=return_exceptions, **kwargs)
        return await run_in_executor(None, work)

    def _answers(
        self, inputs: list[Any], config: list[RunnableConfig], *, return_exceptions: bool, **kwargs: Any
    ) -> list[Any]:
        checked = self.guard.check("before", inputs)
        places = [place for place, (shown, _) in enumerate(checked) if shown is not None]
        sent = [checked[place][0] for place in places]
        answers = self._ask(sent, [config[place] for place in places], return_exceptions, kwargs) if sent else []
        ready = [self._refusal("before", verdict, None) for _, verdict in checked]
        for place, answer, (shown, verdict) in zip(places, answers, self._after(answers, places), strict=True):
            ready[place] = self._refusal("after", verdict, answer) if shown is None else shown
        return ready

    def _ask(
        self, inputs: list[Any], config: list[RunnableConfig], return_exceptions: bool, kwargs: Mapping[str, Any]
    ) -> list[Any]:
        if isinstance(self.chain, Runnable):
            return self.chain.batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        return self.chain.batch(inputs)

    def _after(self, answers: Sequence[Any], places: Sequence[int]) -> list[tuple[Any, Verdict]]:
        checked = self.guard.check("after", answers, places)
        if not self.guard.after:
            return checked
        return [
            (_without_traces(shown, verdict) if isinstance(shown, Answer) else shown, verdict)
            for shown, verdict in checked
        ]

    def _refusal(self, stage: Stage, verdict: Verdict, answer: Any) -> Any:
        refusal = self.guard.refusal
        if isinstance(answer, str) or (answer is None and _gives(self.chain, str)):
            return refusal
        if isinstance(answer, BaseMessage) or (answer is None and _gives(self.chain, BaseMessage)):
            return AIMessage(refusal, response_metadata={"finish_reason": "content_filter"})
        why = ", ".join(verdict.categories) or "no category"
        usage = answer.usage if isinstance(answer, Answer) else Usage()
        return Answer(refusal, error=f"refused {stage} the model: {why}: {verdict.reason or 'no reason'}", usage=usage)


def _without_traces(answer: Answer, verdict: Verdict) -> Answer:
    """Nobody looked at the candidates, and what was parsed would tell what was masked."""
    return answer.model_copy(update={"candidates": (), "parsed": answer.parsed if verdict.allowed else None})


def _gives(chain: object, kind: type) -> bool:
    """Whether a Runnable's answers are of a kind, as far as it tells."""
    while isinstance(chain, RunnableBindingBase | RunnableSequence):
        chain = chain.bound if isinstance(chain, RunnableBindingBase) else chain.last
    if isinstance(chain, BaseChatModel):
        return kind is BaseMessage
    try:
        told = chain.OutputType if isinstance(chain, Runnable) else None
    except TypeError:  # it does not say
        return False
    return isinstance(told, type) and issubclass(told, kind)
