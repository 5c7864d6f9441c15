"""Every token of a training row, beside what serving sends."""

from __future__ import annotations

import pytest

import condition as cd
from condition.errors import PromptError
from condition.models.explain import explain
from condition.types import Example, Message, Sampling
from tests.conftest import TinyModel

EXAMPLE = Example({"context": "The sky is blue.", "question": "Which colour?"}, "blue")
PROMPT = "{context}\n\n{question}"


def test_training_and_serving_are_the_same(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    explained = explain(model, EXAMPLE, PROMPT)
    assert explained.difference == ()
    row = model.render(f"{EXAMPLE.inputs['context']}\n\n{EXAMPLE.inputs['question']}", "blue")
    assert tuple(t.id for t in explained.tokens) == row.ids
    assert explained.served == row.prompt_ids
    [[completion]] = model.with_prompt(PROMPT).generate(
        [(Message("user", "The sky is blue.\n\nWhich colour?"),)], Sampling(max_tokens=1)
    )
    assert completion.usage is not None
    assert completion.usage.input_tokens == len(explained.served)


def test_only_target_and_stop_are_trained(tiny_model: TinyModel) -> None:
    explained = explain(tiny_model(), EXAMPLE, PROMPT)
    trained = [t for t in explained.tokens if t.trained]
    assert "".join(t.text for t in trained[:-1]) == "blue"
    assert [t.role for t in trained] == ["assistant"] * (len(trained) - 1) + ["stop"]
    assert trained[-1].text == "<|im_end|>"
    assert {t.role for t in explained.tokens if not t.trained} == {"template", "user"}


def test_as_a_table(tiny_model: TinyModel) -> None:
    explained = explain(tiny_model(), EXAMPLE, PROMPT)
    text = str(explained)
    assert text.splitlines()[0].endswith(f"serving sends the first {len(explained.served)}")
    assert text.splitlines()[-1] == "difference between training and serving: none"
    assert text.count(" trained ") >= 2


def test_the_models_own_prompt(tiny_model: TinyModel) -> None:
    model = tiny_model()
    with pytest.raises(PromptError, match="no prompt of its own"):
        model.explain(EXAMPLE)
    assert model.with_prompt(PROMPT).explain(EXAMPLE).tokens == explain(model, EXAMPLE, PROMPT).tokens


def test_a_missing_value(tiny_model: TinyModel) -> None:
    with pytest.raises(PromptError, match="'question'"):
        explain(tiny_model(), Example({"context": "x"}, "y"), PROMPT)


def test_a_row_that_training_cut_is_shown_as_it_was_trained(tiny_model: TinyModel) -> None:
    prompt = cd.ChatPrompt([("user", "{text}")])
    row = cd.Example({"text": "one two three four five six seven eight " * 4}, "nine")
    settings = cd.Settings(max_steps=1, max_length=60, too_long="trim", precision="fp32")
    tuned = cd.SFTTrainer(settings=settings).fit(tiny_model(), [row], prompt=prompt)
    shown = tuned.explain(row)
    assert len(shown.tokens) == 60 < len(shown.served)
    assert shown.difference
    assert shown.tokens[-1].trained
