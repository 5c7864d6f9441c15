"""What may be shown of texts, before a model and after it: all of it, what moderators left, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, cast, final, runtime_checkable

from condition.moderation.texts import rewritten, strings
from condition.moderation.verdicts import UNCHECKED, Moderators, log, moderators_of, verdicts
from condition.protocols import Moderator
from condition.types import Value, Verdict

Stage = Literal["before", "after"]


@runtime_checkable
class Masker(Protocol):
    """A moderator that can also take out what it refuses."""

    def __call__(self, text: str, /) -> Verdict: ...

    def mask(self, text: str, /) -> str: ...


class Checked(NamedTuple):
    """A text, what was said of it, and what may be shown of it: nothing where it is refused."""

    text: str
    verdict: Verdict
    shown: str | None

    @property
    def action(self) -> Literal["passed", "redacted", "refused"]:
        return "refused" if self.shown is None else "passed" if self.verdict.allowed else "redacted"


def check(texts: Sequence[str], by: Sequence[Moderator], *, redact: bool = False) -> list[Checked]:
    """Every text past all moderators, in their order; the first that refuses decides. Each sees equal texts once.

    With `redact` a moderator that has a method `mask` takes out what it refuses, and the next sees the rest; the
    verdict is then that of the first one. A moderator that raises refuses the text.
    """
    found = {text: Checked(text, Verdict(True), text) for text in texts}
    for moderator in by:
        open_ = {text: one.shown for text, one in found.items() if one.shown is not None}
        shown = list(dict.fromkeys(open_.values()))
        said = dict(zip(shown, verdicts(moderator, shown), strict=True))
        for text, seen in open_.items():
            verdict = said[seen]
            if verdict.allowed:
                continue
            first = verdict if found[text].verdict.allowed else found[text].verdict
            if redact and isinstance(moderator, Masker) and UNCHECKED not in verdict.categories:
                found[text] = Checked(text, first, moderator.mask(seen))
            else:
                found[text] = Checked(text, verdict, None)
    return [found[text] for text in texts]


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

    def check(
        self, stage: Stage, values: Sequence[Any], places: Sequence[int] | None = None
    ) -> list[tuple[Any, Verdict]]:
        """Each value with what may be shown of it, and the verdict on it: of its first text that is refused, if any.

        `places[i]` is the prompt that value i belongs to, if not i.
        """
        by = self.before if stage == "before" else self.after
        texts = [strings(value) for value in values]
        found = iter(check([text for own in texts for text in own], by, redact=self.redact))
        passed = []
        for place, value, own in zip(places or range(len(values)), values, texts, strict=True):
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
