"""Rows of preferences that are recognised by their columns.

chosen, rejected                     texts, turns or whole dialogues (HH-RLHF: Bai et al. 2022, arXiv 2204.05862)
completions                          graded (UltraFeedback: Cui et al. 2023, arXiv 2310.01377)
output_1, output_2, preference       alpaca_eval
g1_winner, g2_winner                 MT-bench's pairs, in both orders (Zheng et al. 2023, arXiv 2306.05685)
candidates [, scores]                a ranking as it is
messages, label; completion, label   one completion with a thumb
judgment, score                      MT-bench's single answers, graded
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from condition.data.conversations import ROLES
from condition.errors import DataError
from condition.types import Feedback, Message, Ranking

Row = Mapping[str, Any]

BESIDE = ("id", "score_chosen", "score_rejected", "chosen_score", "rejected_score")
"""Columns about the judgment, no inputs. So are those of UltraFeedback and alpaca_eval below, in their rows alone."""
ULTRAFEEDBACK = ("models", "source", "correct_answers", "incorrect_answers")
ALPACA_EVAL = ("generator_1", "generator_2", "annotator", "price_per_example", "time_per_example", "raw_completion")
DIALOGUES = ("conversations", "messages", "prompt", "history")
"""Columns that may hold turns."""
_DIALOGUE = re.compile(r"\n\n(Human|Assistant):")
_PAIR = re.compile(
    r"\[User Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant A's Answer\]\n(.*?)\n\[The End of Assistant A's Answer\]\n\n"
    r"\[The Start of Assistant B's Answer\]\n(.*?)\n\[The End of Assistant B's Answer\]",
    re.DOTALL,
)
_SINGLE = re.compile(
    r"\[Question\]\n(.*?)\n\n(?:\[The Start of Reference Answer\].*?\[The End of Reference Answer\]\n\n)?"
    r"\[The Start of Assistant's Answer\]\n(.*?)\n\[The End of Assistant's Answer\]",
    re.DOTALL,
)
_TURNS = re.compile(r"### (User|Assistant A):\n(.*?)\n\n(?=###|<\|The End)", re.DOTALL)


class Judged(NamedTuple):
    """A ranking, and what is known of the order in which its candidates were shown."""

    ranking: Ranking
    first: int | None = None
    """Place in the ranking of the candidate that was shown first."""
    turned: bool | None = None
    """Whether the judge, shown them the other way round, said something else."""


class DifferentPrompts(Exception):
    """A pair whose two sides do not answer the same."""

    def __init__(self) -> None:
        super().__init__("prompts that differ within a pair")


class NoRating(Exception):
    """A judgment that holds no rating."""

    def __init__(self) -> None:
        super().__init__("a judgment without a rating")


def _a_pair(row: Row, where: str) -> Judged:
    chosen, rejected = row["chosen"], row["rejected"]
    others = {k: v for k, v in row.items() if k not in ("chosen", "rejected", *BESIDE)}
    if isinstance(chosen, str) and isinstance(rejected, str):
        if _DIALOGUE.match(chosen) or _DIALOGUE.match(rejected):
            before, good = _split_dialogue(chosen)
            other, bad = _split_dialogue(rejected)
        else:
            before, other, good, bad = (), (), chosen, rejected
    else:
        before, good = _split_turns(chosen, where)
        other, bad = _split_turns(rejected, where)
    if before != other:
        raise DifferentPrompts
    inputs = _inputs(others, before, where, (good, bad))
    identity = None if row.get("id") is None else str(row["id"])
    names = ("score_chosen", "score_rejected") if "score_chosen" in row else ("chosen_score", "rejected_score")
    if all(_is_number(row.get(name)) for name in names):  # in a CSV file they are words
        return Judged(Ranking.graded(inputs, (good, bad), [float(row[name]) for name in names], identity))
    return Judged(Ranking(inputs, (good, bad), id=identity))


def _inputs(
    others: Mapping[str, Any], before: tuple[Message, ...], where: str, answers: Sequence[str] = ()
) -> dict[str, Any]:
    """Inputs of a row: turns become `history`, and so does what was said before in a dialogue."""
    inputs: dict[str, Any] = {}
    for name, value in others.items():
        if not (name in DIALOGUES and _is_turns(value)):
            inputs[name] = value
            continue
        turns = tuple(_message(turn, where) for turn in value)
        if turns[-1].role == "assistant" and turns[-1].content in answers:
            turns = turns[:-1]  # the whole dialogue, as ultrafeedback_binarized has it
        if turns and turns != before:
            inputs["history"] = turns
    if before and "history" in inputs:
        if inputs["history"] != before:
            raise DifferentPrompts
    elif before and isinstance(others.get("prompt"), str) and (*before,) == (Message("user", others["prompt"]),):
        return inputs  # UltraFeedback's pairs say the prompt twice
    elif before:
        inputs["history"] = before
    return inputs


def _split_dialogue(text: str) -> tuple[tuple[Message, ...], str]:
    """What was said before the last words of the assistant, and those."""
    parts = _DIALOGUE.split(text)[1:]
    turns = [Message("user" if who == "Human" else "assistant", said.strip()) for who, said in _by_two(parts)]
    if not turns or turns[-1].role != "assistant":
        raise DifferentPrompts
    return tuple(turns[:-1]), turns[-1].content


def _by_two(parts: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _split_turns(given: Any, where: str) -> tuple[tuple[Message, ...], str]:
    if not isinstance(given, Mapping | list | tuple):
        raise DataError(f"{where}: {given!r:.80} is no candidate: give words, or turns")
    turns = [given] if isinstance(given, Mapping) else list(given)
    messages = [_message(turn, where) for turn in turns]
    if not messages or messages[-1].role != "assistant":
        raise DataError(f"{where}: the last turn of a candidate is not the assistant's: {given!r:.80}")
    return tuple(messages[:-1]), messages[-1].content


def _is_turns(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping | Message)


def _message(turn: Any, where: str) -> Message:
    if isinstance(turn, Message):
        return turn
    who, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if who not in ROLES or not isinstance(said, str):
        raise DataError(f"{where}: {turn!r:.80} is no turn: it needs a known role and words")
    return Message(ROLES[who], said)


def _graded_completions(row: Row, where: str) -> Judged:
    texts, scores = [], []
    for completion in _list(row, "completions", where):
        if not isinstance(completion, Mapping):
            raise DataError(
                f"{where}: {completion!r:.60} is no completion with a score: give 'candidates' and 'scores'"
            )
        texts.append(completion.get("response", completion.get("text")))
        scores.append(_grade(completion, where))
    others = {k: v for k, v in row.items() if k not in ("completions", *BESIDE, *ULTRAFEEDBACK)}
    return _shown(Ranking.graded(_inputs(others, (), where), texts, scores), texts)


def _list(row: Row, name: str, where: str) -> Sequence[Any]:
    """A column that holds a list; a CSV file holds it as JSON."""
    value = row[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
        if not isinstance(value, list):
            raise DataError(f"{where}: {name} is {row[name]!r:.60}: give a list; in a CSV file as JSON has it")
    return tuple(value)


def _grade(completion: Row, where: str) -> float:
    """The overall grade, or the mean of UltraFeedback's four aspects."""
    told = [completion[name] for name in GRADES if completion.get(name) is not None]
    if not told and "annotations" not in completion:
        raise DataError(f"{where}: a completion without a grade: give each a 'score'")
    if numbers := [float(grade) for grade in told if _is_number(grade)]:
        return numbers[0]
    aspects = completion.get("annotations", {}).values()
    ratings = [float(aspect["Rating"]) for aspect in aspects if _is_number(aspect["Rating"])]
    if not ratings:
        raise NoRating
    return sum(ratings) / len(ratings)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _two_outputs(row: Row, where: str) -> Judged:
    """1 or 2 is the better one, and what lies between says how surely; 0 and 1.5 are ties."""
    preference = float(row["preference"]) or 1.5
    texts = (row["output_1"], row["output_2"])
    if not 1 <= preference <= 2:
        raise NoRating
    scores = (2 - preference, preference - 1)
    others = {k: v for k, v in row.items() if k not in ("output_1", "output_2", "preference", *BESIDE, *ALPACA_EVAL)}
    inputs = _inputs(others, (), where, texts)
    return Judged(Ranking.graded(inputs, texts, scores, _identity(row)))  # which was shown first is not told


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
    judged = _shown(Ranking.graded({"question": question}, texts, scores, _identity(row)), texts)
    return judged._replace(first=None, turned=winners[0] != winners[1])


