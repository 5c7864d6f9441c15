from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condition.errors import DataError, PromptError
from condition.evaluation.evaluate import evaluate
from condition.evaluation.metrics import squad_v2 as official
from condition.evaluation.tasks import squad_v2
from condition.prompts.template import ChatPrompt
from condition.protocols import Chain
from condition.reasoning.abstain import Abstain, best_threshold
from condition.types import Example, Sampling

if TYPE_CHECKING:
    from tests.conftest import TinyModel

PROMPT = ChatPrompt([("user", "{context}\n{question}")])
ROWS = [
    {"id": "a", "context": "Ada lived.", "question": "Who lived?", "answers": {"text": ["Ada"], "answer_start": [0]}},
    {"id": "b", "context": "Ada lived.", "question": "Who died?", "answers": {"text": [], "answer_start": []}},
    {"id": "c", "context": "Rain fell.", "question": "What fell?", "answers": {"text": ["Rain"], "answer_start": [0]}},
]
INPUTS: list[Mapping[str, Any]] = [{"context": r["context"], "question": r["question"]} for r in ROWS]
rows = st.lists(st.tuples(st.integers(-5, 5), st.floats(-1, 1)), max_size=12)


@given(rows)
def test_no_threshold_earns_more(pairs: list[tuple[int, float]]) -> None:
    margins, gains = [float(m) for m, _ in pairs], [g for _, g in pairs]

    def earned(threshold: float) -> float:
        return sum(g for m, g in zip(margins, gains, strict=True) if m > threshold)

    best = max(earned(t) for t in [-math.inf, math.inf, *(n / 2 for n in range(-12, 12))])
    assert earned(best_threshold(margins, gains)) == pytest.approx(best, abs=1e-9)


def test_thresholds_by_hand() -> None:
    assert best_threshold([3.0, 1.0, -2.0], [1.0, 1.0, -1.0]) == -0.5  # midway between 1 and -2
    assert best_threshold([3.0, 1.0], [-1.0, -1.0]) == math.inf
    assert best_threshold([3.0, 1.0], [1.0, 1.0]) == -math.inf
    assert best_threshold([], []) == math.inf


def test_the_margin_is_how_much_likelier_the_answer_is(tiny_model: TinyModel) -> None:
    model = tiny_model()
    answers = Abstain(model, PROMPT, threshold=-math.inf, max_tokens=6).batch(INPUTS)
    for inputs, answer in zip(INPUTS, answers, strict=True):
        (written,) = answer.candidates
        ((none,),) = model.score([PROMPT.format(**inputs)], [["unanswerable"]])
        each = (written.logprob or 0.0) / len(written.token_ids)
        assert answer.score == pytest.approx(each - none.logprob, abs=1e-3)
        assert answer.text == written.text


def test_a_threshold_decides(tiny_model: TinyModel) -> None:
    model = tiny_model()
    scores = [a.score or 0.0 for a in Abstain(model, PROMPT, max_tokens=6).batch(INPUTS)]
    middle = sorted(scores)[1]
    chain = Abstain(model, PROMPT, threshold=middle, no_answer="unanswerable", max_tokens=6)
    assert [a.text != "unanswerable" for a in chain.batch(INPUTS)] == [s > middle for s in scores]


def test_a_model_that_would_abstain_has_to_write_an_answer(tiny_model: TinyModel) -> None:
    model = tiny_model()
    asked = [PROMPT.format(**INPUTS[0])]
    none = model.tokenizer.encode("unanswerable", add_special_tokens=False)[0]
    head = model.network.get_output_embeddings().weight.data
    head[none] = 10 * head[model.generate(asked, Sampling(max_tokens=1))[0][0].token_ids[0]]
    assert model.generate(asked, Sampling(max_tokens=6))[0][0].token_ids[0] == none
    answer = Abstain(model, PROMPT, threshold=-math.inf, max_tokens=6).invoke(INPUTS[0])
    assert answer.candidates[0].token_ids[0] != none


