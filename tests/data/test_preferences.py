"""Rankings and feedback from rows of every known form, and what is refused or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from condition.data.preferences import read_feedback, read_opinions, read_rankings
from condition.errors import DataError
from condition.types import Feedback, Message, Ranking

ASKED = (Message("user", "Why?"),)
USER, GOOD, BAD = ({"role": r, "content": c} for r, c in (("user", "Why?"), ("assistant", "so"), ("assistant", "no")))
PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"question": "Why?", "chosen": "so", "rejected": "no"},
    "dialogues": {"chosen": "\n\nHuman: Why?\n\nAssistant: so", "rejected": "\n\nHuman: Why?\n\nAssistant: no"},
    "turns": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "whole turns": {"prompt": "Why?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Why?"}],
        "chosen": {"from": "gpt", "value": "so"},
        "rejected": {"from": "gpt", "value": "no"},
    },
    "alpaca_eval": {"instruction": "Why?", "output_1": "no", "output_2": "so", "preference": 2, "annotator": "x"},
    "ranking": {"question": "Why?", "candidates": ["so", "no"]},
    "scored": {"question": "Why?", "candidates": ["no", "so"], "scores": [1, 4]},
    "ultrafeedback": {
        "instruction": "Why?",
        "models": ["a", "b"],
        "completions": [{"response": "no", "overall_score": 2.0}, {"response": "so", "overall_score": 7.5}],
    },
    "aspects": {
        "instruction": "Why?",
        "completions": [
            {"response": "no", "annotations": {"help": {"Rating": "1"}, "truth": {"Rating": "N/A"}}},
            {"response": "so", "annotations": {"help": {"Rating": "3"}, "truth": {"Rating": "5"}}},
        ],
    },
}


def judged(first: str, second: str, answers: tuple[str, str] = ("so", "no")) -> dict[str, Any]:
    told = "[User Question]\nWhy?\n\n" + "\n\n".join(
        f"[The Start of Assistant {who}'s Answer]\n{said}\n[The End of Assistant {who}'s Answer]"
        for who, said in zip("AB", answers, strict=True)
    )
    return {"question_id": 7, "g1_winner": first, "g2_winner": second, "g1_user_prompt": told, "turn": 1}


@pytest.mark.parametrize("said", ["so", "no"])
def test_a_whole_dialogue_beside_the_pair_is_said_once_more(said: str) -> None:
    """As ultrafeedback_binarized has it: prompt, both sides and the dialogue with the better answer."""
    whole = {"prompt_id": "x", "messages": [USER, {"role": "assistant", "content": said}], "score_chosen": 8.0}
    (turns,) = read_rankings([{**PAIRS["whole turns"], **whole, "score_rejected": 6.5}])
    assert (turns.inputs, turns.candidates) == ({"prompt": "Why?", "prompt_id": "x"}, ("so", "no"))
    assert turns.scores == (8.0, 6.5)
    (texts,) = read_rankings([{"chosen": "so", "rejected": "no", "messages": whole["messages"]}])
    assert texts.inputs == {"history": ASKED}  # an answer is never read as what was said before it
    (liked,) = read_feedback([{"completion": said, "messages": whole["messages"], "label": True}])
    assert liked.inputs == {"history": ASKED}
    other = [{"role": "user", "content": "Who?"}, GOOD]
    with pytest.raises(DataError, match="prompts that differ within a pair"):
        read_rankings([{**PAIRS["whole turns"], "messages": other}])


def test_columns_of_one_s_own_are_inputs() -> None:
    """Only those that UltraFeedback and alpaca_eval keep books in are none, in their own rows."""
    own = {"source": "a book", "models": "both", "margin": 0.5}
    for form in ("texts", "turns", "ranking", "alpaca_eval"):
        found = read_rankings([{**PAIRS[form], **own, "id": 7, "question": "Why?"}])[0]
        assert own.items() <= found.inputs.items()
        assert found.inputs["question"] == "Why?"
        assert "annotator" not in found.inputs
        assert found.id == "7"
    assert read_rankings([PAIRS["ultrafeedback"]])[0].inputs == {"instruction": "Why?"}


@pytest.mark.parametrize("form", list(PAIRS))
def test_a_pair_in_every_form(form: str) -> None:
    (found,) = read_rankings([PAIRS[form]])
    assert found.candidates == ("so", "no")
    assert found.pairs == ((0, 1),)
    assert "Why?" in str(found.inputs)
    assert not {"chosen", "rejected", "candidates", "scores", "completions", "models"} & found.inputs.keys()


def test_what_was_said_before_is_the_history() -> None:
    for form in ("dialogues", "turns", "sharegpt"):
        assert read_rankings([PAIRS[form]])[0].inputs == {"history": ASKED}
    assert read_rankings([PAIRS["whole turns"]])[0].inputs == {"prompt": "Why?"}


def test_grades_are_kept() -> None:
    assert read_rankings([PAIRS["scored"]])[0].scores == (4, 1)
    assert read_rankings([PAIRS["ultrafeedback"]])[0].scores == (7.5, 2.0)
    assert read_rankings([PAIRS["aspects"]])[0].scores == (4.0, 1.0)
    words = [{"response": "no", "overall_score": "2"}, {"response": "so", "overall_score": "N/A", "score": "8"}]
    assert read_rankings([{"completions": words}])[0].scores == (8.0, 2.0)
    assert read_rankings([{"completions": words, "id": 7}])[0].id == "7"
    with pytest.raises(DataError, match="a judgment without a rating"):
        read_rankings([{"completions": [{"response": "no", "score": "N/A"}]}])


@pytest.mark.parametrize(
    ("preference", "candidates", "scores"),
    [
        (1, ("no", "so"), (1, 0)),
        (1.25, ("no", "so"), (0.75, 0.25)),
        (1.75, ("so", "no"), (0.75, 0.25)),
        (1.5, ("no", "so"), (0.5, 0.5)),
        (0, ("no", "so"), (0.5, 0.5)),
    ],
)
def test_alpaca_eval_says_how_surely(
    preference: float, candidates: tuple[str, str], scores: tuple[float, float]
) -> None:
    (found,) = read_rankings([{**PAIRS["alpaca_eval"], "preference": preference}])
    assert (found.candidates, found.scores) == (candidates, scores)


@pytest.mark.parametrize("preference", [0.5, 3, float("nan")])
def test_alpaca_eval_without_a_rating(preference: float) -> None:
    with pytest.raises(DataError, match="a judgment without a rating"):
        read_rankings([{**PAIRS["alpaca_eval"], "preference": preference}])


def test_a_judge_that_contradicts_itself_has_seen_a_tie() -> None:
    assert read_rankings([judged("model_1", "model_1")])[0].candidates == ("so", "no")
    assert read_rankings([judged("model_2", "model_2", ("no", "so"))])[0].candidates == ("so", "no")
    for winners in (("model_1", "model_2"), ("tie", "tie"), ("tie", "model_1")):
        assert read_rankings([judged(*winners)])[0].pairs == ()
    with pytest.raises(DataError, match="row 0: a judgment without a rating; fix the row"):
        read_rankings([judged("error", "model_1")])


UNUSABLE = {
    "an empty candidate": {"q": "Why?", "chosen": "so", "rejected": " "},
    "candidates that are all the same": {"q": "Why?", "chosen": "so", "rejected": "so"},
    "prompts that differ within a pair": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: so",
        "rejected": "\n\nHuman: Who?\n\nAssistant: so",
    },
}
SKIP = r"cd.read_rankings\(rows, unusable='skip'\)"
HALF = {"chosen": "\n\nHuman: Why?\n\nAssistant: so", "rejected": "no"}


@pytest.mark.parametrize("reason", list(UNUSABLE))
def test_rows_that_teach_nothing(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = [PAIRS["texts"], UNUSABLE[reason], UNUSABLE[reason]]
    with pytest.raises(DataError, match=rf"row 1: {reason}; fix the row, or leave such rows out: {SKIP}"):
        read_rankings(rows)
    assert len(read_rankings(rows, unusable="skip")) == 1
    assert f"2 for {reason}" in caplog.text


def test_a_dialogue_beside_words_is_no_pair() -> None:
    with pytest.raises(DataError, match="row 0: prompts that differ within a pair"):
        read_rankings([HALF])


def test_rankings_themselves_are_checked_too() -> None:
    with pytest.raises(DataError, match="row 1: candidates that are all the same"):
        read_rankings([Ranking.pair({}, "a", "b"), Ranking.pair({}, "a", "a")])


def test_a_candidate_counts_once_at_its_best_place(caplog: pytest.LogCaptureFixture) -> None:
    """It can't be better than itself."""
    rows = [
        Ranking({}, ("a", "b", "a"), id="x"),
        {"q": "Why?", "candidates": ["b", "a", "a", "c"], "scores": [4, 5, 1, 2]},
    ]
    one, two = (read_rankings([row])[0] for row in rows)
    assert (one.candidates, one.scores, one.id) == (("a", "b"), None, "x")
    assert (two.candidates, two.scores) == (("a", "b", "c"), (5, 4, 2))
    assert "1 candidates stood in their ranking already" in caplog.text


