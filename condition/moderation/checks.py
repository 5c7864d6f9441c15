"""What may be shown of texts: all of it, what moderators left, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from condition.moderation.verdicts import UNCHECKED, verdicts
from condition.protocols import Moderator
from condition.types import Verdict


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
