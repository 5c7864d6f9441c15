"""Labels by likelihood: the arithmetic with a scorer whose numbers are known, the call with a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from condition.errors import DataError, PromptError
from condition.prompts.calibrate import LabelClassifier, calibrate, label_logprobs
from condition.prompts.compose import PipelinePrompt
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.retrieval import RetrievalPrompt
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import Told
from condition.protocols import Chain
from condition.types import Example, Message, Messages, Score

if TYPE_CHECKING:
    from tests.conftest import TinyModel

LABELS = ["good", "bad"]
PROMPT = ChatPrompt([("user", "Review: {text}")])


class Leaning:
    """Hears "good" or "bad" in the last message, and leans to "good" by `lean` nats, to the last example by `last`."""

    def __init__(self, lean: float, last: float = 0.0) -> None:
        self.lean, self.last = lean, last
        self.calls: list[Sequence[Messages]] = []
        self.texts: list[Sequence[str]] = []

    def score(self, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]], /) -> list[list[Score]]:
        self.calls.append(prompts)
        self.texts += continuations
        return [
            [Score(self._logit(p, t.strip()), 1, len(t)) for t in ts]
            for p, ts in zip(prompts, continuations, strict=True)
        ]

    def _logit(self, messages: Messages, label: str) -> float:
        said = [m.content for m in messages if m.role == "assistant"]
        heard = 1.0 if label in messages[-1].content else 0.0
        return heard - 20 + (self.lean if label == "good" else 0) + (self.last if said and said[-1] == label else 0)


def test_probabilities_are_those_among_the_labels() -> None:
    scorer = Leaning(0.5)
    (row,) = LabelClassifier(scorer, PROMPT, LABELS).probabilities([{"text": "bad film"}])
    assert row["good"] == pytest.approx(exp(0.5) / (exp(0.5) + exp(1)))
    assert sum(row.values()) == pytest.approx(1)


def test_calibration_divides_by_what_words_without_content_get() -> None:
    scorer = Leaning(3.0)
    rows = [{"text": "bad film"}, {"text": "good film"}, {"text": "film"}]
    plain, fair = LabelClassifier(scorer, PROMPT, LABELS), calibrate(scorer, PROMPT, LABELS)
    assert plain(rows) == ["good", "good", "good"]
    assert fair(rows)[:2] == ["bad", "good"]
    first, _, last = fair.probabilities(rows)
    assert first["bad"] == pytest.approx(exp(1) / (exp(1) + 1))
    assert last == pytest.approx({"good": 0.5, "bad": 0.5})
    assert fair.uncalibrated.probabilities(rows) == plain.probabilities(rows)
    assert fair.shares(rows[:2]) == {"good": 0.5, "bad": 0.5}
    assert plain.shares(rows) == {"good": 1.0, "bad": 0.0}
    assert plain.shares([]) == {"good": 0.0, "bad": 0.0}


def test_the_mean_over_the_words_is_of_probabilities() -> None:
    scorer = Leaning(0.0)
    fair = calibrate(scorer, PROMPT, LABELS, content_free=["good", "nothing"])
    p = (exp(1) / (exp(1) + 1) + 0.5) / 2
    (row,) = fair.probabilities([{"text": "?"}])
    assert row["good"] == pytest.approx((0.5 / p) / (0.5 / p + 0.5 / (1 - p)))


def test_the_bias_is_reported_before_and_after() -> None:
    bias = calibrate(Leaning(3.0), PROMPT, LABELS).bias
    assert bias is not None
    assert bias.before["good"] == pytest.approx(exp(3) / (exp(3) + 1))
    assert bias.after == pytest.approx({"good": 0.5, "bad": 0.5})
    assert bias.leaning_before == pytest.approx(bias.before["good"] - 0.5)
    assert bias.leaning_after == pytest.approx(0)
    assert "0.953 -> 0.500" in str(bias)
    # words that differ leave a rest, measured on each with the others' calibration
    rest = calibrate(Leaning(0.0), PROMPT, LABELS, content_free=["good", "nothing"]).bias
    assert rest is not None
    heard = exp(1) / (exp(1) + 1) - 0.5
    assert rest.leaning_before == pytest.approx(heard / 2)
    assert rest.leaning_after == pytest.approx(heard)  # more than before: these words are not without content


def test_many_rows_are_one_call() -> None:
    scorer = Leaning(1.0)
    fair = calibrate(scorer, PROMPT, LABELS)
    assert len(scorer.calls) == 1
    fair.probabilities([{"text": str(i)} for i in range(50)])
    assert [len(call) for call in scorer.calls] == [3, 50]
    assert fair.probabilities([]) == []


class Mirror:
    """Shows one example whose label is not the item's."""

    examples = (Example({"text": "x", "passages": "P."}, "good"), Example({"text": "y", "passages": "P."}, "bad"))

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        return [self.examples["good" in str(inputs["text"])]][:k]


def test_examples_chosen_for_each_item_have_a_bias_of_their_own() -> None:
    scorer = Leaning(0.0, last=5.0)
    shots = FewShotPrompt(PROMPT, Mirror.examples, selector=Mirror(), k=1)
    fair = calibrate(scorer, shots, LABELS)
    assert fair.bias is None
    rows = [{"text": "a good film"}, {"text": "a bad film"}]
    assert fair.uncalibrated(rows) == ["bad", "good"]
    scorer.calls.clear()
    assert fair(rows) == ["good", "bad"]
    assert [len(call) for call in scorer.calls] == [8]