def test_a_csv_file_holds_words_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("q,completion,label\nWhy?,so,True\nWho?,me,false\nWhat?,it,4.5\nHow?,so,too short\n")
    assert [f.said for f in read_feedback(file)] == [True, False, 4.5, "too short"]
    file.write_text("q,completion,rating\nWhy?,so,Yes\nWho?,me,no\nWhat?,it,👍\nHow?,so,down\n")
    assert [f.said for f in read_feedback(file)] == [True, False, True, False]
    file.write_text("q,completion,feedback\nWhy?,so,true\n")
    assert read_feedback(file)[0].said == "true"  # words are asked for
    file.write_text("q,chosen,rejected,score_chosen,score_rejected\nWhy?,so,no,4.5,2\n")
    assert read_rankings(file)[0].scores == (4.5, 2.0)
    file.write_text('q,candidates,scores\nWhy?,"[""no"", ""so""]","[1, ""4""]"\nWho?,"[""me"", ""you""]",\n')
    one, two = read_rankings(file)
    assert (one.candidates, one.scores) == (("so", "no"), (4, 1))
    assert (two.candidates, two.scores) == (("me", "you"), None)
    file.write_text('q,completions\nWhy?,"[{""text"": ""no"", ""score"": 1}, {""text"": ""so"", ""score"": 2}]"\n')
    assert read_rankings(file)[0].candidates == ("so", "no")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Why?", "answer": "so"}, r"no preferences are known by the columns 'question', 'answer'"),
        ({"chosen": [USER], "rejected": [BAD]}, r"the last turn of a candidate is not the assistant's"),
        ({"completions": [{"text": "a"}, {"text": "b"}]}, r"row 0: a completion without a grade: give each a 'score'"),
        (
            {"candidates": "ab", "scores": [1, 2]},
            r"row 0: candidates is 'ab': give a list; in a CSV file as JSON has it",
        ),
        ({"completions": ["a", "b"]}, r"row 0: 'a' is no completion with a score: give 'candidates' and 'scores'"),
        ({"candidates": "12"}, r"row 0: candidates is '12': give a list"),
        ({"candidates": ["a", "b"], "scores": "high"}, r"row 0: scores is 'high': give a list"),
        ({"candidates": ["a", "b"], "scores": ["1", "high"]}, r"row 0: the score 'high' is no number"),
        (Feedback({}, "a", True), r"Feedback on one completion is no ranking"),
        ({"candidates": ["a", "b"], "scores": [1]}, r"row 0: 2 candidates and 1 scores"),
        ({"candidates": ["a"]}, r"row 0: Ranking.candidates = .* at least 2 items"),
        ({"chosen": 5, "rejected": "x"}, r"row 0: 5 is no candidate: give words, or turns"),
        ({"output_1": "a", "output_2": "b", "preference": "first"}, r"row 0: looks like two_outputs but breaks"),
    ],
)
def test_what_is_no_ranking(row: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_rankings([row], unusable="skip")


def test_opinions_of_any_kind() -> None:
    """Rankings, feedback, both, rows of either, from a generator or a DataFrame."""
    pair, thumb = Ranking.pair({"q": "Why?"}, "so", "no"), Feedback({"q": "Who?"}, "me", True)
    rows = [{"q": "Who?", "completion": "me", "label": True}]
    assert read_opinions(one for one in (pair, thumb, pair)) == [pair, thumb, pair]
    assert read_opinions([PAIRS["texts"]])[0].inputs == {"question": "Why?"}
    assert read_opinions(rows) == read_opinions(iter(rows)) == read_opinions(pandas.DataFrame(rows)) == [thumb]
    with pytest.raises(DataError, match="no preferences are known"):
        read_opinions([{"question": "Why?"}])
    empty = thumb.model_copy(update={"completion": " "})
    with pytest.raises(DataError, match=r"^row 2: an empty completion; .* cd.read_feedback"):
        read_opinions([pair, thumb, empty])
    with pytest.raises(DataError, match=r"^row 1: an empty candidate; .* cd.read_rankings"):
        read_opinions([thumb, pair.model_copy(update={"candidates": ("so", " ")})])


def test_what_is_no_feedback() -> None:
    with pytest.raises(DataError, match=r"row 0: an empty completion; .* cd.read_feedback\(rows, unusable='skip'\)"):
        read_feedback([{"q": "Why?", "completion": " ", "label": True}])
    with pytest.raises(DataError, match="row 0: a judgment without a rating"):
        read_feedback([{"q": "Why?", "completion": "so", "label": " "}])
    for grade in (float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"row 0: Feedback.said"):
            read_feedback([{"q": "Why?", "completion": "so", "label": grade}])
    with pytest.raises(DataError, match=r"row 0: Feedback.said"):
        read_feedback([{"q": "Why?", "completion": "so", "label": None}])


def test_feedback_in_every_form() -> None:
    rows = [
        {"messages": [USER, GOOD], "label": True},
        {"question": "Why?", "completion": "so", "label": False},
        {"question": "Why?", "completion": "so", "score": 3},
        {"question": "Why?", "completion": "so", "feedback": "too short"},
    ]
    found = read_feedback(rows)
    assert [f.said for f in found] == [True, False, 3.0, "too short"]
    assert [f.inputs for f in found] == [{"history": ASKED}] + [{"question": "Why?"}] * 3
    assert all(f.completion == "so" for f in found)
    assert read_feedback([Feedback({}, "so", 0.5)])[0].said == 0.5


def test_a_graded_judgment() -> None:
    told = "[Question]\nWhy?\n\n[The Start of Assistant's Answer]\nso\n[The End of Assistant's Answer]"
    turns = (
        "<|The Start of Assistant A's Conversation with User|>\n\n### User:\nWhy?\n\n### Assistant A:\nso\n\n"
        "### User:\nWho?\n\n### Assistant A:\nme\n\n<|The End of Assistant A's Conversation with User|>"
    )
    rows = [{"user_prompt": p, "judgment": "…", "score": s} for p, s in ((told, 8), (turns, 3), (told, -1))]
    with pytest.raises(DataError, match="row 2: a judgment without a rating"):
        read_feedback(rows)
    one, two = read_feedback(rows, unusable="skip")
    assert (one.inputs, one.completion, one.said) == ({"question": "Why?"}, "so", 8.0)
    assert (two.inputs["history"][1:], two.completion) == ((Message("assistant", "so"), Message("user", "Who?")), "me")


def test_from_a_file_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, [PAIRS["texts"], UNUSABLE["an empty candidate"]])))
    with pytest.raises(DataError, match=r"pairs.jsonl:2: an empty candidate"):
        read_rankings(file)


@pytest.mark.parametrize(
    ("name", "count", "left_out"),
    [
        ("hh_rlhf/harmless_base_test.jsonl.gz", 994, 6),
        ("alpaca_eval/gpt4_preferences.jsonl.gz", 1791, 9),
        ("preference/dpo_en_demo.jsonl.gz", 200, 0),
        ("mt_bench/skycamp_judgment_gpt-4_pair.jsonl", 9, 0),
    ],
)
def test_real_files(shared_data: Path, name: str, count: int, left_out: int) -> None:
    found = read_rankings(shared_data / name, unusable="skip")
    assert len(found) == count
    assert all(len(r.candidates) == 2 for r in found)
    if left_out:
        with pytest.raises(DataError, match="unusable='skip'"):
            read_rankings(shared_data / name)