def _listed(row: Row, where: str) -> Judged:
    others = {k: v for k, v in row.items() if k not in ("candidates", "scores", *BESIDE)}
    inputs = others["inputs"] if set(others) == {"inputs"} else _inputs(others, (), where)
    candidates = _list(row, "candidates", where)
    if row.get("scores") in (None, ""):
        return Judged(Ranking(inputs, candidates, id=_identity(row)))
    scores = _list(row, "scores", where)
    if wrong := [score for score in scores if not _is_number(score)]:
        raise DataError(f"{where}: the score {wrong[0]!r:.60} is no number")
    return _shown(Ranking.graded(inputs, candidates, [float(s) for s in scores], _identity(row)), candidates)


def _shown(ranking: Ranking, texts: Sequence[str]) -> Judged:
    """A ranking of texts in the order in which they were shown."""
    return Judged(ranking, ranking.candidates.index(texts[0]))


def _identity(row: Row) -> str | None:
    found = row.get("id", row.get("question_id"))
    return None if found is None else str(found)


def _one_completion(row: Row, where: str) -> Feedback:
    said = _said(row)
    others = {k: v for k, v in row.items() if k not in ("completion", *SAID, *BESIDE)}
    given = row["completion"] if "completion" in row else row["messages"]
    if isinstance(given, str):
        return Feedback(_inputs(others, (), where, (given,)), given, said, _identity(row))
    before, completion = _split_turns(given, where)
    if "completion" not in row:
        others.pop("messages")
    return Feedback(_inputs(others, before, where, (completion,)), completion, said, _identity(row))


