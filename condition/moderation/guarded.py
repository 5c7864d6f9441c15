"""A model or a chain between moderators: what comes in is checked before, what goes out after.

    safe = Guarded(model, before=[words, spam], after=words, redact=True)      # a Model again
    safe.generate(["Say hello.", "You idiot."])          # the second is answered with the refusal, and never sent
    app = Guarded(prompt | ChatCondition(tuned) | StrOutputParser(), after=spam)        # a LangChain Runnable

Prompts stay one batch: those that are refused are left out of it, and none touches another. Every verdict is logged by
Python's `logging`, in `condition.moderation`, without the text, and handed to `on_verdict` with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, final, get_args, overload

from langchain_core.runnables import Runnable

from condition.errors import Interrupted, ModelError, PromptError, SettingsError, UnfinishedError
from condition.moderation.guard import Guard, OnVerdict
from condition.moderation.guarded_chain import GuardedChain
from condition.moderation.verdicts import Moderators
from condition.protocols import Chain, Control, Model, Prompt
from condition.types import Completion, Message, Messages, Role, Sampling, Usage

REFUSAL = "I can't help with that."
ROLES: tuple[Role, ...] = ("user", "tool", "text")

Said = str | Sequence[Message]


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
        sent = {place: messages for place, messages in enumerate(asked) if messages is not None}
        done: dict[int, list[Completion]] = {
            place: [self._refusal(None)] * sampling.n for place in range(len(asked)) if place not in sent
        }
        places = list(sent)
        try:
            written = self.model.generate(list(sent.values()), sampling, control=control) if sent else []
        except (UnfinishedError, Interrupted) as error:
            # What was finished is checked too, and has the places of the prompts that were given.
            done |= self._after({places[i]: found for i, found in error.finished.items()})
            if isinstance(error, Interrupted):
                raise Interrupted(done, len(asked)) from None
            failed = {places[i]: why for i, why in error.failed.items()}
            raise UnfinishedError(str(error), done, failed) from error
        if len(written) != len(sent):
            raise ModelError(f"{self.name} gave completions for {len(written)} of {len(sent)} prompts")
        done |= self._after(dict(zip(places, written, strict=True)))
        return [done[place] for place in range(len(asked))]

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

    def _after(self, found: Mapping[int, list[Completion]]) -> dict[int, list[Completion]]:
        """What may be shown of the completions of each prompt."""
        flat = [(place, written) for place, row in found.items() for written in row]
        checked = self.guard.check("after", [written for _, written in flat], [place for place, _ in flat])
        ready: dict[int, list[Completion]] = {place: [] for place in found}
        for (place, written), (shown, verdict) in zip(flat, checked, strict=True):
            if shown is None:
                ready[place].append(self._refusal(written.usage))
            elif verdict.allowed:
                ready[place].append(written)
            else:
                masked = Completion(shown.text, finish_reason=written.finish_reason, usage=written.usage)
                ready[place].append(masked)
        return ready

    def _refusal(self, usage: Usage | None) -> Completion:
        return Completion(self.guard.refusal, finish_reason="control", usage=usage)


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
    A moderator that raises refuses. Raises ModelError for what is neither, PromptError for an empty refusal, and
    SettingsError for an unknown role and for no moderator at all.
    """
    if not isinstance(refusal, str) or not refusal.strip():
        raise PromptError("an empty refusal can't be told from an answer: give a sentence")
    roles = (cast(Role, roles),) if isinstance(roles, str) else tuple(roles)
    if unknown := [role for role in roles if role not in get_args(Role)]:
        raise SettingsError(f"roles={unknown}: give some of {', '.join(get_args(Role))}; no other is ever checked")
    guard = Guard(before, after, refusal, redact, on_verdict)
    if not guard.before and not guard.after:
        raise SettingsError("nothing to guard with: give a moderator, before= or after= the model")
    if isinstance(model, type):
        raise ModelError(f"{model.__name__} is a class: give an instance")
    if isinstance(model, Runnable):  # before Model: LangChain's models have a `generate` and a `name` of their own
        return GuardedChain(model, guard)
    if isinstance(model, Model):
        return GuardedModel(model, guard, roles)
    if isinstance(model, Chain):
        return GuardedChain(model, guard)
    raise ModelError(f"{type(model).__name__} is neither a model (name, generate) nor a chain (invoke, batch)")


def _conversations(prompts: Sequence[Said] | Said) -> list[Messages]:
    """As local models take them: a string is one user message, and one conversation stands for a list of one."""
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], Message)):
        prompts = cast("Sequence[Said]", [prompts])
    found: list[Messages] = []
    for place, said in enumerate(prompts):
        given: object = [Message("user", said)] if isinstance(said, str) else said
        messages = tuple(given) if isinstance(given, Sequence) else ()
        if not messages or not all(isinstance(message, Message) for message in messages):
            raise PromptError(f"prompt {place} is {said!r:.60}: give a string or a sequence of Messages")
        found.append(messages)
    return found
