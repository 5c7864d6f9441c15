"""Rankings as the network reads them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tokenizers import normalizers

from condition.errors import DataError
from condition.prompts.template import as_prompt
from condition.training.candidates import Pair, best_against_rest, prepare_rankings
from condition.training.hindsight import prepare_chains, sentence
from condition.training.kto import prepare_thumbs
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import TinyModel

RANKING = Ranking({"q": "Why?"}, ("so", "no", "well"), (3.0, 1.0, 1.0))


def prepared(model: Any, rows: Any, **options: Any) -> Any:
    return prepare_rankings(model, rows, as_prompt("{q}"), Settings(), "training", **options)


def test_the_prompt_is_the_same_before_each(tiny_model: TinyModel) -> None:
    model = tiny_model()
    (row,) = prepared(model, [RANKING]).rows
    asked = model.render("Why?").ids
    assert row.prompt == asked
    assert row.sequences == [model.render("Why?", text).ids for text in RANKING.candidates]
    assert all(completion[-1] == 2 for completion in row.completions)  # the stop token is part of each
    assert row.size == len(asked) + sum(len(model.render("Why?", text).ids) - len(asked) for text in RANKING.candidates)


def test_pairs_and_what_the_loss_is_a_mean_of(tiny_model: TinyModel) -> None:
    model = tiny_model()
    (row,) = prepared(model, [RANKING]).rows
    assert row.pairs == (Pair(0, 1, 2.0), Pair(0, 2, 2.0))
    assert len(row.labels) == 2
    (whole,) = prepared(model, [RANKING], by_pair=False).rows
    assert len(whole.labels) == 1
    graded = Ranking({"q": "Why?"}, ("so", "no", "well"), (3.0, 2.0, 1.0))
    assert len(prepared(model, [graded]).rows[0].pairs) == 3
    assert prepared(model, [graded], choose=best_against_rest).rows[0].pairs == (Pair(0, 1, 1.0), Pair(0, 2, 2.0))


def test_a_long_prompt_is_cut_alike_before_all(tiny_model: TinyModel) -> None:
    model = tiny_model()
    long = Ranking({"q": "the sky " * 100}, ("so", "no " * 40, "well"))
    settings = Settings(max_length=128, too_long="trim")
    found = prepare_rankings(model, [RANKING, long], as_prompt("{q}"), settings, "training")
    assert found.trimmed == 1
    row: Any = found.rows[1]
    whole = [model.render(long.inputs["q"], text) for text in long.candidates]
    start = len(whole[0].prompt_ids)
    assert row.completions == tuple(one.ids[start:] for one in whole)
    assert max(map(len, row.sequences)) == 128
    words = next(span for span in whole[0].spans if span.role == "user")
    gone = words.start + max(len(one.ids) for one in whole) - 128
    assert row.prompt == whole[0].prompt_ids[: words.start] + whole[0].prompt_ids[gone:]


def test_scores_are_asked_for_where_they_count(tiny_model: TinyModel) -> None:
    rows = [RANKING, Ranking.pair({"q": "Why?"}, "so", "no")]
    assert len(prepared(tiny_model(), rows).rows) == 2
    with pytest.raises(DataError, match="training row 1 has no scores, by which margins=True goes"):
        prepared(tiny_model(), rows, scored="margins")


def test_other_words_may_be_the_same_tokens(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model()
    model.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    one, other = "caf\u00e9", "cafe\u0301"
    rows = [Ranking.pair({"q": "Where?"}, one, other), Ranking({"q": "Where?"}, (one, other, "at home"))]
    found = prepared(model, rows)
    assert [row.pairs for row in found.rows] == [(Pair(0, 2), Pair(1, 2))]
    assert "1 with the same tokens in all candidates" in caplog.text


def test_what_is_left_out_is_counted(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    tied = Ranking({"q": "Why?"}, ("so", "no"), (1.0, 1.0))
    found = prepared(tiny_model(), [RANKING, tied, tied])
    assert (len(found.rows), found.dropped) == (1, 2)
    assert "training rows left out: 2 with all candidates tied" in caplog.text


def test_what_rankings_say_is_the_same_behind_every_prompt_and_another_with_other_scores(tiny_model: TinyModel) -> None:
    model = tiny_model()
    graded = Ranking({"q": "Why?"}, ("so", "no", "well"), (3.0, 2.0, 1.0))
    one = prepared(model, [graded])
    assert one.says == prepare_rankings(model, [graded], as_prompt("Say: {q}"), Settings(), "training").says is not None
    others = [prepared(model, [RANKING]), prepared(model, [graded], choose=best_against_rest)]
    assert len({one.says, *(other.says for other in others)}) == 3
    assert {origin.key for found in (one, *others) for origin in found.origins} == {one.origins[0].key}


PAIR = {"chosen": "so", "rejected": "no", "q": "Why?", "id": "7", "score_chosen": 2, "score_rejected": 1}


@pytest.mark.parametrize(
    ("prepare", "row"),
    [
        (prepare_rankings, PAIR),
        (prepare_thumbs, PAIR),
        (prepare_thumbs, {"q": "Why?", "completion": "so", "label": True, "id": "7"}),
        (partial(prepare_chains, sentence=sentence), PAIR),
        (partial(prepare_chains, sentence=sentence), {"q": "Why?", "completion": "so", "label": 3.0, "id": "7"}),
    ],
    ids=["rankings", "pair as thumbs", "thumbs", "chains", "graded"],
)
def test_a_column_about_the_judgment_is_asked_for_by_another_name(
    tiny_model: TinyModel, prepare: Any, row: Any
) -> None:
    prepare = partial(prepare, tiny_model(), settings=Settings(), what="training")
    with pytest.raises(DataError) as error:
        prepare([row, row], prompt=as_prompt("{id} {q}"))
    assert str(error.value) == (
        "training row 0 (7): the prompt needs the column 'id'; the row has 'q'. 'id' is reserved for the row itself "
        "and no input of a Ranking or Feedback: copy it to a column of another name, and ask for that"
    )
    rows = [{**row, "number": row["id"]}, {**row, "q": "Who?", "number": "8"}]
    assert len(prepare(rows, prompt=as_prompt("{number} {q}")).origins) in (2, 4)
    if "chosen" in row:
        with pytest.raises(DataError, match="'id', 'score_chosen' are reserved for the row itself and no input of a"):
            prepare([row, row], prompt=as_prompt("{id} {q} {score_chosen}"))
        with pytest.raises(DataError, match=r"the prompt needs the column 'rationale'; the row has 'q'$"):
            prepare([row, row], prompt=as_prompt("{rationale} {q}"))