def _said(row: Row) -> Any:
    """What somebody thought: a thumb or a grade too where the file, such as a CSV file, holds words only."""
    name = next(name for name in SAID if name in row)
    if name == "feedback" or not isinstance(row[name], str):
        return row[name]
    word = row[name].strip().lower()
    return THUMBS.get(word, float(word) if _is_number(word) else row[name])


def _judged_single(row: Row, where: str) -> Feedback:
    if float(row["score"]) < 0:
        raise NoRating
    if found := _SINGLE.search(row["user_prompt"]):
        question, answer = (part.strip() for part in found.groups())
        return Feedback({"question": question}, answer, float(row["score"]), _identity(row))
    turns = [
        Message("user" if who == "User" else "assistant", said.strip())
        for who, said in _TURNS.findall(row["user_prompt"])
    ]
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise DataError(f"{where}: no question and answer are found in 'user_prompt'")
    return Feedback({"history": tuple(turns[:-1])}, turns[-1].content, float(row["score"]), _identity(row))


SAID = ("label", "said", "feedback", "rating", "score")
"""Columns that hold what somebody thought of a completion; the first that is there counts."""

GRADES = ("overall_score", "score", "fine-grained_score")
"""What a completion's grade may be called."""

THUMBS = {"true": True, "yes": True, "up": True, "👍": True, "false": False, "no": False, "down": False, "👎": False}

RANKINGS: tuple[tuple[Callable[[Row], bool], Callable[[Row, str], Judged]], ...] = (
    (lambda row: {"chosen", "rejected"} <= row.keys(), _a_pair),
    (lambda row: "completions" in row, _graded_completions),
    (lambda row: {"output_1", "output_2", "preference"} <= row.keys(), _two_outputs),
    (lambda row: {"g1_winner", "g2_winner", "g1_user_prompt"} <= row.keys(), _judged_pair),
    (lambda row: "candidates" in row, _listed),
)
FEEDBACK: tuple[tuple[Callable[[Row], bool], Callable[[Row, str], Feedback]], ...] = (
    (lambda row: {"user_prompt", "judgment", "score"} <= row.keys(), _judged_single),
    (lambda row: bool({"completion", "messages"} & row.keys()) and any(name in row for name in SAID), _one_completion),
)
