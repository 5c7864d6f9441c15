"""Functions of one call: what measures, verifies, moderates and filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from condition.protocols import Filter, Metric, Moderator, Verifier
from condition.testing.promises import Promises, same
from condition.testing.samples import EXAMPLES, TEXTS
from condition.types import Example, Verdict

TOLERANCE = 1e-4
"""Between numbers of one call and another, of a verifier that is a network."""


def check_metric(
    metric: Callable[..., Any], cases: Iterable[tuple[str, Any]] = (("Paris", "Paris"), ("Lyon", "Paris"))
) -> None:
    """The promises of a Metric: named numbers that are finite and the same again, also where nothing was said.

    `cases` are predictions with their targets.
    """
    own = Promises(Metric, metric)
    given = list(cases)
    for prediction, target in [*given, *(("", target) for _, target in given)]:
        told = f"the prediction {prediction!r:.80} and the target {target!r:.80}"
        found = own.call(f"it measures {told}", metric, prediction, target)
        own.keeps(isinstance(found, Mapping), "it gives a mapping of names to numbers", f"{found!r} for {told}")
        own.all_are(found, str, "names are texts")
        for name, value in found.items():
            kept = isinstance(value, Real) and math.isfinite(value)
            own.keeps(kept, "each value is a finite number", f"{name} = {value!r} for {told}")
        again = own.call(f"it measures {told} again", metric, prediction, target)
        own.keeps(same(again, found), "the same prediction gives the same numbers again", f"{found}, then {again}")


def check_verifier(
    verifier: Callable[..., Any],
    question: str = "What is 2 + 3?",
    candidates: Sequence[str] = ("5", "6", "It is five.", "{braces} 🙂", ""),
    *,
    repeatable: bool = True,
) -> None:
    """The promises of a Verifier: one number for each candidate, in their order, and no work for none.

    Minus infinity is the least of all, for what can't be judged; "not a number" can't be compared and is no score.
    `repeatable=False` is for judges that draw: then numbers are not compared.
    """
    own = Promises(Verifier, verifier)
    nothing = own.call("it takes no candidates", verifier, question, [])
    own.one_each(nothing, 0, "candidates", "no candidates get []")
    found = _scores(own, verifier, question, candidates)
    if not repeatable:
        return
    again = _scores(own, verifier, question, candidates)
    own.keeps(same(again, found, TOLERANCE), "the same candidates get the same numbers again", f"{found}, then {again}")
    turned = _scores(own, verifier, question, candidates[::-1])
    own.keeps(
        same(turned[::-1], found, TOLERANCE),
        "numbers stand in the order of the candidates",
        f"{found}, the other way round {turned}",
    )


def _scores(own: Promises, verifier: Callable[..., Any], question: str, candidates: Sequence[str]) -> list[float]:
    found = own.call("it scores every candidate", verifier, question, list(candidates))
    scores = own.one_each(found, len(candidates), "candidates", "it gives a list with one number for each candidate")
    for score, candidate in zip(scores, candidates, strict=True):
        kept = isinstance(score, Real) and not math.isnan(score) and float(score) != math.inf
        own.keeps(kept, "a score is a number that can be compared", f"{score!r} for {candidate!r}")
    return [float(score) for score in scores]


def check_moderator(
    moderator: Any, texts: Iterable[str] = TEXTS, *, allowed: Iterable[str] = (), refused: Iterable[str] = ()
) -> None:
    """The promises of a Moderator: a Verdict on any text, the same again, and by `many` the same where it has that.

    `allowed` and `refused` are texts whose verdict you know.
    """
    own = Promises(Moderator, moderator)
    passing, failing = list(allowed), list(refused)
    asked = [*texts, *passing, *failing]
    found = [_verdict(own, moderator, text) for text in asked]
    for text, verdict in zip(asked, found, strict=True):
        again = _verdict(own, moderator, text)
        own.keeps(again == verdict, "a text gets the same verdict again", f"{verdict}, then {again}, on {text!r:.80}")
        if text in passing:
            own.keeps(verdict.allowed, f"{text!r:.80} may pass", verdict)
        if text in failing:
            own.keeps(not verdict.allowed, f"{text!r:.80} may not pass", verdict)
    many = getattr(moderator, "many", None)
    if callable(many):
        together = own.one_each(
            own.call("many takes the texts", many, asked), len(asked), "texts", "many gives one verdict for each text"
        )
        for text, verdict, one in zip(asked, found, together, strict=True):
            own.keeps(one == verdict, "many says what one call says", f"{one} and {verdict} on {text!r:.80}")
        own.one_each(own.call("many takes no texts", many, []), 0, "texts", "many gives [] for no texts")


def _verdict(own: Promises, moderator: Callable[..., Any], text: str) -> Verdict:
    found = own.call(f"it judges {text!r:.80}", moderator, text)
    own.all_are([found], Verdict, "a text gets a Verdict")
    verdict: Verdict = found
    return verdict


def check_filter(keep: Callable[..., Any], examples: Iterable[Example] = EXAMPLES) -> None:
    """The promises of a Filter: True or False for an example, the same again."""
    own = Promises(Filter, keep)
    for example in examples:
        found = own.call(f"it takes {example!r:.80}", keep, example)
        own.all_are([found], bool, "it says True or False")
        again = own.call(f"it takes {example!r:.80} again", keep, example)
        own.keeps(again == found, "the same example is judged alike again", f"{found}, then {again}, for {example}")
