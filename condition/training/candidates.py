"""Candidates of one prompt as the network reads them: a row of a training that compares them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from condition.data.preferences import read_rankings
from condition.errors import DataError
from condition.models.local import LocalModel
from condition.models.trim import trim
from condition.protocols import Prompt
from condition.training.limits import limit_of, over_limit
from condition.training.rows import Origin, Prepared, origin_of, render, row_name
from condition.training.settings import Settings
from condition.types import Example, Ranking, Rendered

log = logging.getLogger("condition")


class Pair(NamedTuple):
    """Places of a better and a worse candidate, and by how much it is better."""

    better: int
    worse: int
    margin: float = 0.0


@dataclass(frozen=True)
class Candidates:
    """A prompt with its candidates, best first. The prompt's tokens are the same before each."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    """Each with its stop token."""
    pairs: tuple[Pair, ...] = ()
    grades: tuple[float, ...] | None = None
    count: int = 1
    """Things that the loss is a mean of."""
    reference: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """Log-probability of each token of each completion under the reference. No part of what the row is."""

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + self.completions[0]

    @property
    def start(self) -> int:
        return len(self.prompt)

    @property
    def size(self) -> int:
        """Tokens of the whole tree."""
        return len(self.prompt) + sum(map(len, self.completions))

    @property
    def labels(self) -> tuple[int, ...]:
        return (1,) * self.count

    @property
    def sequences(self) -> list[tuple[int, ...]]:
        return [self.prompt + completion for completion in self.completions]


Choose = Callable[[Ranking], Sequence[tuple[int, int]]]
"""Which candidates of a ranking are compared."""


def prepare_rankings(
    model: LocalModel,
    data: object,
    prompt: Prompt,
    settings: Settings,
    what: str,
    taken: int = 0,
    *,
    choose: Choose = lambda ranking: ranking.pairs,
    by_pair: bool = True,
    scored: str | None = None,
) -> Prepared:
    """Render rankings: a row each, whose labels are its pairs, or the ranking itself where `by_pair` is false.

    Rankings that teach nothing (all tied, or the same tokens) are left out and counted. `scored` names the option that
    reads their scores. Raises DataError for none left, a missing column or score, an empty candidate, and a row over
    the limit without a policy.
    """
    rows: list[Candidates] = []
    origins: list[Origin] = []
    gone: Counter[str] = Counter()
    trimmed = 0
    for number, ranking in enumerate(read_rankings(data)):
        name = row_name(number, ranking.id)
        where = f"{what} {name}"
        if scored and ranking.scores is None:
            raise DataError(
                f"{where} has no scores, by which {scored}=True goes: give Ranking.graded(inputs, candidates, scores), "
                f"or leave {scored} out"
            )
        chosen = choose(ranking)
        if not chosen:
            gone["all candidates tied"] += 1
            continue
        rendered, cut = render_within(model, prompt, ranking.inputs, ranking.candidates, settings, where, taken)
        if rendered is None:
            gone["too many tokens"] += 1
            continue
        trimmed += cut
        start = len(rendered[0].prompt_ids)
        completions = tuple(r.ids[start:] for r in rendered)
        grades = ranking.scores
        pairs = tuple(
            Pair(i, j, grades[i] - grades[j] if grades else 0.0) for i, j in chosen if completions[i] != completions[j]
        )
        if not pairs:
            gone["the same tokens in all candidates"] += 1
            continue
        count = len(pairs) if by_pair else 1
        rows.append(Candidates(rendered[0].ids[:start], completions, pairs, grades, count))
        origins.append(origin_of(name, prompt, ranking.inputs, ranking.candidates, (grades, pairs)))
    log_left_out(gone, what)
    if not rows:
        raise DataError(f"no {what} rows{f' left: {counted(gone)}' if gone else ': the data is empty'}")
    return Prepared(rows, sum(gone.values()), trimmed, origins)


def render_within(
    model: LocalModel,
    prompt: Prompt,
    inputs: Mapping[str, Any],
    texts: Iterable[str],
    settings: Settings,
    where: str,
    taken: int,
) -> tuple[list[Rendered] | None, bool]:
    """Each text behind the same prompt, which is cut alike for all where the longest does not fit, and whether it was.

    None where they are dropped. Raises DataError where the settings say so.
    """
    rendered = [render(model, Example(inputs, text), prompt, where, is_opinion=True) for text in texts]
    longest = max(len(r.ids) for r in rendered)
    excess = longest - limit_of(model, settings, taken)
    if excess <= 0:
        return rendered, False
    if settings.too_long == "raise":
        raise DataError(over_limit(where, longest, model, settings, taken))
    if settings.too_long == "drop":
        return None, False
    cut = [trim(r, len(r.ids) - excess) for r in rendered]
    short = [r for r in cut if r is not None]
    return (short, True) if len(short) == len(cut) else (None, False)


def log_left_out(gone: Counter[str], what: str) -> None:
    """Say what was left out, and why."""
    if gone:
        log.warning("%s rows left out: %s", what, counted(gone))


def counted(gone: Counter[str]) -> str:
    """Reasons in words, with their numbers."""
    return ", ".join(f"{count} with {reason}" for reason, count in sorted(gone.items()))


def best_against_rest(ranking: Ranking) -> list[tuple[int, int]]:
    """The first candidate with each that is worse."""
    return [pair for pair in ranking.pairs if pair[0] == 0]


PAIRS: Mapping[str, Choose] = {"all": lambda ranking: ranking.pairs, "best": best_against_rest}
"""Which pairs of a ranking a trainer learns from."""
