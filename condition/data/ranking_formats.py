"""Rankings that are recognised by their columns.

chosen, rejected                     texts, turns or whole dialogues (HH-RLHF: Bai et al. 2022, arXiv 2204.05862)
completions                          graded (UltraFeedback: Cui et al. 2023, arXiv 2310.01377)
output_1, output_2, preference       alpaca_eval
g1_winner, g2_winner                 MT-bench's pairs, in both orders (Zheng et al. 2023, arXiv 2306.05685)
candidates [, scores]                a ranking as it is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from condition.data.preference_columns import (
    BESIDE,
    DifferentPrompts,
    NoRating,
    Row,
    identity_of,
    inputs_of,
    is_dialogue,
    is_number,
    listed,
    split_dialogue,
    split_turns,
)
from condition.errors import DataError
from condition.types import Ranking

ULTRAFEEDBACK = ("models", "source", "correct_answers", "incorrect_answers")
"""Columns about the judgment, no inputs: in UltraFeedback's rows alone; and so are alpaca_eval's in theirs."""
ALPACA_EVAL = ("generator_1", "generator_2", "annotator", "price_per_example", "time_per_example", "raw_completion")
GRADES = ("overall_score", "score", "fine-grained_score")
"""What a completion's grade may be called."""
_PAIR = re.compile(
    r"\[User Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant A's Answer\]\n(.*?)\n\[The End of Assistant A's Answer\]\n\n"
    r"\[The Start of Assistant B's Answer\]\n(.*?)\n\[The End of Assistant B's Answer\]",
    re.DOTALL,
)


class Judged(NamedTuple):
    """A ranking, and what is known of the order in which its candidates were shown."""

    ranking: Ranking
    first: int | None = None
    """Place in the ranking of the candidate that was shown first."""
    turned: bool | None = None
    """Whether the judge, shown them the other way round, said something else."""


def _a_pair(row: Row, where: str) -> Judged:
    chosen, rejected = row["chosen"], row["rejected"]
    others = {k: v for k, v in row.items() if k not in ("chosen", "rejected", *BESIDE)}
    if isinstance(chosen, str) and isinstance(rejected, str):
        if is_dialogue(chosen) or is_dialogue(rejected):
            before, good = split_dialogue(chosen)
            other, bad = split_dialogue(rejected)
        else:
            before, other, good, bad = (), (), chosen, rejected
    else:
        before, good = split_turns(chosen, where)
        other, bad = split_turns(rejected, where)
    if before != other:
        raise DifferentPrompts
    inputs = inputs_of(others, before, where, (good, bad))
    identity = None if row.get("id") is None else str(row["id"])
    names = ("score_chosen", "score_rejected") if "score_chosen" in row else ("chosen_score", "rejected_score")
    if all(is_number(row.get(name)) for name in names):  # in a CSV file they are words
        return Judged(Ranking.graded(inputs, (good, bad), [float(row[name]) for name in names], identity))
    return Judged(Ranking(inputs, (good, bad), id=identity))


def _graded_completions(row: Row, where: str) -> Judged:
    texts, scores = [], []
    for completion in listed(row, "completions", where):
        if not isinstance(completion, Mapping):
            raise DataError(
                f"{where}: {completion!r:.60} is no completion with a score: give 'candidates' and 'scores'"
            )
        texts.append(completion.get("response", completion.get("text")))
        scores.append(_grade(completion, where))
    others = {k: v for k, v in row.items() if k not in ("completions", *BESIDE, *ULTRAFEEDBACK)}
    return _shown(Ranking.graded(inputs_of(others, (), where), texts, scores, identity_of(row)), texts)


def _grade(completion: Row, where: str) -> float:
    """The overall grade, or the mean of UltraFeedback's four aspects."""
    told = [completion[name] for name in GRADES if completion.get(name) is not None]
    if not told and "annotations" not in completion:
        raise DataError(f"{where}: a completion without a grade: give each a 'score'")
    if numbers := [float(grade) for grade in told if is_number(grade)]:
        return numbers[0]
    aspects = completion.get("annotations", {}).values()
    ratings = [float(aspect["Rating"]) for aspect in aspects if is_number(aspect["Rating"])]
    if not ratings:
        raise NoRating
    return sum(ratings) / len(ratings)


def _two_outputs(row: Row, where: str) -> Judged:
    """1 or 2 is the better one, and what lies between says how surely; 0 and 1.5 are ties."""
    preference = float(row["preference"]) or 1.5
    texts = (row["output_1"], row["output_2"])
    if not 1 <= preference <= 2:
        raise NoRating
    scores = (2 - preference, preference - 1)
    others = {k: v for k, v in row.items() if k not in ("output_1", "output_2", "preference", *BESIDE, *ALPACA_EVAL)}
    inputs = inputs_of(others, (), where, texts)
    return Judged(Ranking.graded(inputs, texts, scores, identity_of(row)))  # which was shown first is not told


def _judged_pair(row: Row, where: str) -> Judged:
    """The winner of both orders; where they disagree, a tie."""
    found = _PAIR.search(row["g1_user_prompt"])
    if found is None:
        raise DifferentPrompts  # of later turns: each side answers behind its own earlier words
    question, *texts = (part.strip() for part in found.groups())
    winners = [str(row[name]) for name in ("g1_winner", "g2_winner")]
    if not all(winner in ("model_1", "model_2", "tie") for winner in winners):
        raise NoRating
    won = winners[0] if winners[0] == winners[1] else "tie"
    scores = {"model_1": (1.0, 0.0), "model_2": (0.0, 1.0), "tie": (0.0, 0.0)}[won]
    judged = _shown(Ranking.graded({"question": question}, texts, scores, identity_of(row)), texts)
    return judged._replace(first=None, turned=winners[0] != winners[1])


def _listed(row: Row, where: str) -> Judged:
    others = {k: v for k, v in row.items() if k not in ("candidates", "scores", *BESIDE)}
    inputs = others["inputs"] if set(others) == {"inputs"} else inputs_of(others, (), where)
    candidates = listed(row, "candidates", where)
    if row.get("scores") in (None, ""):
        return Judged(Ranking(inputs, candidates, id=identity_of(row)))
    scores = listed(row, "scores", where)
    if wrong := [score for score in scores if not is_number(score)]:
        raise DataError(f"{where}: the score {wrong[0]!r:.60} is no number")
    return _shown(Ranking.graded(inputs, candidates, [float(s) for s in scores], identity_of(row)), candidates)


def _shown(ranking: Ranking, texts: Sequence[str]) -> Judged:
    """A ranking of texts in the order in which they were shown."""
    return Judged(ranking, ranking.candidates.index(texts[0]))


RANKINGS: tuple[tuple[Callable[[Row], bool], Callable[[Row, str], Judged]], ...] = (
    (lambda row: {"chosen", "rejected"} <= row.keys(), _a_pair),
    (lambda row: "completions" in row, _graded_completions),
    (lambda row: {"output_1", "output_2", "preference"} <= row.keys(), _two_outputs),
    (lambda row: {"g1_winner", "g2_winner", "g1_user_prompt"} <= row.keys(), _judged_pair),
    (lambda row: "candidates" in row, _listed),
)
