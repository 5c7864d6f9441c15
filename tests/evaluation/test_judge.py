from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from condition.errors import DataError, ModelError, SettingsError
from condition.evaluation.agreement import agreement
from condition.evaluation.judge import (
    Judge,
    Judgement,
    Pair,
    PairwiseJudge,
    RubricJudge,
    VerifierJudge,
    by_moderator,
    rating,
    tally,
    verdict,
)
from condition.moderation.words import WordList
from condition.prompts.template import ChatPrompt
from condition.protocols import Control
from condition.types import Completion, Messages, Sampling

PAIRS = [Pair("Q1", "good", "bad"), Pair("Q2", "bad", "good"), Pair("Q3", "bad", "bad")]


class Reader:
    """Replies by a rule to what it is shown; writes down how often it was called."""

    name = "reader"

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.calls: list[list[Messages]] = []

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        self.calls.append(list(prompts))
        return [[Completion(self.rule(messages[-1].content))] for messages in prompts]


def better(shown: str) -> str:
    a, b = ("good" in part for part in shown.partition("Answer A:")[2].split("Answer B:"))
    return f"Because. [[{'C' if a == b else 'A' if a else 'B'}]]"


def test_a_pair_is_judged_in_both_orders_in_one_call() -> None:
    reader = Reader(better)
    found = PairwiseJudge(reader)(PAIRS)
    assert [judgement.winner for judgement in found] == ["first", "second", "tie"]
    assert all(judgement.is_consistent and len(judgement.replies) == 2 for judgement in found)
    (call,) = reader.calls
    assert len(call) == 6
    assert call[0][-1].content == "Question:\nQ1\n\nAnswer A:\ngood\n\nAnswer B:\nbad"
    assert call[1][-1].content == "Question:\nQ1\n\nAnswer A:\nbad\n\nAnswer B:\ngood"


def test_a_judge_that_prefers_a_place_has_told_nothing_apart() -> None:
    found = PairwiseJudge(Reader(lambda shown: "[[A]]"))(PAIRS)
    assert [judgement.winner for judgement in found] == ["tie"] * 3
    counted = tally(found)
    assert (counted.inconsistent, counted.ties, counted.win_rate.value) == (3, 3, 0.5)
    alone = PairwiseJudge(Reader(lambda shown: "[[A]]"), both_orders=False)(PAIRS)
    assert [judgement.winner for judgement in alone] == ["first"] * 3


def test_nonsense_is_counted_and_never_guessed() -> None:
    found = PairwiseJudge(Reader(lambda shown: "[[A]] or [[B]]" if "Q1" in shown else better(shown)))(PAIRS)
    assert [judgement.winner for judgement in found] == [None, "second", "tie"]
    counted = tally(found)
    assert (counted.unreadable, counted.losses, counted.ties, counted.win_rate.n) == (1, 1, 1, 2)
    assert "1 unreadable" in str(counted)
    with pytest.raises(DataError, match="no verdict in 1 judgements"):
        tally(found[:1])
    half = PairwiseJudge(Reader(lambda shown: "I like it." if "A:\nbad" in shown else better(shown)))(PAIRS[:1])
    assert half[0].winner is None  # one order alone decides nothing


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("Both fine. [[C]]", "tie"),
        ("[[A]] ... so: [[A]]", "first"),
        ("[[A]] then [[B]]", None),
        ("A is better", None),
        ("[A]", None),
        ("", None),
    ],
)
def test_verdicts(text: str, winner: str | None) -> None:
    assert verdict(text) == winner


@pytest.mark.parametrize(
    ("text", "points"),
    [("[[7]]", 7), ("[[7.5]] yes [[7.5]]", 7.5), ("[[6]] or [[7]]", None), ("7", None), ("[[-2]]", -2), ("[[]]", None)],
)
def test_ratings(text: str, points: float | None) -> None:
    assert rating(text) == points


def test_a_rubric_rates_each_answer() -> None:
    reader = Reader(lambda shown: f"So: [[{'9' if 'good' in shown else '2'}]]")
    judge = RubricJudge(reader, "Is it {nice}?")
    assert [judgement.winner for judgement in judge(PAIRS)] == ["first", "second", "tie"]
    assert len(reader.calls[0]) == 6
    assert "by this rubric: Is it {nice}?" in reader.calls[0][0][0].content
    assert "from 1 (worst) to 10 (best)" in reader.calls[0][0][0].content
    assert [found.points for found in judge.rate([("Q", "good"), ("Q", "")])] == [9, 2]


def test_a_rating_off_the_scale_is_none() -> None:
    judge = RubricJudge(Reader(lambda shown: "[[11]]" if "good" in shown else "[[5]]"))
    assert [judgement.winner for judgement in judge(PAIRS)] == [None, None, "tie"]
    near = RubricJudge(Reader(lambda shown: "[[6]]" if "good" in shown else "[[5]]"), margin=1)
    assert {judgement.winner for judgement in near(PAIRS)} == {"tie"}
    own = RubricJudge(Reader(lambda shown: shown), prompt="{question} {answer}", parse=lambda text: 3.0)
    assert own.rate([("a", "b")])[0].reply == "a b"


