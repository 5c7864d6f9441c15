"""What is said of a row that is nearly of a schema: by what it lacks, and by the rows before it."""

from __future__ import annotations

from typing import Any

import pytest

from condition.data import read
from condition.data.schemas import SCHEMAS, known_schema
from condition.errors import DataError

GSM8K = {"question": "How many?", "answer": "2 + 2 = 4\n#### 4"}
ALPACA = {"instruction": "Add.", "input": "", "output": "3"}
SQUAD = {"context": "Ada wrote.", "question": "Who?", "answers": ["Ada"]}
CHAT = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]}

MEND = ": mend this row, or drop it"
CHOOSE = "say which one should be written, e.g. read(path, target='answer')"


@pytest.mark.parametrize(
    ("first", "broken", "said"),
    [
        (GSM8K, {"question": "1 + 2?", "answer": "3"}, "GSM8K; its 'answer' ends in no line '#### ' and a number: '3'"),
        (GSM8K, {"question": "1 + 2?", "answer": 3}, "GSM8K; 'answer' is int, not text"),
        (GSM8K, {"question": "1 + 2?"}, "GSM8K; it has no 'answer'"),
        (ALPACA, {"instruction": "Add.", "ouput": "3"}, "Alpaca; it has no 'output' (is 'ouput' misspelt?)"),
        (SQUAD, {"context": "c", "question": "q"}, "SQuAD; it has no 'answers'"),
        (CHAT, {"messages": []}, "ShareGPT or ChatML; 'messages' is empty"),
        (CHAT, {"q": "x"}, "ShareGPT or ChatML; it has no list of turns, 'conversations' or 'messages'"),
    ],
)
def test_the_rows_before_say_what_this_one_lacks(first: dict[str, Any], broken: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read([first, first, broken])
    text = str(caught.value)
    assert text.startswith("row 2: no column 'target'; it has ")
    assert text.endswith(f". The rows before it are {said}{MEND}")
    assert CHOOSE not in text  # it would change how all rows are read


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "1 + 2?", "answer": "3"}, "GSM8K: its 'answer' ends in no line '#### ' and a number: '3'"),
        ({"instruction": "Add.", "input": "", "ouput": "3"}, "Alpaca: it has no 'output' (is 'ouput' misspelt?)"),
        ({"instruction": "Add.", "category": "x"}, "Dolly: it has no 'response'"),
        ({"context": "c", "question": "q"}, "SQuAD: it has no 'answers'"),
        ({"context": "c", "question": "q", "answer": "a"}, "SQuAD: it has no 'answers' (is 'answer' misspelt?)"),
        ({"messages": "Hello", "topic": "x"}, "ShareGPT or ChatML: 'messages' is str, 'Hello', not a list of turns"),
    ],
)
def test_a_first_row_may_be_meant_as_a_schema_or_not(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read([row])
    assert f". If it is meant as {said}" in str(caught.value)
    assert str(caught.value).endswith(f". Else {CHOOSE}")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([], "'conversations' is empty"),
        ("Hi", "'conversations' is str, 'Hi', not a list of turns with 'from' and 'value'"),
        (None, "'conversations' is NoneType, None, not a list of turns with 'from' and 'value'"),
        (["Hi"], "'conversations' holds 'Hi', not turns with 'from' and 'value'"),
    ],
)
def test_a_conversation_alone_has_no_other_column_to_name(turns: object, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read([{"id": 3, "conversations": turns}])
    assert str(caught.value).endswith(f"; {said}{MEND}")


@pytest.mark.parametrize(
    "row", [{"q": "1", "label": "a"}, {"question": "1", "label": "a"}, {"instruction": "1", "label": "a"}, {}]
)
def test_rows_of_ones_own_are_not_taken_for_a_schema(row: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read([row])
    assert str(caught.value).endswith(f"; {CHOOSE}")
    assert "meant as" not in str(caught.value)


def test_judged_rows_are_sent_to_who_reads_them() -> None:
    with pytest.raises(DataError, match="'chosen' judges its answers, and such rows are for read_rankings"):
        read([{**CHAT, "chosen": "a", "rejected": "b"}])


def test_a_target_that_is_asked_for_is_not_passed_over_for_a_schema() -> None:
    for row, name in ((GSM8K, "GSM8K"), (CHAT, "ShareGPT or ChatML")):
        with pytest.raises(DataError, match=f"row 0: no column 'anser'; .* the row is {name}: leave `target` out"):
            read([row], target="anser")


def test_each_schema_knows_its_rows() -> None:
    assert [known_schema(row) for row in (CHAT, SQUAD, ALPACA, GSM8K)] == [SCHEMAS[at] for at in (0, 1, 2, 4)]
    assert known_schema({"instruction": "Who?", "response": "Ada"}) == SCHEMAS[3]
    assert known_schema({"q": "x"}) is None
