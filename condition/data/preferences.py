"""Preferences from files, data sets and dictionaries, as Rankings and Feedback.

read_rankings("harmless-base/test.jsonl.gz")     HH-RLHF: what was said before is the input `history`
read_rankings("ultrafeedback.jsonl")             K completions with a grade each
read_rankings("gpt4_pair.jsonl")                 MT-bench's judgments of pairs; alpaca_eval; ShareGPT's pairs
read_feedback("kto.jsonl")                       one completion with a thumb, a grade or words

Rows are known by their columns (`ranking_formats`, `feedback_formats`); what is no candidate and no judgment is an
input. `id` names the row, and what UltraFeedback and alpaca_eval tell of their models and annotators is left out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from condition.data.feedback_formats import FEEDBACK
from condition.data.preference_columns import DifferentPrompts, NoRating
from condition.data.ranking_formats import RANKINGS, Judged
from condition.data.read import locate
from condition.errors import DataError
from condition.types import Feedback, Ranking

log = logging.getLogger("condition")

Found = TypeVar("Found")
Told = TypeVar("Told", Judged, Judged | Feedback)
Unusable = Literal["raise", "skip"]
UNKNOWN = "no preferences are known by the columns"


def read_rankings(source: object, *, unusable: Unusable = "raise") -> list[Ranking]:
    """Rankings from a path, a `datasets.Dataset`, rows, or Rankings themselves.

    A row that can't be used is an error with its place, or left out and counted with `unusable="skip"`: an empty
    candidate, candidates that are all the same, prompts that differ within a pair, a judgment without a rating.
    Candidates that are tied are kept; one that stands several times in a ranking counts once, at its best place.
    Raises DataError for rows of no known form in any case.
    """
    return [judged.ranking for judged in judgments(source, unusable=unusable)]


def read_feedback(source: object, *, unusable: Unusable = "raise") -> list[Feedback]:
    """Feedback from a path, a `datasets.Dataset`, rows, or Feedback itself; see `read_rankings`."""
    return list(_usable(source, _feedback, unusable))


def read_opinions(source: object) -> list[Ranking | Feedback]:
    """Rankings and Feedback, mixed or from one source of either kind. Raises DataError for neither."""
    is_rows = isinstance(source, Iterable) and not isinstance(source, str | Path | Mapping)
    given = list(source) if is_rows and not hasattr(source, "iterrows") else source  # type: ignore[call-overload]
    if isinstance(given, list) and given and all(isinstance(row, Ranking | Feedback) for row in given):
        found = _once_each(_usable(given, _opinion, "raise"))
        return [one.ranking if isinstance(one, Judged) else one for one in found]
    try:
        return list(read_rankings(given))
    except DataError as error:
        if UNKNOWN not in str(error):
            raise
        return list(read_feedback(given))


def judgments(source: object, *, unusable: Unusable = "raise") -> Iterator[Judged]:
    """Rankings with what is known of the order in which their candidates were shown."""
    return _once_each(_usable(source, _ranking, unusable))


def _once_each(found: Iterable[Told]) -> Iterator[Told]:
    """Each candidate of a ranking at its best place only, and how many others there were, aloud."""
    again = 0
    for one in found:
        if not isinstance(one, Judged):
            yield one
            continue
        single = _once(one)
        again += len(one.ranking.candidates) - len(single.ranking.candidates)
        yield single
    if again:
        log.warning("%s candidates stood in their ranking already, better placed, and were left out", again)


def _once(judged: Judged) -> Judged:
    """Each candidate at its best place only: it can't be better than itself."""
    candidates, scores = judged.ranking.candidates, judged.ranking.scores
    places = [candidates.index(text) for text in dict.fromkeys(candidates)]
    if len(places) == len(candidates):
        return judged
    kept = None if scores is None else tuple(scores[place] for place in places)
    ranking = Ranking(judged.ranking.inputs, tuple(candidates[place] for place in places), kept, judged.ranking.id)
    # What was shown first stands where its words stand.
    first = None if judged.first is None else ranking.candidates.index(candidates[judged.first])
    return judged._replace(ranking=ranking, first=first)


def unusable_reason(candidates: Iterable[str]) -> str | None:
    """Why candidates for one prompt teach nothing; none where they do."""
    texts = list(candidates)
    if any(not text.strip() for text in texts):
        return "an empty candidate"
    if len(set(texts)) < 2:
        return "candidates that are all the same"
    return None


def _usable(source: object, parse: Callable[[Any, str], Found], unusable: Unusable) -> Iterator[Found]:
    if unusable not in ("raise", "skip"):
        raise DataError(f"unusable={unusable!r}: give 'raise' or 'skip'")
    skipped: Counter[str] = Counter()
    for row, where in _rows(source):
        try:
            yield parse(row, where)
        except (_Useless, DifferentPrompts, NoRating) as error:
            if unusable == "raise":
                reader = "read_feedback" if parse is _feedback or isinstance(row, Feedback) else "read_rankings"
                raise DataError(
                    f"{where}: {error}; fix the row, or leave such rows out: cd.{reader}(rows, unusable='skip')"
                ) from None
            skipped[str(error)] += 1
    if skipped:
        told = ", ".join(f"{count} for {reason}" for reason, count in sorted(skipped.items()))
        log.warning("preference rows left out: %s", told)


class _Useless(Exception):
    """A row from which nothing can be learned."""


def _rows(source: object) -> Iterator[tuple[Any, str]]:
    own = (Ranking, Feedback)
    if isinstance(source, Iterable) and not isinstance(source, str | Mapping):
        given = list(source) if not hasattr(source, "iterrows") else None
        if given and any(isinstance(row, own) for row in given):
            for number, row in enumerate(given):
                if not isinstance(row, own):
                    raise DataError(f"row {number}: {type(row).__name__} among Rankings or Feedback: give one kind")
                yield row, f"row {number}"
            return
        source = source if given is None else given
    for located in locate(source):
        yield located.row, located.where


def _ranking(row: Any, where: str) -> Judged:
    if isinstance(row, Feedback):
        raise DataError(f"{where}: Feedback on one completion is no ranking: give it to KTOTrainer or HindsightTrainer")
    judged = Judged(row) if isinstance(row, Ranking) else _parsed(row, where, RANKINGS)
    if reason := unusable_reason(judged.ranking.candidates):
        raise _Useless(reason)
    return judged


def _opinion(row: Ranking | Feedback, where: str) -> Judged | Feedback:
    return _feedback(row, where) if isinstance(row, Feedback) else _ranking(row, where)


def _feedback(row: Any, where: str) -> Feedback:
    if isinstance(row, Ranking):
        raise DataError(f"{where}: a Ranking is no feedback on one completion: use read_rankings")
    found = row if isinstance(row, Feedback) else _parsed(row, where, FEEDBACK)
    if not found.completion.strip():
        raise _Useless("an empty completion")
    if isinstance(found.said, str) and not found.said.strip():
        raise NoRating
    return found


def _parsed(
    row: Mapping[str, Any],
    where: str,
    formats: Iterable[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any], str], Found]]],
) -> Found:
    for fits, parse in formats:
        if fits(row):
            try:
                return parse(row, where)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DataError(
                    f"{where}: looks like {parse.__name__.strip('_')} but breaks its form: {error!r}"
                ) from error
            except DataError as error:
                raise error if str(error).startswith(where) else DataError(f"{where}: {error}") from None
    raise DataError(
        f"{where}: {UNKNOWN} {', '.join(map(repr, row)) or 'none'}: write them as "
        "'chosen' and 'rejected', as 'candidates' (the best first, or with 'scores'), or as 'completion' and 'label'"
    )
