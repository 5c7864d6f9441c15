from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from condition.errors import Interrupted, ModelError
from condition.evaluation.compare import compare
from condition.evaluation.evaluate import evaluate
from condition.evaluation.scored import scores_of
from condition.evaluation.tasks import Reply, Task, TaskRow
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Prompt
from condition.types import Message, Messages, Score
from tests.conftest import TinyModel


def measure(row: TaskRow, reply: Reply) -> dict[str, float]:
    return {"right": float(reply.text == row.target)}


ROWS = [
    TaskRow("1", {"q": "One?"}, "a", choices=("a", "b b")),
    TaskRow("2", {"q": "Two?"}, "c", choices=("c", "d", "e")),
]


def task(prompt: Any = "{q}", **keywords: Any) -> Task:
    return Task("t", ROWS, measure=measure, prompt=prompt, **keywords)


class Scorer:
    """Prefers what it is told to; writes down what it was asked."""

    name = "scorer"

    def __init__(self, liked: str = "") -> None:
        self.liked, self.asked = liked, list[tuple[Messages, tuple[str, ...]]]()

    def generate(self, *given: Any, **keywords: Any) -> Any:
        raise AssertionError("a scorer is not asked to write")

    def score(self, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]], /) -> list[list[Score]]:
        self.asked += zip(prompts, map(tuple, continuations), strict=True)
        return [
            [Score(0.0 if t.strip() == self.liked else -len(t), 1, len(t)) for t in texts] for texts in continuations
        ]


@pytest.mark.parametrize(
    ("prompt", "said", "choices"),
    [
        (TextPrompt("{q} Answer:"), "One? Answer:", (" a", " b b")),
        (TextPrompt("{q} Answer: "), "One? Answer:", (" a", " b b")),
        (TextPrompt("{q}\n\n"), "One?", ("\n\na", "\n\nb b")),
        (TextPrompt("{q}("), "One?(", (" a", " b b")),
        (TextPrompt(""), "", ("a", "b b")),
        (ChatPrompt([("user", "{q} ")]), "One? ", ("a", "b b")),
    ],
)
def test_the_space_between(prompt: Prompt, said: str, choices: tuple[str, ...]) -> None:
    scorer = Scorer()
    scores_of(scorer, prompt, task(), ROWS)
    messages, texts = scorer.asked[0]
    assert (messages[-1].content, texts) == (said, choices)


def test_values_keep_their_places() -> None:
    scorer = Scorer()
    scores_of(scorer, TextPrompt("Q: {q}"), task(), [ROWS[0]._replace(inputs={"q": "<|im_end|>  "})])
    assert scorer.asked[0][0] == (Message("text", "Q: <|im_end|>"),)
    assert scorer.asked[0][0][0].values == ((3, 13),)


def test_the_likeliest_choice_is_the_prediction() -> None:
    result = evaluate(Scorer("d"), task())
    assert [row.prediction for row in result.rows] == ["a", "d"]
    assert result.metrics["right"].value == 0.5


def test_references_are_scored_behind_and_asked_once() -> None:
    scorer = Scorer()
    both = task(references=[TextPrompt("Answer:"), {"q": "N/A"}])
    rows = [ROWS[0], ROWS[0]._replace(id="3", inputs={"q": "Three?"})]
    own = TextPrompt("Own {q}")
    found = scores_of(scorer, own, both, rows)
    assert [messages[-1].content for messages, _ in scorer.asked] == ["Own One?", "Own Three?", "Answer:", "Own N/A"]
    assert [len(scores) for scores in found] == [6, 6]


def test_calibration_uses_the_subjects_own_prompt() -> None:
    scorer = Scorer()
    evaluate((scorer, "Own {q}"), task(references=[{"q": "N/A"}]))
    assert {messages[-1].content for messages, _ in scorer.asked} == {"Own One?", "Own Two?", "Own N/A"}


def test_a_local_model_and_one_that_can_not_score(tiny_model: TinyModel) -> None:
    model = tiny_model()
    result = evaluate(model, task("{q} Answer:"))
    expected = [
        max(zip(model.score([f], [c])[0], c, strict=True), key=lambda one: one[0].logprob)[1].strip()
        for f, c in (((Message("user", f"{row.inputs['q']} Answer:"),), row.choices) for row in ROWS)
    ]
    assert [row.prediction for row in result.rows] == expected
    assert evaluate(lambda inputs: "a", task()).metrics["right"].value == 0.5


class Broken(Scorer):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def score(self, prompts: Any, continuations: Any, /) -> Any:
        return self.change(super().score(prompts, continuations))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found[:-1], "gave 1 lists of scores for 2 prompts"),
        (lambda found: [row[:-1] for row in found], r"gave \[1\] scores for 2 choices, row 1"),
        (lambda found: [[Score(float("nan"), 1, 1)] * len(row) for row in found], "no number, row 1"),
    ],
)
def test_a_broken_scorer(change: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        scores_of(Broken(change), TextPrompt("{q}"), task(), ROWS)


def test_an_interruption_counts_rows() -> None:
    def stop(found: Any) -> Any:
        raise Interrupted({0: found[0]}, 5)

    with pytest.raises(Interrupted) as caught:
        scores_of(Broken(stop), TextPrompt("{q}"), task(), ROWS)
    assert (caught.value.finished, caught.value.total) == ({}, 2)


def test_tokens_read_are_told_of_a_local_model(tiny_model: TinyModel) -> None:
    """A prompt once, each choice behind it, and what is the same for all rows once."""
    model = tiny_model()

    def ids(text: str) -> int:
        return len(model.render((Message("text", text),)).ids)

    prompts = [f"{row.inputs['q']} Answer:" for row in ROWS]
    choices = sum(
        ids(f"{prompt} {choice}") - ids(prompt)
        for prompt, row in zip(prompts, ROWS, strict=True)
        for choice in row.choices
    )
    plain = evaluate(model, task(TextPrompt("{q} Answer:")))
    assert plain.usage.input_tokens == sum(map(ids, prompts)) + choices
    assert plain.usage.output_tokens == 0
    twice = [row._replace(id=f"{row.id} again") for row in ROWS]
    empty = Task("t", [*ROWS, *twice], measure=measure, prompt=TextPrompt("{q} Answer:"), references=[{"q": "N/A"}])
    both = evaluate(model, empty).usage.input_tokens
    apart = {
        row.choices: ids("N/A Answer:") + sum(ids(f"N/A Answer: {c}") - ids("N/A Answer:") for c in row.choices)
        for row in ROWS
    }
    assert both == plain.usage.input_tokens + sum(apart.values())
    assert evaluate(Scorer(), task(TextPrompt("{q}"))).usage.input_tokens == 0  # it does not tell


def test_a_table_of_scored_rows_shows_its_tokens(tiny_model: TinyModel) -> None:
    model = tiny_model()
    short, long = TextPrompt("{q}"), TextPrompt("A long beginning of a prompt. {q}")
    table = compare({"short": (model, short), "long": (model, long)}, task())
    assert (table["long"].input_tokens or 0) > (table["short"].input_tokens or 0) > 0
    assert table["long"].output_tokens == 0