class Needing(Mirror):
    """Looks at another input too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        assert self.name in inputs
        return super().select(inputs, k)


SHOTS = FewShotPrompt(PROMPT, Mirror.examples, selector=Mirror(), k=1)
AROUND: dict[str, Any] = {
    "partial": FewShotPrompt(PROMPT, selector=Needing("thing"), k=1, instruction="Judge the {thing}.").partial(
        thing="film"
    ),
    "sum": ChatPrompt([("system", "Judge.")]) + SHOTS,
    "told": Told(SHOTS, "Well?"),
    "pipeline": PipelinePrompt(SHOTS, {"text": TextPrompt("{review}")}),
    "part": PipelinePrompt(ChatPrompt([("user", "{shown}")]), {"shown": SHOTS}),
    "retrieval": RetrievalPrompt(
        FewShotPrompt(ChatPrompt([("user", "{passages} {text}")]), Mirror.examples, selector=Needing("passages"), k=1),
        RunnableLambda(lambda query: [Document("A page.")]),
    ),
}


@pytest.mark.parametrize("kind", AROUND)
def test_examples_chosen_within_another_prompt_have_a_bias_of_their_own_too(kind: str) -> None:
    asked = [dict.fromkeys(AROUND[kind].variables, f"a {word} film") for word in LABELS]
    shown = "assistant" in [m.role for m in AROUND[kind].format(**asked[0])]
    scorer = Leaning(0.0, last=5.0) if shown else Leaning(5.0)
    fair = calibrate(scorer, AROUND[kind], LABELS)
    assert fair.bias is None
    assert fair.uncalibrated(asked) == (["bad", "good"] if shown else ["good", "good"])
    scorer.calls.clear()
    assert fair(asked) == ["good", "bad"]
    (call,) = scorer.calls
    examples = [[m.content for m in messages[:-1]] for messages in call]
    assert examples[1:4] == [examples[0]] * 3  # the words without content stand behind the item's own examples
    assert examples[5:] == [examples[4]] * 3


def test_an_items_own_bias_is_divided_out_whole() -> None:
    shots = FewShotPrompt(PROMPT, Mirror.examples, selector=Mirror(), k=1)
    # whatever the leaning, what is left is what was heard: 1 nat
    (row,) = calibrate(Leaning(2.0, last=1.5), shots, LABELS).probabilities([{"text": "bad film"}])
    assert row["bad"] == pytest.approx(exp(1) / (exp(1) + 1))


def test_labels_follow_a_text_with_a_space() -> None:
    scorer = Leaning(0.0)
    LabelClassifier(scorer, TextPrompt("Review: {text}\nLabel:"), {"+": "good", "-": "bad"})([{"text": "x"}])
    assert scorer.texts == [[" good", " bad"]]
    scorer.texts.clear()
    LabelClassifier(scorer, PROMPT, {"+": "good", "-": "bad"})([{"text": "x"}])
    assert scorer.texts == [["good", "bad"]]


def test_it_is_a_chain_whose_answers_are_labels() -> None:
    fair = calibrate(Leaning(3.0), PROMPT, {"+": "good", "-": "bad"})
    assert isinstance(fair, Chain)
    answer = fair.invoke({"text": "bad film"})
    assert (answer.text, answer.parsed) == ("-", "-")
    assert answer.score == pytest.approx(log(exp(1) / (exp(1) + 1)))
    assert [c.text for c in answer.candidates] == ["-", "+"]
    assert fair.batch([Example({"text": "good film"}, "+")])[0].text == "+"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: calibrate(Leaning(0), PROMPT, ["one"]), PromptError, "two or more"),
        (lambda: calibrate(Leaning(0), PROMPT, "ab"), PromptError, "two or more"),
        (lambda: calibrate(Leaning(0), PROMPT, {"a": "x", "b": "x"}), PromptError, "words of its own"),
        (lambda: calibrate(Leaning(0), PROMPT, ["a", ""]), PromptError, "without words"),
        (lambda: calibrate(Leaning(0), PROMPT, [1, 2]), PromptError, "a label is a text, not int: write '1'"),  # type: ignore[list-item]
        (lambda: calibrate(Leaning(0), PROMPT, {"a": 1, "b": 2}), PromptError, "a label is a text"),  # type: ignore[dict-item]
        (lambda: calibrate(Leaning(0), PROMPT, 5), PromptError, "labels=5: give two or more"),  # type: ignore[arg-type]
        (lambda: calibrate(object(), PROMPT, LABELS), PromptError, "object can't say how likely"),  # type: ignore[arg-type]
        (lambda: calibrate(Leaning(0), "Good?", LABELS), PromptError, "no variable"),
        (lambda: calibrate(Leaning(0), PROMPT, LABELS, content_free=()), PromptError, "at least one"),
        (lambda: calibrate(Leaning(0), PROMPT, LABELS)(["x"]), DataError, "a row is a mapping"),  # type: ignore[list-item]
    ],
)
def test_what_can_not_be_calibrated_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_real_scorer_gives_the_same_as_by_hand(tiny_model: TinyModel) -> None:
    model = tiny_model()
    rows: list[dict[str, Any]] = [{"text": "one"}, {"text": "two words"}]
    fair = calibrate(model, PROMPT, LABELS, content_free=["N/A"])
    asked: list[Messages] = [(Message("user", f"Review: {t}"),) for t in ("one", "two words", "N/A")]
    raw = np.array([[s.logprob for s in scores] for scores in model.score(asked, [LABELS] * 3)])
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    q = p[:2] / p[2]
    expected = q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([list(r.values()) for r in fair.probabilities(rows)], expected, atol=1e-6)
    assert label_logprobs(model, [], LABELS).shape == (0, 2)
