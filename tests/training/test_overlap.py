"""Rows that stand twice, and training rows that are validation rows too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from condition.errors import DataError
from condition.models.local import LocalModel
from condition.prompts.template import as_prompt
from condition.training.candidates import prepare_rankings
from condition.training.hindsight import HindsightTrainer, prepare_chains, sentence
from condition.training.kto import KTOTrainer, prepare_thumbs
from condition.training.overlap import without_repeats
from condition.training.preference import DPOTrainer
from condition.training.pro import PROTrainer
from condition.training.reward import RewardTrainer
from condition.training.rows import Origin, Prepared, Row, prepare
from condition.training.settings import Settings
from condition.types import Example, Feedback, Ranking
from tests.conftest import TinyModel


def prepared(words: str, named: bool = True) -> Prepared:
    """A row for each letter; a capital says what the small one says."""
    rows = [Row((ord(letter), 1), 1) for letter in words]
    origins = [Origin(f"row {i} ({letter})", letter.lower()) for i, letter in enumerate(words)]
    return Prepared(rows, 0, 0, origins if named else ())


def letters(rows: Prepared) -> str:
    return "".join(chr(row.ids[0]) for row in rows.rows)


def test_shared_rows_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"training rows row 1 \(b\), row 3 \(C\) are in the validation data.*'drop'"):
        without_repeats(prepared("abdC"), prepared("xBc"), Settings())
    with pytest.raises(DataError, match=r"and 2 more are"):
        without_repeats(prepared("abcde"), prepared("abcde"), Settings())


def test_or_dropped_or_allowed() -> None:
    dropped = without_repeats(prepared("abdC"), prepared("xBc"), Settings(overlap="drop"))
    assert (letters(dropped), dropped.dropped, [o.key for o in dropped.origins]) == ("ad", 2, ["a", "d"])
    assert letters(without_repeats(prepared("ab"), prepared("ab"), Settings(overlap="allow"))) == "ab"
    with pytest.raises(DataError, match="no training rows left"):
        without_repeats(prepared("ab"), prepared("ab"), Settings(overlap="drop"))


def test_repeated_rows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "condition"):
        assert letters(without_repeats(prepared("abAa"), None, Settings())) == "abAa"
    assert "2 training rows say what another one says" in caplog.text
    assert letters(without_repeats(prepared("abAa"), None, Settings(duplicates="drop"))) == "ab"
    assert "left out 2 of 4 training rows: repeats of an earlier row" in caplog.text
    with pytest.raises(DataError, match=r"row 2 \(A\), row 3 \(a\) were there before.*duplicates='drop'"):
        without_repeats(prepared("abAa"), None, Settings(duplicates="raise"))
    both = Settings(duplicates="drop", overlap="drop")
    assert letters(without_repeats(prepared("abAac"), prepared("b"), both)) == "ac"


def test_rows_without_a_known_origin_are_compared_as_they_are() -> None:
    with pytest.raises(DataError, match="training row 0 is in"):
        without_repeats(prepared("ab", named=False), prepared("a", named=False), Settings())
    assert letters(without_repeats(prepared("ab", named=False), prepared("A", named=False), Settings())) == "ab"


# Of all kinds of rows

LONG = "xyz " * 400
"""More than the limit below."""
KINDS: dict[str, Callable[..., Prepared]] = {
    "examples": prepare,
    "rankings": prepare_rankings,
    "thumbs": prepare_thumbs,
    "chains": partial(prepare_chains, sentence=sentence),
}
ASKED = st.sampled_from(["Why?", " why?", "WHY?", "Who is it?", "who  is\nit?", LONG + "Why?", LONG + "why?"])
TEXT = st.sampled_from(["so", "So", "s o", "no", "NO", "it is  so", "It is so"])
ID = st.sampled_from([None, "a", "b"])
SCORES = st.sampled_from([None, (1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.0, 2.0, 1.0), (3.0, 2.0, 1.0)])


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    texts, scores = draw(st.lists(TEXT, min_size=2, max_size=3, unique=True)), draw(SCORES)
    return Ranking({"q": draw(ASKED)}, texts, scores and scores[: len(texts)], draw(ID))


FEEDBACK = st.builds(lambda q, text, said, name: Feedback({"q": q}, text, said, name), ASKED, TEXT, st.booleans(), ID)
DATA: dict[str, st.SearchStrategy[Any]] = {
    "examples": st.builds(lambda q, text, name: Example({"q": q}, text, id=name), ASKED, TEXT, ID),
    "rankings": rankings(),
    "thumbs": rankings() | FEEDBACK,
    "chains": rankings() | FEEDBACK,
}


def small(text: str) -> str:
    return " ".join(text.lower().split())


def says(kind: str, row: Any, policy: str) -> list[tuple[Any, ...]]:
    """What each row says that is made of one; none of what is left out."""
    asked = small(row.inputs["q"])
    if LONG in row.inputs["q"] and policy == "drop":
        return []
    if isinstance(row, Example):
        return [(asked, small(row.target))]
    if isinstance(row, Feedback):
        return [(asked, small(row.completion), row.said)]
    worse = {j for _, j in row.pairs}
    told = [(small(text), place not in worse) for place, text in enumerate(row.candidates)]
    whole = {
        "rankings": [(asked, *(text for text, _ in told))],
        "thumbs": [(asked, *one) for one in told],
        "chains": [(asked, *(part for one in told for part in one))],
    }
    return whole[kind] if worse else []


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> LocalModel:
    return tiny_model()


@pytest.mark.parametrize("kind", list(KINDS))
@hypothesis_settings(max_examples=20)
@given(st.data())
def test_rows_are_the_same_where_their_words_are(model: LocalModel, kind: str, data: st.DataObject) -> None:
    """What is dropped and what is named are just those, whatever was left out or trimmed before them."""
    policy: Any = data.draw(st.sampled_from(["drop", "trim"]))
    train, held = (data.draw(st.lists(DATA[kind], min_size=2, max_size=6)) for _ in range(2))
    ours = [
        (f"row {i} ({row.id})" if row.id else f"row {i}", said)
        for i, row in enumerate(train)
        for said in says(kind, row, policy)
    ]
    theirs = [said for row in held for said in says(kind, row, policy)]
    assume(min(len(ours), len(theirs)) >= 2)
    limited = {"max_length": 400, "too_long": policy}
    rows, others = (KINDS[kind](model, of, as_prompt("{q}"), Settings(**limited), "training") for of in (train, held))
    assert [origin.name for origin in rows.origins] == [name for name, _ in ours]
    for row, origin in zip(rows.rows, rows.origins, strict=True):
        source = train[int(origin.name.split()[1])]
        assert source.inputs["q"].removeprefix(LONG) in model.tokenizer.decode(row.ids)

    check(rows, others, Settings(overlap="drop"), [i for i, (_, said) in enumerate(ours) if said not in theirs])
    firsts = [i for i, (_, said) in enumerate(ours) if said not in [before for _, before in ours[:i]]]
    check(rows, None, Settings(duplicates="drop"), firsts)
    for against, again, options in (
        (others, [name for name, said in ours if said in theirs], {"overlap": "raise"}),
        (None, [name for i, (name, _) in enumerate(ours) if i not in firsts], {"duplicates": "raise"}),
    ):
        names = list(dict.fromkeys(again))
        if not names:
            without_repeats(rows, against, Settings(**options))
            continue
        with pytest.raises(DataError) as error:
            without_repeats(rows, against, Settings(**options))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        told = f"training {'rows ' * (len(names) > 1)}{', '.join(names[:3])}{more} "
        assert str(error.value).startswith((f"{told}is ", f"{told}was ", f"{told}are ", f"{told}were "))


def check(rows: Prepared, others: Prepared | None, settings: Settings, left: Sequence[int]) -> None:
    """Whether just those rows are left, each with its name."""
    if not left:
        with pytest.raises(DataError, match="no training rows left"):
            without_repeats(rows, others, settings)
        return
    found = without_repeats(rows, others, settings)
    assert list(found.rows) == [rows.rows[i] for i in left]
    assert [origin.name for origin in found.origins] == [rows.origins[i].name for i in left]
    assert found.dropped == rows.dropped + len(rows.rows) - len(left)


PAIRS = [
    Ranking.graded({"q": "Which?"}, ["this", "that"], [1.0, 1.0]),
    Ranking.pair({"q": "Why?"}, "so", "no"),
    Ranking({"q": "Who?"}, ("me", "you"), (2.0, 1.0), "x7"),
]


@pytest.mark.parametrize("trainer", [DPOTrainer, PROTrainer, RewardTrainer, HindsightTrainer, KTOTrainer])
def test_every_trainer_on_preferences_refuses_shared_rows_by_name(model: LocalModel, trainer: Any) -> None:
    """By how much the better one is better makes no other row; that another one is better does."""
    held = [Ranking.graded({"q": "who? "}, ["ME", "You"], [9.0, 1.0]), Ranking.pair({"q": "Why?"}, "No", "So")]
    for settings in (Settings(), Settings(max_length=100, too_long="trim")):
        with pytest.raises(DataError, match=r"^training row 2 \(x7\) is in the validation data too"):
            trainer(settings=settings).fit(model, PAIRS, prompt="{q}", validation=held)


@pytest.mark.parametrize("kind", ["examples", "rankings"])
def test_an_input_that_the_prompt_leaves_out_makes_no_other_row(model: LocalModel, kind: str) -> None:
    made: dict[str, Callable[[str], Any]] = {
        "examples": lambda title: Example({"q": "Why?", "title": title}, f"{title} so"),
        "rankings": lambda title: Ranking.pair({"q": "Why?", "title": title}, f"{title} so", "no"),
    }
    one, other = (KINDS[kind](model, [made[kind](t)], as_prompt("{q}"), Settings(), "training") for t in "Aa")
    with pytest.raises(DataError, match="training row 0 is in the validation data too"):
        without_repeats(one, other, Settings())
    one, other = (KINDS[kind](model, [made[kind](t)], as_prompt("{q}{title}"), Settings(), "training") for t in "AB")
    with pytest.raises(DataError, match="training row 0 is in the validation data too"):
        without_repeats(one, one, Settings())
    assert without_repeats(one, other, Settings()) is one


def test_other_answers_to_a_prompt_of_the_validation_data_are_told(
    model: LocalModel, caplog: pytest.LogCaptureFixture
) -> None:
    held = prepare_rankings(
        model, [Ranking.pair({"q": "WHY?"}, "so", "never")], as_prompt("{q}"), Settings(), "validation"
    )
    rows = prepare_rankings(model, PAIRS, as_prompt("{q}"), Settings(), "training")
    for settings, told in ((Settings(), True), (Settings(overlap="allow"), False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "condition"):
            assert without_repeats(rows, held, settings) is rows
        assert ("1 training rows ask what validation rows ask" in caplog.text) == told
    one, other = (prepare(model, [{"target": text}], as_prompt("Say something"), Settings()) for text in "ab")
    caplog.clear()
    with caplog.at_level(logging.INFO, "condition"):
        without_repeats(one, other, Settings())
    assert "ask what" not in caplog.text  # without inputs all rows have one prompt
