"""What else than quality explains preferences: place, length, and rows that stand more than once.

    print(preference_bias("gpt4_pair.jsonl"))

    1,791 rankings, 1,791 pairs, 0 with ties
    longer is better       71.2 % of 1,786 pairs (69.0 to 73.2)
    shown first is best    40.5 % of 1,791, by chance 50.0 % (38.3 to 42.8)
    ...

A reward model that is no better than "longer is better" has learned nothing else. A judge that says something else
when answers change places has judged the place: Zheng et al. 2023, arXiv 2306.05685.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from condition.data.duplicates import plain, words_of_inputs
from condition.data.preferences import Unusable, judgments
from condition.types import Ranking, Value


class Share(Value):
    """A share of `count`, with Wilson's 95 % interval (1927), and what chance would give."""

    value: float
    low: float
    high: float
    count: int
    chance: float | None = None

    def __str__(self) -> str:
        chance = "" if self.chance is None else f", by chance {100 * self.chance:.1f} %"
        interval = f"({100 * self.low:.1f} to {100 * self.high:.1f})"
        return f"{100 * self.value:.1f} % of {self.count:,}{chance} {interval}"


class PreferenceBias(Value):
    """What was found; a share is None where nothing is known of it."""

    rankings: int
    pairs: int
    with_ties: int
    """Rankings in which some candidates are equally good."""
    longer_is_better: Share | None
    """Of pairs whose lengths differ, in characters: how often length alone would have been right."""
    shown_first_is_best: Share | None
    changed_with_order: Share | None
    """Of pairs that were judged in both orders."""
    repeated_prompts: int
    """Rankings whose prompt stands in an earlier one."""
    repeated_rankings: int
    """Rankings that say what an earlier one says."""
    contradictions: int
    """Pairs that an earlier pair of the same prompt says the other way round."""

    def __str__(self) -> str:
        lines = [f"{self.rankings:,} rankings, {self.pairs:,} pairs, {self.with_ties:,} with ties"]
        shares = {
            "longer is better": self.longer_is_better,
            "shown first is best": self.shown_first_is_best,
            "changed with the order": self.changed_with_order,
        }
        lines += [f"{name:<23} {share}" for name, share in shares.items() if share is not None]
        lines.append(
            f"repeated prompts {self.repeated_prompts:,}, repeated rankings {self.repeated_rankings:,}, "
            f"contradictions {self.contradictions:,}"
        )
        return "\n".join(lines)


def preference_bias(source: object, *, unusable: Unusable = "skip") -> PreferenceBias:
    """The report on rankings from anything that `read_rankings` takes."""
    found = list(judgments(source, unusable=unusable))
    rankings = [judged.ranking for judged in found]
    longer = [
        len(r.candidates[i]) > len(r.candidates[j])
        for r in rankings
        for i, j in r.pairs
        if len(r.candidates[i]) != len(r.candidates[j])
    ]
    shown = [
        (j.first == 0, 1 / len(j.ranking.candidates)) for j in found if j.first is not None and _has_best(j.ranking)
    ]
    turned = [judged.turned for judged in found if judged.turned is not None]
    repeated = _repeated(rankings)
    return PreferenceBias(
        rankings=len(rankings),
        pairs=sum(len(r.pairs) for r in rankings),
        with_ties=sum(r.scores is not None and len(set(r.scores)) < len(r.scores) for r in rankings),
        longer_is_better=_share(longer, 0.5),
        shown_first_is_best=_share(
            [best for best, _ in shown], sum(c for _, c in shown) / len(shown) if shown else None
        ),
        changed_with_order=_share(turned),
        repeated_prompts=repeated["prompts"],
        repeated_rankings=repeated["rankings"],
        contradictions=repeated["contradictions"],
    )


def _has_best(ranking: Ranking) -> bool:
    """Whether one candidate is better than all others."""
    return sum(better == 0 for better, _ in ranking.pairs) == len(ranking.candidates) - 1


def _share(hits: Iterable[bool], chance: float | None = None) -> Share | None:
    told = list(hits)
    n, z = len(told), 1.959964
    if not n:
        return None
    p = sum(told) / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return Share(value=p, low=low, high=high, count=n, chance=chance)


def _repeated(rankings: Iterable[Ranking]) -> Counter[str]:
    """By their words, whatever their case and white space, as the trainers compare them."""
    seen: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    pairs: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    counted: Counter[str] = Counter()
    for ranking in rankings:
        key, candidates = words_of_inputs(ranking.inputs), tuple(map(plain, ranking.candidates))
        counted["prompts"] += key in seen
        counted["rankings"] += candidates in seen[key]
        seen[key].add(candidates)
        own = {(candidates[i], candidates[j]) for i, j in ranking.pairs if candidates[i] != candidates[j]}
        counted["contradictions"] += sum((worse, better) in pairs[key] for better, worse in own)
        pairs[key] |= own
    return counted
