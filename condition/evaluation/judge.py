"""Which of two answers is better, as a model, a reward model or a classifier sees it.

    judge = PairwiseJudge(model)                                    # asked in both orders
    found = judge([Pair("Why is the sky blue?", "It scatters light.", "It is painted.")])
    print(found[0].winner, tally(found))
    judge = RubricJudge(model, "Is it correct, and does it say why?")
    judge = VerifierJudge(reward_model)                             # any function of a question and candidates

A reply that can't be understood is no verdict: its winner is None, and every count says how many there were. A judge
that changes its mind with the order has not told the two apart: a tie, and counted as inconsistent. Zheng et al. 2023,
arXiv 2306.05685.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from condition.errors import DataError, ModelError, SettingsError
from condition.evaluation.ranking import Winner
from condition.evaluation.replies import Replies
from condition.evaluation.statistics import Estimate, estimate
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.template import ChatPrompt, as_prompt
from condition.protocols import Moderator, Verifier
from condition.types import Messages, Sampling, Value

PAIRWISE = ChatPrompt(
    [
        (
            "system",
            "You compare two answers to a question. Judge how correct, helpful and clear each one is. Neither place "
            "nor length should count. Say in a few words why, then give the verdict on a line of its own: [[A]] if "
            "answer A is better, [[B]] if answer B is better, [[C]] if they are equally good.",
        ),
        ("user", "Question:\n{question}\n\nAnswer A:\n{answer_a}\n\nAnswer B:\n{answer_b}"),
    ]
)
RUBRIC = ChatPrompt(
    [
        (
            "system",
            "You rate an answer to a question by this rubric: {rubric}\nSay in a few words why, then give a number "
            "from {lowest} (worst) to {highest} (best) on a line of its own, in this form: [[number]]",
        ),
        ("user", "Question:\n{question}\n\nAnswer:\n{answer}"),
    ]
)
GREEDY = Sampling(temperature=0.0, max_tokens=256)


class Pair(NamedTuple):
    """Two answers to one question."""

    question: str
    first: str
    second: str


class Judgement(Value):
    """What a judge made of a pair."""

    winner: Winner | None
    """None where no verdict could be read."""
    is_consistent: bool = True
    """False where the verdict went with the order."""
    replies: tuple[str, ...] = ()
    """What the judge wrote: the pair as it is, then turned around."""


class Rating(Value):
    """What a judge made of one answer."""

    points: float | None
    """None where no number on the scale could be read."""
    reply: str


class Judge(Protocol):
    """Says of each pair which answer is better."""

    def __call__(self, pairs: Sequence[Pair], /) -> list[Judgement]: ...


def verdict(text: str) -> Winner | None:
    """The one verdict [[A]], [[B]] or [[C]] of a reply; None where there is none, or more than one."""
    found = set(re.findall(r"\[\[([ABC])\]\]", text))
    places: dict[str, Winner] = {"A": "first", "B": "second", "C": "tie"}
    return places[found.pop()] if len(found) == 1 else None


def rating(text: str) -> float | None:
    """The one number in [[ ]] of a reply; None where there is none, or more than one."""
    found = {float(number) for number in re.findall(r"\[\[(-?\d+(?:\.\d+)?)\]\]", text)}
    return found.pop() if len(found) == 1 else None


@final
class PairwiseJudge:
    """A model that is shown two answers. `prompt` has the variables question, answer_a and answer_b.

    `parse` finds the verdict in a reply: "first" for answer A. With `both_orders` each pair is asked twice, and a
    verdict that goes with the order is a tie. `cache` names a folder where replies are kept, so that a run that was
    killed goes on; a model that is no local one is kept there only where `key` names it, as in `evaluate`.
    """

    def __init__(
        self,
        model: Any,
        prompt: Any = PAIRWISE,
        *,
        parse: Callable[[str], Winner | None] = verdict,
        both_orders: bool = True,
        sampling: Sampling = GREEDY,
        cache: str | Path | None = None,
        key: str | None = None,
    ) -> None:
        self.model = as_model(model)
        self.replies = Replies(self.model, sampling, cache, key)
        self.prompt = as_prompt(prompt)
        self.parse = parse
        self.both_orders = both_orders
        self.sampling = sampling
        _check_variables(self.prompt.variables, {"question", "answer_a", "answer_b"}, "PairwiseJudge")

    def __call__(self, pairs: Sequence[Pair], /) -> list[Judgement]:
        """A judgement for each pair, all in one call of the model. Raises ModelError where it can't be asked."""
        asked: list[Messages] = []
        for question, first, second in pairs:
            asked.append(fill(self.prompt, {"question": question, "answer_a": first, "answer_b": second}))
            if self.both_orders:
                asked.append(fill(self.prompt, {"question": question, "answer_a": second, "answer_b": first}))
        replies = self.replies(asked)
        step = 2 if self.both_orders else 1
        return [self._judged(replies[i : i + step]) for i in range(0, len(replies), step)]

    def _judged(self, replies: Sequence[str]) -> Judgement:
        verdicts = [self.parse(reply) for reply in replies]
        if odd := [one for one in verdicts if one not in (None, "first", "second", "tie")]:
            raise SettingsError(f"parse= gave {odd[0]!r:.60}: a verdict is 'first', 'second' or 'tie', or None")
        if None in verdicts:
            return Judgement(winner=None, replies=tuple(replies))
        turned: dict[Winner | None, Winner] = {"first": "second", "second": "first", "tie": "tie"}
        if len(verdicts) == 2 and verdicts[0] != turned[verdicts[1]]:
            return Judgement(winner="tie", is_consistent=False, replies=tuple(replies))
        return Judgement(winner=verdicts[0], replies=tuple(replies))


