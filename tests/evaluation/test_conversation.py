"""Rows of several turns: what each turn sees, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from condition.errors import DataError, Interrupted, ModelError
from condition.evaluation.compare import compare
from condition.evaluation.evaluate import evaluate
from condition.evaluation.metrics import exact_match
from condition.evaluation.tasks import Task, TaskRow
from condition.prompts.history import History
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Control
from condition.types import Answer, Completion, Message, Messages, Sampling, Usage
from tests.conftest import TinyModel

ROWS = [
    TaskRow("1", {"q": "One?"}, "3:Two?", then=({"q": "Two?"},)),
    TaskRow("2", {"q": "Alone?"}, "1:Alone?"),
    TaskRow("3", {"q": "A?"}, "5:C?", then=({"q": "B?"}, {"q": "C?"})),
]
CHAT = ChatPrompt([("user", "{q}")])
BRIEF = ChatPrompt([("system", "Be brief."), ("user", "Q: {q}")])


def task(prompt: Any = CHAT, rows: Sequence[TaskRow] = ROWS, **changes: Any) -> Task:
    return Task("t", rows, exact_match, prompt=prompt, **changes)


class Counter:
    """Says how many messages it saw, and the last one."""

    name = "counter"

    def __init__(self, stop: int | None = None) -> None:
        self.calls: list[list[Messages]] = []
        self.stop = stop

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        if len(self.calls) == self.stop:
            raise Interrupted({0: [Completion("half")]}, len(prompts))
        self.calls.append(list(prompts))
        return [[Completion(f"{len(p)}:{p[-1].content}", usage=Usage(input_tokens=len(p)))] for p in prompts]


def test_each_turn_sees_what_was_said() -> None:
    model = Counter()
    found = evaluate(model, task())
    assert found.metrics["exact"].value == 1
    assert [len(call) for call in model.calls] == [3, 2, 1]
    assert model.calls[2][0] == (
        Message("user", "A?"),
        Message("assistant", "1:A?"),
        Message("user", "B?"),
        Message("assistant", "3:B?"),
        Message("user", "C?"),
    )
    assert [row.prediction for row in found.rows] == ["1:One?\n\n3:Two?", "1:Alone?", "1:A?\n\n3:B?\n\n5:C?"]
    assert found.usage.input_tokens == 1 + 1 + 1 + 3 + 3 + 5


def test_what_a_prompt_begins_with_stays_and_a_place_for_history_is_used() -> None:
    model = Counter()
    evaluate((model, BRIEF), task())
    assert [m.role for m in model.calls[1][0]] == ["system", "user", "assistant", "user"]
    assert model.calls[1][0][-1].content == "Q: Two?"
    for placed in (History(), History(optional=True)):
        own = Counter()
        evaluate((own, ChatPrompt([("system", "Be brief.")]) + placed + ChatPrompt([("user", "Q: {q}")])), task())
        assert own.calls == model.calls


def test_functions_and_chains_get_the_history() -> None:
    seen: list[Any] = []

    def function(inputs: Any) -> str:
        seen.append((inputs["q"], [m.content for m in inputs.get("history", ())]))
        return f"{len(inputs.get('history', ())) + 1}:{inputs['q']}"

    class Chain:
        def invoke(self, inputs: Any, /) -> Answer:
            return Answer(function(inputs))

        def batch(self, inputs: Any, /) -> list[Answer]:
            return [self.invoke(one) for one in inputs]

    for subject in (function, Chain()):
        seen.clear()
        assert evaluate(subject, task()).metrics["exact"].value == 1
        assert ("C?", ["A?", "1:A?", "B?", "3:B?"]) in seen


def test_a_conversation_is_kept_and_another_second_turn_is_another_row(tiny_model: TinyModel, tmp_path: Path) -> None:
    work = task(sampling=Sampling(max_tokens=3, temperature=0.0))
    model = tiny_model()
    first = evaluate(model, work, cache=tmp_path)
    again = evaluate(model, work, cache=tmp_path)
    assert (again.cached, again.rows) == (3, first.rows)
    changed = [ROWS[0]._replace(then=({"q": "Else?"},)), *ROWS[1:]]
    other = evaluate(model, task(rows=changed, sampling=work.sampling), cache=tmp_path)
    assert other.cached == 2
    counter, named = Counter(), {"cache": tmp_path, "key": "counter"}
    evaluate(counter, task(), **named)  # type: ignore[arg-type]
    evaluate(counter, task(rows=changed), **named)  # type: ignore[arg-type]
    assert len(counter.calls[3]) == 1


def test_half_a_conversation_is_no_answer(tmp_path: Path) -> None:
    for stop in (0, 1):
        with pytest.raises(Interrupted) as stopped:
            evaluate(Counter(stop), task(), cache=tmp_path, key="counter")
        assert stopped.value.finished == {}
    assert evaluate(Counter(), task(), cache=tmp_path, key="counter").cached == 0


def test_a_page_shows_all_turns() -> None:
    table = compare({"one": Counter(), "other": lambda inputs: "?"}, task())
    first = next(table.disagreements())
    assert first.inputs == {"q": "One?", "turn 2": "Two?"}
    assert first.predictions["one"] == "1:One?\n\n3:Two?"


def test_plain_text_has_no_turns() -> None:
    with pytest.raises(ModelError, match="row 1 is a conversation, and plain text has no turns: give a ChatPrompt"):
        evaluate((Counter(), TextPrompt("{q}")), task())


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (ROWS[0]._replace(choices=("a", "b")), {}),
        (ROWS[0], {"sampling": Sampling(n=2, temperature=1.0)}),
        (ROWS[0]._replace(inputs={"q": "x", "history": ()}), {}),
    ],
)
def test_what_can_be_no_conversation(row: TaskRow, changes: Any) -> None:
    with pytest.raises(DataError, match="row 1 is a conversation"):
        task(rows=[row], **changes)


@pytest.mark.parametrize(
    ("prompt", "then", "why"),
    [
        (CHAT, {"Q": "Two?"}, "what is new in turn 2 would not be asked: .* It has the variables q"),
        (ChatPrompt([("system", "{q}"), ("user", "Go on.")]), {"q": "Two?"}, "what is new in turn 2 would not be"),
        (ChatPrompt([("user", "{q}")]) + History(), {"q": "Two?"}, "its prompt ends with a turn of the assistant"),
        (ChatPrompt([("user", "{q}"), ("assistant", "So:")]), {"q": "Two?"}, "ends with a turn of the assistant"),
        (History() + CHAT, {"Q": "Two?"}, "what is new in turn 2 would not be asked"),
    ],
)
def test_a_turn_that_would_ask_the_first_question_again_is_refused(prompt: Any, then: Any, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        evaluate((Counter(), prompt), task(rows=[TaskRow("1", {"q": "One?"}, "", then=(then,))]))


def test_one_question_may_be_asked_twice() -> None:
    for prompt in (CHAT, History() + CHAT):
        found = evaluate((Counter(), prompt), task(rows=[TaskRow("1", {"q": "A?"}, "3:A?", then=({"q": "A?"},))]))
        assert found.metrics["exact"].value == 1


def test_all_that_a_later_turn_is_asked_tells_kept_rows_apart(tmp_path: Path) -> None:
    prompt = ChatPrompt([("system", "{about}")]) + History() + CHAT
    for about in ("Rome", "Oslo"):
        model = Counter()
        row = TaskRow("1", {"q": "A?", "about": ""}, "", then=({"q": "B?", "about": about},))
        evaluate((model, prompt), task(rows=[row]), cache=tmp_path, key="counter")
        assert model.calls[1][0][0] == Message("system", about)


@pytest.mark.parametrize("then", [("Two?",), {"q": "Two?"}, "Two?"])
def test_what_goes_on_are_inputs(then: Any) -> None:
    with pytest.raises(DataError, match=r"row 1: then=.* is no sequence of inputs: give then=\(\{...\},\)"):
        task(rows=[TaskRow("1", {"q": "One?"}, "", then=then)])