def test_calibration_is_the_best_threshold_on_its_rows(tiny_model: TinyModel) -> None:
    model = tiny_model()
    texts = [a.text for a in Abstain(model, PROMPT, threshold=-math.inf, max_tokens=6).batch(INPUTS)]
    known = [{**row, "answers": {"text": [text]}} for row, text in zip(ROWS, texts, strict=True)]
    assert Abstain(model, PROMPT, max_tokens=6).calibrate(known).threshold == -math.inf
    unknown = [{**row, "answers": {"text": []}} for row in ROWS]
    assert Abstain(model, PROMPT, max_tokens=6).calibrate(unknown, official).threshold == math.inf
    examples = [Example(i, "unanswerable") for i in INPUTS]
    assert Abstain(model, PROMPT, max_tokens=6).calibrate(examples).threshold == math.inf
    order = sorted(range(3), key=lambda i: Abstain(model, PROMPT, max_tokens=6).batch(INPUTS)[i].score or 0.0)
    last = [Example(INPUTS[i], texts[i] if i == order[0] else "unanswerable") for i in range(3)]
    # to answer the one in doubt, both questions without an answer would be answered too
    assert Abstain(model, PROMPT, max_tokens=6).calibrate(last).threshold == math.inf
    mixed = Abstain(model, PROMPT, max_tokens=6).calibrate([known[0], *unknown[1:]])
    best = max(_exact(Abstain(model, PROMPT, threshold=t, max_tokens=6), texts[0]) for t in (-99.0, 0.0, 99.0))
    assert _exact(mixed, texts[0]) >= best


def test_words_that_abstain_are_measured_as_no_answer(tiny_model: TinyModel) -> None:
    model = tiny_model()
    text = Abstain(model, PROMPT, max_tokens=6).invoke(INPUTS[0]).candidates[0].text
    said: list[str] = []

    def measure(prediction: str, answers: object, /) -> dict[str, float]:
        said.append(prediction)
        return {"right": 0.0}

    own = next(form for form in (text.upper(), text.lower(), text.swapcase()) if form != text)
    chain = Abstain(model, PROMPT, no_answer=own, max_tokens=6)
    assert chain.invoke(INPUTS[0]).candidates[0].text == text  # it begins with another token than "no answer" does
    chain.calibrate([ROWS[0]], measure)
    assert said == ["", ""]


def test_one_row_is_no_batch(tiny_model: TinyModel) -> None:
    for one in (INPUTS[0], "When?"):
        with pytest.raises(PromptError, match="batch takes a list of inputs"):
            Abstain(tiny_model(), PROMPT).batch(one)  # type: ignore[arg-type]
    assert Abstain(tiny_model(), PROMPT).batch([]) == []


def test_it_is_a_chain_that_evaluate_takes(tiny_model: TinyModel) -> None:
    chain = Abstain(tiny_model().with_prompt(PROMPT), threshold=math.inf)
    assert isinstance(chain, Chain)
    result = evaluate(chain, squad_v2(ROWS))
    assert result.metrics["f1"].value == pytest.approx(1 / 3)
    assert result.metrics["over_constant_f1"].value == 0


def test_nothing_to_ask_with_and_nothing_to_learn_from(tiny_model: TinyModel) -> None:
    with pytest.raises(PromptError, match="no prompt of its own"):
        Abstain(tiny_model())
    chain = Abstain(tiny_model(), PROMPT)
    with pytest.raises(DataError, match="no rows"):
        chain.calibrate([])
    with pytest.raises(DataError, match="SQuAD's columns"):
        chain.calibrate([{"context": "Ada."}])


def _exact(chain: Abstain, answer: str) -> float:
    """Right answers where only the first question has one."""
    first, *others = [a.text for a in chain.batch(INPUTS)]
    return (first == answer) + sum(text == chain.no_answer for text in others)