@final
class RubricJudge:
    """A model that rates one answer at a time from `lowest` to `highest`; of a pair the better rated one wins.

    `prompt` has the variables question and answer, and may have rubric, lowest and highest. Two ratings not more than
    `margin` apart are a tie. `cache` and `key` are as for `PairwiseJudge`.
    """

    def __init__(
        self,
        model: Any,
        rubric: str = "Is it correct, helpful and clear?",
        prompt: Any = RUBRIC,
        *,
        parse: Callable[[str], float | None] = rating,
        lowest: float = 1,
        highest: float = 10,
        margin: float = 0.0,
        sampling: Sampling = GREEDY,
        cache: str | Path | None = None,
        key: str | None = None,
    ) -> None:
        if not lowest < highest:
            raise SettingsError(f"a scale from {lowest} to {highest} has no room: give lowest < highest")
        self.model = as_model(model)
        self.replies = Replies(self.model, sampling, cache, key)
        self.prompt = as_prompt(prompt)
        self.parse = parse
        self.scale = {"rubric": rubric, "lowest": lowest, "highest": highest}
        self.lowest, self.highest = lowest, highest
        self.margin = margin
        self.sampling = sampling
        _check_variables(self.prompt.variables - self.scale.keys(), {"question", "answer"}, "RubricJudge")

    def rate(self, answers: Sequence[tuple[str, str]]) -> list[Rating]:
        """Ratings of (question, answer), all in one call of the model."""
        wanted = self.prompt.variables
        given = [{**self.scale, "question": question, "answer": answer} for question, answer in answers]
        asked = [fill(self.prompt, {name: value for name, value in one.items() if name in wanted}) for one in given]
        return [self._rated(reply) for reply in self.replies(asked)]

    def __call__(self, pairs: Sequence[Pair], /) -> list[Judgement]:
        """A judgement for each pair, from the ratings of both answers."""
        rated = self.rate([(pair.question, answer) for pair in pairs for answer in (pair.first, pair.second)])
        return [
            Judgement(winner=_higher(one.points, other.points, self.margin), replies=(one.reply, other.reply))
            for one, other in zip(rated[::2], rated[1::2], strict=True)
        ]

    def _rated(self, reply: str) -> Rating:
        points = self.parse(reply)
        if points is not None and not isinstance(points, Real):
            raise SettingsError(f"parse= gave {points!r:.60}: a rating is a number, or None")
        on_scale = points is not None and self.lowest <= points <= self.highest
        return Rating(points=points if on_scale else None, reply=reply)


@final
class VerifierJudge:
    """A verifier as a judge, such as a reward model: the answer with more points wins, a tie within `margin`.

    Points that are no finite numbers are no verdict.
    """

    def __init__(self, verifier: Verifier, margin: float = 0.0) -> None:
        if not callable(verifier):
            raise SettingsError(f"{verifier!r:.60} is no verifier: give a function of a question and candidates")
        self.verifier = verifier
        self.margin = margin

    def __call__(self, pairs: Sequence[Pair], /) -> list[Judgement]:
        """A judgement for each pair. Raises ModelError where the verifier does not give two numbers."""
        return [Judgement(winner=_higher(*self._points(pair), self.margin)) for pair in pairs]

    def _points(self, pair: Pair) -> tuple[float | None, float | None]:
        given = list(self.verifier(pair.question, [pair.first, pair.second]))
        if len(given) != 2:
            raise ModelError(f"the verifier gave {given!r:.80} for 2 answers: it needs a number for each")
        one, other = (float(points) if points is not None and math.isfinite(points) else None for points in given)
        return one, other


def by_moderator(moderator: Moderator) -> Verifier:
    """A classifier of texts as a verifier: 1 for an answer that it lets pass, 0 for another."""

    def points(question: str, candidates: Sequence[str], /) -> list[float]:
        return [float(moderator(candidate).allowed) for candidate in candidates]

    return points


class Tally(Value):
    """What many judgements come to."""

    win_rate: Estimate
    """Of the first answer, ties counted as half, over the pairs with a verdict."""
    wins: int
    ties: int
    losses: int
    inconsistent: int
    """Ties because the verdict went with the order."""
    unreadable: int

    def __str__(self) -> str:
        return (
            f"win rate {self.win_rate} %: {self.wins} won, {self.ties} tied ({self.inconsistent} by order), "
            f"{self.losses} lost, {self.unreadable} unreadable"
        )


def tally(judgements: Sequence[Judgement], clusters: Sequence[Hashable] | None = None) -> Tally:
    """Win rate of the first answers with its 95 % interval over clusters, such as questions.

    Raises DataError where no judgement has a verdict.
    """
    read = [i for i, judgement in enumerate(judgements) if judgement.winner is not None]
    if not read:
        raise DataError(f"no verdict in {len(judgements)} judgements: look at their `replies` and the judge's prompt")
    won = [judgements[i].winner for i in read]
    points = [{"first": 1.0, "tie": 0.5}.get(str(winner), 0.0) for winner in won]
    return Tally(
        win_rate=estimate(points, None if clusters is None else [clusters[i] for i in read], bounds=(0.0, 1.0)),
        wins=won.count("first"),
        ties=won.count("tie"),
        losses=won.count("second"),
        inconsistent=sum(not judgement.is_consistent for judgement in judgements),
        unreadable=len(judgements) - len(read),
    )


def _higher(one: float | None, other: float | None, margin: float) -> Winner | None:
    if one is None or other is None:
        return None
    if abs(one - other) <= margin:
        return "tie"
    return "first" if one > other else "second"


def _check_variables(found: frozenset[str], wanted: set[str], who: str) -> None:
    if found != wanted:
        raise SettingsError(f"the prompt of {who} has the variables {sorted(found)}; it needs {sorted(wanted)}")
