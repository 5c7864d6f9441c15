"""Rows: rendered once, checked before work, counted where dropped or trimmed."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

from condition.data.read import read
from condition.errors import DataError
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.training.rows import Row, collate, prepare
from condition.training.settings import Settings
from condition.types import Example, Message
from tests.conftest import TinyModel

PROMPT = ChatPrompt([("system", "Answer."), ("user", "{context}\n\n{question}")])
ROWS = [
    {"context": "The sky is blue.", "question": "Which colour?", "target": "blue"},
    {"context": "The bridge was built in 1784. " * 12, "question": "When?", "target": "1784"},
]


def test_a_row_is_what_the_renderer_makes(tiny_model: TinyModel) -> None:
    model = tiny_model()
    [row, _] = prepare(model, ROWS, PROMPT, Settings()).rows
    rendered = model.render(PROMPT.format(context=ROWS[0]["context"], question=ROWS[0]["question"]), "blue")
    assert row == Row(rendered.ids, len(rendered.prompt_ids))
    assert row.ids[-1] == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no training rows: the data is empty"),
        (
            [{"context": "x", "target": "y"}],
            r"^training row 0: the prompt needs the column 'question'; the row has 'context'",
        ),
        ([{"context": "x", "question": "y"}], "row 0: no column 'target'"),
        ([ROWS[0], {**ROWS[0], "target": " "}], "row 1: the target is empty"),
        ([{**ROWS[0], "target": 5}], "row 0: the target is int, not text: 5"),
        ([5], "row 0: expected a mapping or an Example, got int"),
        (7, "can't read rows from int"),
        ("nowhere.jsonl", r"nowhere\.jsonl: no such file"),
        ([Example({"context": "x"}, "y", id="a7")], r"row 0 \(a7\): the prompt needs the column 'question'"),
    ],
)
def test_bad_rows(tiny_model: TinyModel, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare(tiny_model(), rows, PROMPT, Settings())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"title": "x"}, "needs the columns 'context', 'question'; the row has 'title'$"),
        ({"context": "x", " question": "y"}, "needs the column 'question'.*; the name ' question' has spaces"),
        ({"context": None, "question": "y"}, r"training row 0: 'context' is null"),
        ({"context": None, "question": "y", "id": "a7"}, r"training row 0 \(a7\): 'context' is null"),
    ],
)
def test_columns_that_do_not_fit_the_prompt(tiny_model: TinyModel, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare(tiny_model(), [{**row, "target": "a"}], PROMPT, Settings())


def test_a_null_is_named_by_file_and_line(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"context": null, "question": "q", "target": "a"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2\): 'context' is null"):
        prepare(tiny_model(), path, PROMPT, Settings())


def test_a_null_that_the_prompt_does_not_use_is_fine(tiny_model: TinyModel) -> None:
    assert len(prepare(tiny_model(), [{**ROWS[0], "hint": None}], PROMPT, Settings()).rows) == 1


@pytest.mark.parametrize("column", ["id", "rationale"])
def test_reserved_columns_are_inputs_where_asked_for(tiny_model: TinyModel, column: str) -> None:
    rows, prompt = [{"q": "x", column: "c", "target": "a"}], as_prompt(f"{{{column}}} {{q}}")
    ask = re.escape(
        f"read(path, inputs=['{column}', 'q'])" if column < "q" else f"read(path, inputs=['q', '{column}'])"
    )
    with pytest.raises(DataError, match=f"'{column}' is reserved .*{ask}"):
        prepare(tiny_model(), rows, prompt, Settings())
    assert len(prepare(tiny_model(), read(rows, inputs=["q", column]), prompt, Settings()).rows) == 1


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Say something", r"the prompt uses none of the columns 'q'.*read\(rows, inputs=\[\]\)"),
        (ChatPrompt([("user", "{{ q }}")]), r"'\{ q \}' stands in it as words.*template_format='jinja2'"),
        (TextPrompt("{{q}}"), r"'\{q\}' stands in it as words.*template_format='jinja2'"),
        (ChatPrompt([Message("user", "{q}")]), r"'\{q\}' stands in it as words.*a Message is taken as it is"),
    ],
)
def test_a_prompt_that_uses_no_column(tiny_model: TinyModel, prompt: Any, said: str) -> None:
    prompt = as_prompt(prompt)
    with pytest.raises(DataError, match=said):
        prepare(tiny_model(), [{"q": "x", "target": "a"}], prompt, Settings())
    assert len(prepare(tiny_model(), [{"target": "a"}], prompt, Settings()).rows) == 1


def test_an_optional_placeholder_uses_its_column(tiny_model: TinyModel) -> None:
    prompt = as_prompt(ChatPromptTemplate([MessagesPlaceholder("past", optional=True)]))
    rows = [{"past": [HumanMessage("hi")], "target": "a"}]
    assert len(prepare(tiny_model(), rows, prompt, Settings()).rows) == 1


def test_too_long_needs_a_policy(tiny_model: TinyModel) -> None:
    with pytest.raises(
        DataError,
        match=r"training row 1 has \d+ tokens, the limit is 100\. Choose: Settings\(too_long='drop'\)",
    ):
        prepare(tiny_model(), ROWS, PROMPT, Settings(max_length=100))


def test_dropped_rows_are_counted_and_told(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepared = prepare(tiny_model(), ROWS, PROMPT, Settings(max_length=100, too_long="drop"))
    assert (len(prepared.rows), prepared.dropped, prepared.trimmed) == (1, 1, 0)
    assert "training rows over 100 tokens: 1 dropped, 0 trimmed" in caplog.text


def test_nothing_left(tiny_model: TinyModel) -> None:
    with pytest.raises(DataError, match="no training rows left: all were too long"):
        prepare(tiny_model(), ROWS, PROMPT, Settings(max_length=4, too_long="drop"))


def test_trimming_cuts_the_longest_message_only(tiny_model: TinyModel) -> None:
    model = tiny_model()
    whole = prepare(model, ROWS, PROMPT, Settings()).rows[1]
    prepared = prepare(model, ROWS, PROMPT, Settings(max_length=100, too_long="trim"))
    assert (len(prepared.rows), prepared.dropped, prepared.trimmed) == (2, 0, 1)
    short = prepared.rows[1]
    assert len(short.ids) == 100
    assert short.ids[short.start :] == whole.ids[whole.start :]  # the target is whole
    assert short.ids[-40:] == whole.ids[-40:]  # what stands last in the message stays
    head = next(i for i, (a, b) in enumerate(zip(short.ids, whole.ids, strict=False)) if a != b)
    words = model.tokenizer.decode(list(whole.ids[:head]))
    assert words.startswith("<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n")


def test_a_target_that_alone_is_too_long_is_dropped(tiny_model: TinyModel) -> None:
    rows = [ROWS[0], {"context": "x", "question": "y", "target": "z " * 200}]
    prepared = prepare(tiny_model(), rows, PROMPT, Settings(max_length=100, too_long="trim"))
    assert (len(prepared.rows), prepared.dropped, prepared.trimmed) == (1, 1, 0)


def test_the_context_is_a_limit_too(tiny_model: TinyModel) -> None:
    with pytest.raises(DataError, match="the limit is 64"):
        prepare(tiny_model(max_position_embeddings=64), ROWS, PROMPT, Settings(max_length=500))


@pytest.mark.parametrize(
    ("given", "taken", "said"),
    [
        (Settings(max_length=500), 0, r"limit is 64, the model's context\. Choose: .* or too_long='trim' .*message$"),
        (Settings(), 0, r"the limit is 64, the model's context\."),
        (Settings(max_length=20), 0, r"the limit is 20\. Choose: .*, or a larger max_length, up to 64$"),
        (Settings(), 62, r"limit is 2, the model's context of 64 less the adapter's 62\. .*shorter adapter"),
        (Settings(max_length=3), 60, r"limit is 3\. .*larger max_length, up to 4$"),
    ],
)
def test_what_the_limit_is_and_what_raises_it(tiny_model: TinyModel, given: Settings, taken: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare(tiny_model(max_position_embeddings=64), ROWS[1:], PROMPT, given, taken=taken)


def test_what_rows_say_is_the_same_behind_every_prompt(tiny_model: TinyModel) -> None:
    one, other = (prepare(tiny_model(), ROWS, as_prompt(p), Settings()) for p in ("{context} {question}", "{question}"))
    assert one.says == other.says is not None
    assert one.says != prepare(tiny_model(), ROWS[:1], PROMPT, Settings()).says


def test_rows_that_are_trained_otherwise_are_others(tiny_model: TinyModel) -> None:
    """Whoever goes on with a run is told that the prompt is another one only where nothing else is."""
    row = Example({"q": "Why?"}, "so")
    others = [{"weight": 2.0}, {"target": "So"}, {"inputs": {"q": "why?"}}, {"inputs": {"q": "Why?", "title": "A"}}]
    says = {
        prepare(tiny_model(), [row.model_copy(update=other)], as_prompt("{q}"), Settings()).says
        for other in ({}, *others)
    }
    assert len(says) == 5


def test_the_digest_follows_rows_and_order(tiny_model: TinyModel) -> None:
    model = tiny_model()
    one, again = (prepare(model, ROWS, PROMPT, Settings()).digest for _ in range(2))
    assert one == again
    assert one != prepare(model, ROWS[::-1], PROMPT, Settings()).digest
    assert one != prepare(model, ROWS, as_prompt("{context} {question}"), Settings()).digest


def test_a_batch_keeps_rows_and_counts_trained_tokens() -> None:
    rows = [Row((1, 2, 3, 4), 2), Row((5, 6), 1)]
    batch = collate(rows)
    assert batch["batch"].rows == tuple(rows)
    assert batch["labels"].tolist() == [3, 4, 6]
