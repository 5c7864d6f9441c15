"""A model or a chain between moderators: what comes in is checked before, what goes out after.

    safe = Guarded(model, before=[words, spam], after=words, redact=True)      # a Model again
    safe.generate(["Say hello.", "You idiot."])          # the second is answered with the refusal, and never sent
    app = Guarded(prompt | ChatCondition(tuned) | StrOutputParser(), after=spam)        # a LangChain Runnable

Prompts stay one batch: those that are refused are left out of it, and none touches another. Every verdict is logged by
Python's `logging`, in `condition.moderation`, without the text, and handed to `on_verdict` with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, final, overload

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, run_in_executor
from langchain_core.runnables.base import RunnableBindingBase, RunnableSequence

from condition.errors import ModelError, PromptError
from condition.moderation.checks import Checked, check
from condition.moderation.texts import rewritten, strings
from condition.moderation.verdicts import Moderators, log, moderators_of
from condition.protocols import Chain, Control, Model, Prompt
from condition.types import Answer, Completion, Message, Messages, Role, Sampling, Usage, Value, Verdict

REFUSAL = "I can't help with that."
ROLES: tuple[Role, ...] = ("user", "tool", "text")

Stage = Literal["before", "after"]
Said = str | Sequence[Message]


class Judged(Value):
    """One verdict on its way: on a text of prompt `place`, before it was sent or after it was answered."""

    stage: Stage
    place: int
    text: str
    verdict: Verdict
    action: Literal["passed", "redacted", "refused"]


OnVerdict = Callable[[Judged], object]


@final
class Guard:
    """The two checks, and what is said instead."""

    def __init__(
        self,
        before: Moderators | None,
        after: Moderators | None,
        refusal: str,
        redact: bool,
        on_verdict: OnVerdict | None,
    ) -> None:
        self.before = moderators_of(before)
        self.after = moderators_of(after)
        self.refusal = refusal
        self.redact = redact
        self.on_verdict = on_verdict

    def check(self, stage: Stage, values: Sequence[Any]) -> list[tuple[Any, Verdict]]:
        """Each value with what may be shown of it, and the verdict on it: of its first text that is refused, if any."""
        by = self.before if stage == "before" else self.after
        texts = [strings(value) for value in values]
        found = iter(check([text for own in texts for text in own], by, redact=self.redact))
        passed = []
        for place, (value, own) in enumerate(zip(values, texts, strict=True)):
            said = [next(found) for _ in own]
            for one in said if by else []:
                self._tell(Judged(stage=stage, place=place, text=one.text, verdict=one.verdict, action=one.action))
            passed.append((_shown(value, said), _first(said)))
        return passed

    def _tell(self, judged: Judged) -> None:
        log.log(
            10 if judged.action == "passed" else 20,
            "%s: %s prompt %d (%s)%s",
            judged.stage,
            judged.action,
            judged.place,
            ", ".join(judged.verdict.categories) or "no category",
            "" if judged.verdict.reason is None else f": {judged.verdict.reason}",
        )
        if self.on_verdict is not None:
            try:
                self.on_verdict(judged)
            except Exception:  # anybody's code; the work of the batch is not lost for it
                log.exception("on_verdict failed; the work goes on")


@final
class GuardedModel:
    """A Model between moderators. Messages of `roles` are checked before, each by itself; completions after.

    A refused prompt is answered with `refusal`, `sampling.n` times, and costs nothing; a refused completion is replaced
    by it, with its usage. Both have finish_reason "control", no tokens and no log-probability, since the model did not
    write them. A redacted completion keeps its finish_reason and loses its tokens, which would tell what was masked.
    """

    def __init__(self, model: Model, guard: Guard, roles: Sequence[Role]) -> None:
        self.model = model
        self.guard = guard
        self.roles = tuple(roles)

    @property
    def name(self) -> str:
        """The model's own."""
        return self.model.name

    @property
    def prompt(self) -> Prompt | None:
        """The prompt that the model was tuned with, if any."""
        return getattr(self.model, "prompt", None)

    def __repr__(self) -> str:
        return f"Guarded({self.model!r})"

    def generate(
        self,
        prompts: Sequence[Said] | Said,
        sampling: Sampling = Sampling(),
        *,
        control: Control | None = None,
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in one call of the model for those that pass."""
        asked = self._before(_conversations(prompts))
        sent = [messages for messages in asked if messages is not None]
        written = iter(self.model.generate(sent, sampling, control=control) if sent else [])
        refused = self._refusal(None)
        found = [[refused] * sampling.n if messages is None else next(written) for messages in asked]
        return self._after(asked, found)

    def stream(
        self, messages: Said, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> Iterator[str | Completion]:
        """Pieces of text, then the Completion.

        With moderators after the model, the whole is written and checked first and comes in one piece: what was shown
        can't be taken back. With moderators before it only, pieces come as they are written.
        """
        own = getattr(self.model, "stream", None)
        if self.guard.after or own is None:
            ((completion,),) = self.generate([messages], sampling.model_copy(update={"n": 1}), control=control)
            yield from (completion.text, completion)
            return
        (asked,) = self._before(_conversations([messages]))
        if asked is None:
            yield from (self.guard.refusal, self._refusal(None))
        else:
            yield from own(asked, sampling, control=control)

    def _before(self, prompts: Sequence[Messages]) -> list[Messages | None]:
        """What is sent of each prompt; None for those that are refused."""
        checked = self.guard.check("before", [[m for m in messages if m.role in self.roles] for messages in prompts])
        sent: list[Messages | None] = []
        for messages, (shown, _) in zip(prompts, checked, strict=True):
            rest = iter(shown or ())
            kept = (next(rest) if message.role in self.roles else message for message in messages)
            sent.append(None if shown is None else tuple(kept))
        return sent

    def _after(self, asked: Sequence[Messages | None], found: list[list[Completion]]) -> list[list[Completion]]:
        places = [place for place, messages in enumerate(asked) if messages is not None]
        flat = [(place, i) for place in places for i in range(len(found[place]))]
        checked = self.guard.check("after", [found[place][i] for place, i in flat])
        ready = [list(row) for row in found]
        for (place, i), (shown, verdict) in zip(flat, checked, strict=True):
            written = found[place][i]
            if shown is None:
                ready[place][i] = self._refusal(written.usage)
            elif not verdict.allowed:
                ready[place][i] = Completion(shown.text, finish_reason=written.finish_reason, usage=written.usage)
        return ready

    def _refusal(self, usage: Usage | None) -> Completion:
        return Completion(self.guard.refusal, finish_reason="control", usage=usage)


@final
class GuardedChain(Runnable[Any, Any]):
    """A chain between moderators, a LangChain Runnable: each text of its inputs is checked before, its answer after.

    What is said instead has the type of the chain's answers: an Answer whose `error` says why, a string where a
    Runnable gives strings, an AIMessage with finish_reason "content_filter" where it ends in a chat model. Tool calls
    are checked too. A stream comes in one piece, since what was shown can't be taken back.
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
        return self._batch_with_config(work, list(inputs), config, return_exceptions=return_exceptions, **kwargs)

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
        for place, answer, (shown, verdict) in zip(places, answers, self._after(answers), strict=True):
            ready[place] = self._refusal("after", verdict, answer) if shown is None else shown
        return ready

    def _ask(
        self, inputs: list[Any], config: list[RunnableConfig], return_exceptions: bool, kwargs: Mapping[str, Any]
    ) -> list[Any]:
        if isinstance(self.chain, Runnable):
            return self.chain.batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        return self.chain.batch(inputs)

    def _after(self, answers: Sequence[Any]) -> list[tuple[Any, Verdict]]:
        checked = self.guard.check("after", answers)
        return [
            (_without_traces(shown) if isinstance(shown, Answer) and not verdict.allowed else shown, verdict)
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


@overload
def Guarded(
    model: Model,
    before: Moderators | None = None,
    after: Moderators | None = None,
    *,
    refusal: str = REFUSAL,
    redact: bool = False,
    roles: Sequence[Role] = ROLES,
    on_verdict: OnVerdict | None = None,
) -> GuardedModel: ...
@overload
def Guarded(
    model: Chain | Runnable[Any, Any],
    before: Moderators | None = None,
    after: Moderators | None = None,
    *,
    refusal: str = REFUSAL,
    redact: bool = False,
    roles: Sequence[Role] = ROLES,
    on_verdict: OnVerdict | None = None,
) -> GuardedChain: ...
def Guarded(
    model: Any,
    before: Moderators | None = None,
    after: Moderators | None = None,
    *,
    refusal: str = REFUSAL,
    redact: bool = False,
    roles: Sequence[Role] = ROLES,
    on_verdict: OnVerdict | None = None,
) -> GuardedModel | GuardedChain:
    """A model, a chain or a LangChain Runnable between moderators: what is refused is answered with `refusal`.

    With `redact` moderators that can, such as WordList, mask what they refuse, and the rest goes on; the others refuse.
    `roles` are those of the messages that are checked before a model: what the system says is the author's own.
    A moderator that raises refuses. Raises ModelError for what is neither, PromptError for an empty refusal.
    """
    if not refusal.strip():
        raise PromptError("an empty refusal can't be told from an answer: give a sentence")
    guard = Guard(before, after, refusal, redact, on_verdict)
    if isinstance(model, type):
        raise ModelError(f"{model.__name__} is a class: give an instance")
    if isinstance(model, Runnable):  # before Model: LangChain's models have a `generate` and a `name` of their own
        return GuardedChain(model, guard)
    if isinstance(model, Model):
        return GuardedModel(model, guard, roles)
    if isinstance(model, Chain):
        return GuardedChain(model, guard)
    raise ModelError(f"{type(model).__name__} is neither a model (name, generate) nor a chain (invoke, batch)")


def _shown(value: Any, said: Sequence[Checked]) -> Any:
    """The value as it may be shown; None if any of its texts is refused."""
    if any(one.shown is None for one in said):
        return None
    if all(one.verdict.allowed for one in said):
        return value
    shown = iter([one.shown for one in said])
    return rewritten(value, lambda text: cast(str, next(shown)))


def _first(said: Iterable[Checked]) -> Verdict:
    """Of texts that are refused, else of those that are redacted, the first verdict."""
    ranked = sorted((one for one in said if not one.verdict.allowed), key=lambda one: one.shown is not None)
    return ranked[0].verdict if ranked else Verdict(True)


def _without_traces(answer: Answer) -> Answer:
    """Candidates, and what was parsed, would tell what was masked."""
    return answer.model_copy(update={"candidates": (), "parsed": None})


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


def _conversations(prompts: Sequence[Said] | Said) -> list[Messages]:
    """As local models take them: a string is one user message, and one conversation stands for a list of one."""
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], Message)):
        prompts = cast("Sequence[Said]", [prompts])
    found: list[Messages] = []
    for place, said in enumerate(prompts):
        messages = (Message("user", said),) if isinstance(said, str) else tuple(cast("Sequence[Message]", said))
        if not messages or not all(isinstance(message, Message) for message in messages):
            raise PromptError(f"prompt {place} is {said!r:.60}: give a string or a sequence of Messages")
        found.append(messages)
    return found
