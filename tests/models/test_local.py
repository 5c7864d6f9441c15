"""The model as people use it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from condition.control.grammar import Choice
from condition.errors import ContractError, ControlError, PromptError, SettingsError
from condition.models.local import LocalModel
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.types import Example, Message, Sampling
from tests.conftest import TinyModel
from tests.training.test_sft import fit

PROMPT = ChatPrompt([("system", "Answer."), ("user", "{context}\n{question}")])
INPUTS = [{"context": "The sky is blue.", "question": f"Colour {i}?"} for i in range(3)]


def test_answers_to_inputs(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt(PROMPT)
    sampling = Sampling(max_tokens=5)
    answers = model.batch(INPUTS, sampling)
    [[direct]] = model.generate([PROMPT.format(**INPUTS[0])], sampling)
    assert answers[0].text == direct.text
    assert answers[0].score == pytest.approx(direct.logprob, abs=1e-4)
    assert answers[0].candidates[0].token_ids == direct.token_ids
    assert model.invoke(INPUTS[1], sampling).text == answers[1].text
    assert answers[0].usage.output_tokens == direct.usage.output_tokens  # type: ignore[union-attr]  # always told here


def test_samples_add_up_their_usage(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt("{q}")
    answer = model.invoke("x", Sampling(max_tokens=4, temperature=1.0, n=3, seed=0))
    assert len(answer.candidates) == 3
    assert answer.text == answer.candidates[0].text
    assert answer.usage.output_tokens == sum(c.usage.output_tokens for c in answer.candidates if c.usage)


def test_answers_under_a_control(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt(PROMPT)
    assert [a.text for a in model.batch(INPUTS, control=Choice(["blue"]))] == ["blue"] * 3
    assert model.invoke(INPUTS[0], control=Choice(["green"])).text == "green"
    for call in (model.generate, model.stream):
        with pytest.raises(ControlError, match="is no control"):
            call("Is it blue?", control="blue")  # type: ignore[operator]


def test_a_parser_of_the_prompt_is_used(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt(ChatPrompt([("user", "{q}")], parse=len))
    answer = model.invoke("x", Sampling(max_tokens=4))
    assert answer.parsed == len(answer.text)


def test_one_string_stands_for_one_variable(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt("{q}")
    assert model.invoke("x", Sampling(max_tokens=3)).text == model.invoke({"q": "x"}, Sampling(max_tokens=3)).text
    with pytest.raises(PromptError, match=r"variables \['context', 'question'\]: give a dict"):
        tiny_model().with_prompt(PROMPT).invoke("x")


@pytest.mark.parametrize("one", ["When was it built?", {"q": "When was it built?"}])
def test_one_input_is_not_asked_by_its_letters_or_names(tiny_model: TinyModel, one: Any) -> None:
    with pytest.raises(PromptError, match="batch takes a list of inputs"):
        tiny_model().with_prompt("{q}").batch(one)


TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}{{ '[assistant]' }}"


def own_tokenizer(model: LocalModel) -> LocalModel:
    return LocalModel(model.network, copy.deepcopy(model.tokenizer), source=model.source)


def test_a_chat_template_of_ones_own_is_trained_on_and_served(tiny_model: TinyModel) -> None:
    base, messages = own_tokenizer(tiny_model()), (Message("user", "a"),)
    before = base.render(messages).ids
    base.tokenizer.chat_template = TEMPLATE
    tuned = fit(base, max_steps=1)
    assert base.render(messages).ids == tuned.render(messages).ids != before
    assert base.tokenizer.decode(tuned.render(messages).ids) == "[user] a[assistant]"
    base.tokenizer.eos_token = "z"
    assert base.render(messages, "b").ids[-1] == base.tokenizer.eos_token_id


def test_a_tuned_model_is_not_asked_by_another_template(tiny_model: TinyModel, tmp_path: Path) -> None:
    tuned = fit(own_tokenizer(tiny_model()), max_steps=1)
    trained, tuned.tokenizer.chat_template = tuned.tokenizer.chat_template, TEMPLATE
    calls: list[Callable[[], object]] = [
        lambda: tuned.invoke("x"),
        lambda: tuned.score("x", [["y"]]),
        lambda: tuned.with_prompt("{q}"),
        lambda: fit(tuned, max_steps=1),
        lambda: tuned.save_pretrained(tmp_path / "saved"),
    ]
    for call in calls:
        with pytest.raises(ContractError, match=r"was changed after .* was tuned: set it back"):
            call()
    assert not (tmp_path / "saved").exists()
    tuned.tokenizer.chat_template = trained
    assert tuned.invoke("x", Sampling(max_tokens=2)).text


def test_without_a_prompt(tiny_model: TinyModel) -> None:
    for call in (lambda m: m.invoke("x"), lambda m: m.batch([{}]), lambda m: m.explain(Example({}, "x"))):
        with pytest.raises(PromptError, match="no prompt of its own"):
            call(tiny_model())


def test_a_missing_value(tiny_model: TinyModel) -> None:
    with pytest.raises(PromptError, match="'question'"):
        tiny_model().with_prompt(PROMPT).invoke({"context": "x"})


def test_another_prompt_is_another_model(tiny_model: TinyModel) -> None:
    model = tiny_model()
    other = model.with_prompt(TextPrompt("{q}"))
    assert model.prompt is None
    assert other.network is model.network
    assert other.render([Message("text", "x")]).ids == model.render([Message("text", "x")]).ids


@pytest.mark.parametrize("sampling", [4, {"max_tokens": 4}])
def test_a_sampling_of_another_type(tiny_model: TinyModel, sampling: Any) -> None:
    model = tiny_model().with_prompt("{q}")
    calls: list[Callable[[], object]] = [
        lambda: model.generate("hi", sampling),
        lambda: model.stream("hi", sampling),
        lambda: model.invoke("hi", sampling),
        lambda: model.batch(["hi"], sampling),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match=r"is no Sampling: give cd\.Sampling\(max_tokens=4\)"):
            call()


def test_two_threads_get_what_one_gets(tiny_model: TinyModel) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=6, temperature=1.0, n=2, seed=1)
    prompts = [f"Colour {i}?" for i in range(8)]

    def written(model: LocalModel, prompt: str) -> list[tuple[int, ...]]:
        return [c.token_ids for c in model.generate(prompt, sampling)[0]]

    def scored(model: LocalModel, prompt: str) -> float:
        return model.score([prompt], [["blue"]])[0][0].logprob

    alone = [(written(model, p), scored(model, p)) for p in prompts]
    fresh = tiny_model()  # the check for sharing, too, is first asked for by several threads
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda p: written(fresh, p), prompts))
        scores = list(pool.map(lambda p: scored(fresh, p), prompts))
    assert texts == [t for t, _ in alone]
    assert scores == pytest.approx([s for _, s in alone], abs=1e-5)


def test_the_context_is_the_networks(tiny_model: TinyModel) -> None:
    assert tiny_model(max_position_embeddings=64).context == 64
    assert tiny_model("gpt2").context == 512