def test_a_reward_model_or_a_classifier_as_judge() -> None:
    def length(question: str, candidates: Sequence[str], /) -> list[float]:
        return [float(len(candidate)) for candidate in candidates]

    judges: list[Judge] = [VerifierJudge(length), VerifierJudge(by_moderator(WordList(["bad"])))]
    for judge in judges:
        assert [judgement.winner for judgement in judge(PAIRS)] == ["first", "second", "tie"]
    assert {judgement.winner for judgement in VerifierJudge(length, margin=1)(PAIRS)} == {"tie"}
    broken = VerifierJudge(lambda question, candidates: [math.nan, 1.0])
    assert {judgement.winner for judgement in broken(PAIRS)} == {None}
    with pytest.raises(ModelError, match="a number for each"):
        VerifierJudge(lambda question, candidates: [1.0])(PAIRS)


def test_no_pairs_ask_nothing() -> None:
    reader = Reader(better)
    assert PairwiseJudge(reader)([]) == []
    assert reader.calls == []


def test_by_question_intervals_are_wider() -> None:
    judged = [Judgement(winner="first" if q % 2 else "second") for q in range(20) for _ in range(5)]
    questions = [q for q in range(20) for _ in range(5)]
    alone, together = tally(judged).win_rate, tally(judged, questions).win_rate
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PairwiseJudge(Reader(better), "{question} {answer}"), "answer_a"),
        (lambda: RubricJudge(Reader(better), prompt="{question} {answer} {hint}"), "hint"),
        (lambda: RubricJudge(Reader(better), lowest=3, highest=3), "lowest < highest"),
        (lambda: VerifierJudge(5), "no verifier"),  # type: ignore[arg-type]
    ],
)
def test_judges_that_can_not_be(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_recorded_judgements_of_pairs(shared_data: Path) -> None:
    """GPT-4's judgements in both orders, read as FastChat read them."""
    rows = lines(shared_data / "mt_bench" / "skycamp_judgment_gpt-4_pair.jsonl")
    said = {f"{i}": (row["g1_judgment"], row["g2_judgment"]) for i, row in enumerate(rows)}
    prompt = ChatPrompt([("user", "{question} {answer_a} {answer_b}")])
    reader = Reader(lambda shown: said[shown.split()[0]][shown.split()[1] == "second"])
    found = PairwiseJudge(reader, prompt)([Pair(number, "first", "second") for number in said])
    names = {"model_1": "first", "model_2": "second", "tie": "tie"}
    for row, judgement in zip(rows, found, strict=True):
        same = row["g1_winner"] == row["g2_winner"]
        assert judgement.winner == (names[row["g1_winner"]] if same else "tie")
        assert judgement.is_consistent == same
    assert 0 < tally(found).inconsistent < len(rows)


def test_recorded_ratings_of_a_weak_judge(shared_data: Path) -> None:
    """Nine in ten of its replies hold no rating; FastChat also takes the first of two, and one in single brackets."""
    rows = lines(shared_data / "mt_bench" / "self_judgment_granite-7b-lab.jsonl")
    found = [rating(row["judgment"]) for row in rows]
    theirs = [None if row["score"] == -1 else float(row["score"]) for row in rows]
    assert found.count(None) == 94
    assert all(points in (None, other) for points, other in zip(found, theirs, strict=True))


def test_how_far_length_agrees_with_gpt_4(shared_data: Path) -> None:
    """The longer answer is a judge of a kind: better than chance, and far from the real one."""
    folder = shared_data / "vicuna_bench"
    questions = {row["question_id"]: row["turns"][0] for row in lines(folder / "question.jsonl")}
    answers = {row["answer_id"]: row["text"] for row in lines(folder / "answers.jsonl")}
    rows = [r for r in lines(folder / "gpt4_pairwise_reviews.jsonl") if min(r["score"]) >= 0]
    pairs = [Pair(questions[r["question_id"]], answers[r["answer1_id"]], answers[r["answer2_id"]]) for r in rows]
    longer = VerifierJudge(lambda question, candidates: [float(len(candidate)) for candidate in candidates])
    gpt_4 = ["tie" if a == b else "first" if a > b else "second" for a, b in (r["score"] for r in rows)]
    found = agreement([judgement.winner for judgement in longer(pairs)], gpt_4)
    assert found.share.n == len(rows) > 200
    assert 0.1 < found.kappa.value < 0.8
    assert found.kappa.low > 0


def test_a_parser_that_gives_something_else_is_told() -> None:
    reader = Reader(lambda shown: "A")
    for both in (True, False):
        with pytest.raises(SettingsError, match="parse= gave 'A': a verdict is 'first', 'second' or 'tie', or None"):
            PairwiseJudge(reader, parse=lambda text: text, both_orders=both)(PAIRS)  # type: ignore[arg-type, return-value]
    with pytest.raises(SettingsError, match="parse= gave 'A': a rating is a number, or None"):
        RubricJudge(reader, parse=lambda text: text).rate([("Q", "a")])  # type: ignore[arg-type, return-value]


def test_a_verifier_without_points_gives_no_verdict() -> None:
    judge = VerifierJudge(lambda question, candidates: [None, 1.0])  # type: ignore[list-item]
    assert [judgement.winner for judgement in judge(PAIRS[:1])] == [None]
