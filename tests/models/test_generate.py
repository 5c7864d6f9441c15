"""Writing: equal to transformers' own generate, cut where it should be, counted, and reproducible."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor

from condition.errors import Interrupted, ModelError
from condition.models import generate as generate_module
from condition.models.completion import cut
from condition.models.local import LocalModel
from condition.prefix_sharing.probe import shareable
from condition.types import Completion, Message, Sampling
from tests.conftest import TinyModel

PROMPTS = ["When was the bridge first built?", "Blue.", "Who wrote the letter to the mayor? Answer from the passage."]


class Forced:
    """A Control that forces tokens in turn, and may raise at a step."""

    def __init__(self, *tokens: int, raises: BaseException | None = None, at: int = 0) -> None:
        self.tokens, self.raises, self.at, self.calls = tokens, raises, at, 0

    def processor(self, tokenizer: Any, /) -> LogitsProcessor:
        outer = self

        class Force(LogitsProcessor):
            def __init__(self) -> None:
                self.step = 0

            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                outer.calls += 1
                if outer.raises is not None and outer.calls > outer.at:
                    raise outer.raises
                forced = torch.full_like(scores, -torch.inf)
                forced[:, outer.tokens[min(self.step, len(outer.tokens) - 1)]] = 0.0
                self.step += 1
                return forced

        return Force()


def said(model: LocalModel, text: str) -> tuple[int, ...]:
    """Ids that write a text and end the turn."""
    return (*model.tokenizer(text, add_special_tokens=False)["input_ids"], 2)


def recomputed(model: LocalModel, prompt: str, ids: tuple[int, ...]) -> float:
    """Log-probability of ids behind a prompt, from one plain forward pass."""
    before = model.render(prompt).ids
    row = torch.tensor([[*before, *ids]])
    with torch.no_grad():
        values = model.network(input_ids=row).logits[0].double().log_softmax(-1)
    places = range(len(before) - 1, row.shape[1] - 1)
    return float(sum(values[i, row[0, i + 1]] for i in places))


def test_greedy_is_transformers_own(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    for prompt in PROMPTS:
        ids = torch.tensor([model.render(prompt).ids])
        plain = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=2, pad_token_id=2
        )
        [[completion]] = model.generate([prompt], Sampling(max_tokens=12))
        expected = [t for t in plain[0, ids.shape[1] :].tolist() if t != 2]
        assert list(completion.token_ids) == expected


@pytest.mark.real
def test_greedy_is_transformers_own_on_the_embedded_model(embedded: LocalModel) -> None:
    prompt = "What is the capital of France, and which river runs through it?"
    ids = torch.tensor([embedded.render(prompt).ids])
    plain = embedded.network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
    [[completion]] = embedded.generate([prompt], Sampling(max_tokens=20))
    assert list(completion.token_ids) == plain[0, ids.shape[1] :].tolist()


def test_a_batch_is_its_singles(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    together = model.generate(PROMPTS, Sampling(max_tokens=10))
    for prompt, [completion] in zip(PROMPTS, together, strict=True):
        [[alone]] = model.generate([prompt], Sampling(max_tokens=10))
        assert completion.token_ids == alone.token_ids
        assert completion.logprob == pytest.approx(alone.logprob, abs=1e-4)
        assert completion.finish_reason == alone.finish_reason


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=8),
        Sampling(max_tokens=8, temperature=0.7, top_p=0.5, seed=1),
        Sampling(max_tokens=8, temperature=3.0, top_k=5, min_p=0.01, seed=2),
    ],
)
def test_the_logprob_is_the_models_own_at_temperature_one(tiny_model: TinyModel, sampling: Sampling) -> None:
    model = tiny_model("llama")
    for prompt, [completion] in zip(PROMPTS, model.generate(PROMPTS, sampling), strict=True):
        assert completion.logprob == pytest.approx(recomputed(model, prompt, completion.token_ids), abs=1e-4)
        firsts = [recomputed(model, prompt, completion.token_ids[:n]) for n in range(1, len(completion.token_ids) + 1)]
        assert list(accumulate(completion.logprobs)) == pytest.approx(firsts, abs=1e-4)


def test_the_stop_token_counts_into_usage_but_is_not_said(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    forced = said(model, "blue")
    [[completion]] = model.generate(["x"], Sampling(max_tokens=20), control=Forced(*forced))
    assert completion.text == "blue"
    assert completion.token_ids == forced[:-1]
    assert completion.finish_reason == "stop"
    assert completion.logprob == pytest.approx(recomputed(model, "x", forced[:-1]), abs=1e-4)
    assert completion.usage is not None
    assert completion.usage.output_tokens == len(forced)
    assert completion.usage.input_tokens == len(model.render("x").ids)


def test_n_samples(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    drawn = model.generate(PROMPTS[:2], Sampling(max_tokens=6, temperature=1.0, n=5, seed=3))
    assert [len(each) for each in drawn] == [5, 5]
    assert len({c.token_ids for c in drawn[0]}) > 1
    greedy = model.generate(PROMPTS[:2], Sampling(max_tokens=6, n=3))
    assert all(len({c.token_ids for c in each}) == 1 and len(each) == 3 for each in greedy)


def test_a_seed_gives_the_same_samples_whatever_the_batch(tiny_model: TinyModel) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=12, temperature=1.0, n=3, seed=5)
    alone = {prompt: [c.token_ids for c in model.generate(prompt, sampling)[0]] for prompt in PROMPTS}
    assert {
        p: [c.token_ids for c in row] for p, row in zip(PROMPTS, model.generate(PROMPTS, sampling), strict=True)
    } == alone
    twice = model.generate([PROMPTS[0]] * 2, sampling)
    assert [c.token_ids for c in twice[0]] == alone[PROMPTS[0]]
    assert len({c.token_ids for row in twice for c in row}) == 6  # equal prompts get samples of their own


def test_a_header_of_many_prompts_is_read_once(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condition.models.generate.BATCH_TOKENS", 600)
    header = Message("system", "Answer from the passage. " * 40)
    prompts = [(header, Message("user", f"What is number {n}?")) for n in range(30)]
    model = tiny_model()
    ids = [model.render(prompt).ids for prompt in prompts]
    assert 2 * len(ids[0]) > 600  # where nothing is shared each is a batch of its own
    found = model.generate(prompts, Sampling(max_tokens=2))
    computed = sum(c.usage.computed_tokens - c.usage.output_tokens for [c] in found if c.usage is not None)
    assert computed < len(ids[0]) + 30 * 15
    alone = model.generate([prompts[7]], Sampling(max_tokens=2))
    assert found[7][0].token_ids == alone[0][0].token_ids


def test_samples_are_the_same_in_several_waves(tiny_model: TinyModel) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=12, temperature=1.0, n=5, seed=5, stop=("e",))
    whole = model.generate(PROMPTS, sampling)
    model.memory_bytes = 1
    waves = model.generate(PROMPTS, sampling)
    assert [[c.token_ids for c in row] for row in waves] == [[c.token_ids for c in row] for row in whole]


def test_so_many_prompts_are_written_at_once_as_have_room(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=8)
    prompts = [f"{i} blue?" for i in range(8)]
    whole = model.generate(prompts, sampling)
    batches: list[int] = []
    write = generate_module.write_shared

    def noted(writer: Any, batch: Any, *given: Any, **more: Any) -> Any:
        batches.append(len(batch))
        return write(writer, batch, *given, **more)

    monkeypatch.setattr(generate_module, "write_shared", noted)
    rest = max(len(model.render(prompt).ids) for prompt in prompts)  # at most: what they begin with is stored once
    model.memory_bytes = 2 * 3 * ((rest + 8) * 512 + 32 * 512)
    found = model.generate(prompts, sampling)
    assert [c.token_ids for [c] in found] == [c.token_ids for [c] in whole]
    assert 3 <= max(batches) < 8
    model.memory_bytes = 1
    batches.clear()
    model.generate(prompts, sampling)
    assert batches == [1] * 8


def test_copies_of_a_greedy_answer_are_paid_for_once(tiny_model: TinyModel) -> None:
    one, three = (tiny_model().generate("x", Sampling(max_tokens=4, n=n))[0] for n in (1, 3))
    assert [c.text for c in three] == [one[0].text] * 3
    spent = [c.usage for c in three if c.usage is not None]
    assert (spent[0].input_tokens, spent[0].computed_tokens) == (
        one[0].usage.input_tokens,
        one[0].usage.computed_tokens,
    )
    assert spent[1].total_tokens == spent[1].computed_tokens == 0


def test_a_seed_reproduces_and_leaves_the_process_alone(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    sampling = Sampling(max_tokens=6, temperature=1.0, n=4, seed=5)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    first = model.generate(PROMPTS, sampling)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    again = model.generate(PROMPTS, sampling)
    assert [[c.token_ids for c in each] for each in first] == [[c.token_ids for c in each] for each in again]
    other = model.generate(PROMPTS, sampling.model_copy(update={"seed": 6}))
    assert [[c.token_ids for c in each] for each in first] != [[c.token_ids for c in each] for each in other]


@pytest.mark.parametrize(
    ("words", "stops", "text"),
    [
        ("the sky is blue", (" is",), "the sky"),
        ("the sky is blue", ("is bl",), "the sky "),  # across tokens
        ("the bridge", ("ridg",), "the b"),  # inside a token
        ("the bridge", ("idge", "the b"), ""),  # the first place wins
        ("the bridge", ("nowhere",), "the bridge"),
        ("grün und 🌉 blau", (" bl",), "grün und 🌉"),
        ("grün und 🌉 blau", ("🌉",), "grün und "),
    ],
)
def test_stop_texts(tiny_model: TinyModel, words: str, stops: tuple[str, ...], text: str) -> None:
    model = tiny_model("llama")
    forced = said(model, words)
    [[completion]] = model.generate(["x"], Sampling(max_tokens=60, stop=stops), control=Forced(*forced))
    assert completion.text == text
    assert completion.finish_reason == "stop"
    assert completion.token_ids == forced[: len(completion.token_ids)]
    assert str(model.tokenizer.decode(list(completion.token_ids))).startswith(text)
    assert completion.logprob == pytest.approx(recomputed(model, "x", completion.token_ids), abs=1e-3)


def test_each_row_of_a_batch_is_cut_at_its_own_stop(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    free = model.generate(PROMPTS, Sampling(max_tokens=12))
    stop = free[0][0].text[2:4]
    for [whole], [completion] in zip(free, model.generate(PROMPTS, Sampling(max_tokens=12, stop=stop)), strict=True):
        head, found, _ = whole.text.partition(stop)
        assert completion.text == head
        assert completion.finish_reason == ("stop" if found else whole.finish_reason)


def test_cut_by_hand(tiny_model: TinyModel) -> None:
    tokenizer = tiny_model().tokenizer
    ids = list(tokenizer("the bridge", add_special_tokens=False)["input_ids"])
    assert cut(tokenizer, ids, ()) == ("the bridge", len(ids), False)
    assert cut(tokenizer, ids, ("t",)) == ("", 0, True)
    assert cut(tokenizer, [], ("t",)) == ("", 0, False)


def test_length(tiny_model: TinyModel) -> None:
    [[completion]] = tiny_model().generate(["x"], Sampling(max_tokens=3), control=Forced(70))
    assert completion.finish_reason == "length"
    assert completion.token_ids == (70, 70, 70)
    assert completion.usage is not None
    assert completion.usage.output_tokens == 3


def test_the_context_bounds_the_answer(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", max_position_embeddings=64)
    prompt = "a " * 22
    room = 64 - len(model.render(prompt).ids)
    assert 0 < room < 64
    [[completion]] = model.generate([prompt], Sampling(max_tokens=500), control=Forced(70))
    assert len(completion.token_ids) == room


def test_a_prompt_that_fills_the_context(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", max_position_embeddings=64)
    control = Forced(70)
    with pytest.raises(ModelError, match=r"prompt 1: the prompt has \d+ tokens and the model's context 64; shorten it"):
        model.generate(["fine", "a " * 80], control=control)
    assert control.calls == 0


def test_nothing(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert model.generate([]) == []
    empty = (Message("text", ""),)
    for prompts, words in (
        ([()], "^a prompt without messages: give at least one"),
        (["x", ()], "^prompt 1: a prompt without messages: give at least one"),
        (["x", None], "^prompt 1: a prompt is a string or a sequence of Messages, not None"),
        ([empty], "^the prompt is empty, no token stands before the answer: give at least one word"),
        (["x", empty], "^prompt 1: the prompt is empty"),
    ):
        with pytest.raises(ModelError, match=words):
            model.generate(prompts)  # type: ignore[arg-type]
    assert len(model.generate([""], Sampling(max_tokens=2))) == 1  # an empty turn is a prompt: the template's words


def test_a_lone_string_is_one_prompt(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert len(model.generate("Blue.", Sampling(max_tokens=2))) == 1
    assert len(model.generate((Message("user", "Blue."),), Sampling(max_tokens=2))) == 1


def test_an_interruption_holds_what_is_finished(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prompts = [f"{'a ' * 70}{i}" for i in range(40)]  # more than one batch
    control = Forced(70, raises=KeyboardInterrupt(), at=3)
    with pytest.raises(Interrupted) as caught:
        model.generate(prompts, Sampling(max_tokens=3), control=control)
    assert caught.value.total == 40
    assert 0 < len(caught.value.finished) < 40
    for place, [completion] in caught.value.finished.items():
        assert completion.token_ids == (70, 70, 70)
        assert 0 <= place < 40


DEFAULTS = {
    "suppress_tokens": [213, 342, 498], "bad_words_ids": [[213], [342]], "begin_suppress_tokens": list(range(60, 500)),
    "sequence_bias": [[[213], -99.0]], "encoder_repetition_penalty": 3.0, "guidance_scale": 3.0,
    "forced_eos_token_id": 7, "exponential_decay_length_penalty": (1, 9.0), "max_time": 1e-6, "typical_p": 0.1,
    "epsilon_cutoff": 0.5, "use_cache": False, "num_beams": 3, "num_return_sequences": 3,
    "cache_implementation": "static", "return_dict_in_generate": True, "min_new_tokens": 9, "renormalize_logits": True,
}  # fmt: skip
"""What a generation_config.json may hold."""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", DEFAULTS)
def test_no_default_of_the_network_changes_what_is_written(
    tiny_model: TinyModel, name: str, temperature: float
) -> None:
    model = tiny_model()
    prompts, sampling = ["a b c", "hello there"], Sampling(max_tokens=6, temperature=temperature, seed=3)
    expected = [[c.token_ids for c in row] for row in model.generate(prompts, sampling)]
    setattr(model.network.generation_config, name, DEFAULTS[name])
    assert [[c.token_ids for c in row] for row in model.generate(prompts, sampling)] == expected
    assert getattr(model.network.generation_config, name) == DEFAULTS[name]


class Apart:
    """A Control by which the first rows write `tokens` and all others token 70; Ctrl-C comes at a step."""

    def __init__(self, rows: int, tokens: tuple[int, ...], at: int) -> None:
        self.rows, self.tokens, self.at, self.calls = rows, tokens, at, 0

    def processor(self, tokenizer: Any, /) -> LogitsProcessor:
        outer = self

        class Force(LogitsProcessor):
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                if outer.calls == outer.at:
                    raise KeyboardInterrupt
                forced = torch.full_like(scores, -torch.inf)
                forced[: outer.rows, outer.tokens[min(outer.calls, len(outer.tokens) - 1)]] = 0.0
                forced[outer.rows :, 70] = 0.0
                outer.calls += 1
                return forced

        return Force()


def interrupted(model: LocalModel, sampling: Sampling, control: Apart) -> dict[int, list[Completion]]:
    """What is finished of one batch of six prompts."""
    with pytest.raises(Interrupted) as caught:
        model.generate([f"Colour {i}?" for i in range(6)], sampling, control=control)
    assert caught.value.total == 6
    return caught.value.finished


def test_an_interruption_holds_what_had_stopped_in_the_batch_at_work(tiny_model: TinyModel) -> None:
    model = tiny_model()
    found = interrupted(model, Sampling(max_tokens=9), Apart(3, (70, 2), at=4))
    assert len(found) == 3
    for place, [completion] in found.items():
        assert (completion.token_ids, completion.finish_reason) == ((70,), "stop")
        assert completion.logprob == pytest.approx(recomputed(model, f"Colour {place}?", (70,)), abs=1e-4)
        assert completion.usage is not None
        assert completion.usage.output_tokens == 2
    # A prompt is finished when all its samples are; before any token there is nothing.
    sampled = Sampling(max_tokens=9, n=2, temperature=1.0)
    assert len(interrupted(model, sampled, Apart(3, (70, 2), at=4))) == 1
    assert interrupted(model, Sampling(max_tokens=9), Apart(3, (70, 2), at=0)) == {}
    assert interrupted(model, Sampling(max_tokens=9), Apart(3, (70, 2), at=1)) == {}


def test_a_stop_text_ends_a_row_for_an_interruption_too(tiny_model: TinyModel) -> None:
    model = tiny_model()
    forced = said(model, "blue sky")[:-1]
    found = interrupted(model, Sampling(max_tokens=30, stop=(" s",)), Apart(2, forced, at=len(forced) + 1))
    assert [completion.text for [completion] in found.values()] == ["blue", "blue"]


def test_the_models_own_generation_config_is_not_used(tiny_model: TinyModel) -> None:
    model = tiny_model()
    expected = model.generate(PROMPTS, Sampling(max_tokens=10))
    own = model.network.generation_config
    own.temperature, own.repetition_penalty, own.do_sample, own.top_k = 0.3, 5.0, True, 3
    own.no_repeat_ngram_size, own.max_new_tokens, own.suppress_tokens = 1, 2, [5, 6]
    found = model.generate(PROMPTS, Sampling(max_tokens=10))
    assert [c.token_ids for [c] in found] == [c.token_ids for [c] in expected]


def test_top_k_one_is_greedy_whatever_the_temperature(tiny_model: TinyModel) -> None:
    model = tiny_model()
    greedy = model.generate(PROMPTS, Sampling(max_tokens=6))
    drawn = model.generate(PROMPTS, Sampling(max_tokens=6, temperature=2.0, top_k=1))
    assert [c.token_ids for [c] in drawn] == [c.token_ids for [c] in greedy]


def test_text_prompts_and_turns_in_one_call(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prompts = [(Message("text", "The sky is"),), (Message("user", "The sky is"),), (Message("text", "Blue"),)]
    together = model.generate(prompts, Sampling(max_tokens=5))
    alone = [model.generate([p], Sampling(max_tokens=5))[0] for p in prompts]
    assert [c.token_ids for [c] in together] == [c.token_ids for [c] in alone]


def test_a_prompt_that_nobody_wants_any_more_ends_early(tiny_model: TinyModel, family: str, monkeypatch: Any) -> None:
    for shared in (True, False):
        monkeypatch.setattr("condition.models.generate.shareable", lambda own, shared=shared: shared and shareable(own))
        model, prompts, asked = tiny_model(family), PROMPTS[:2], []

        def wanted(place: int, asked: list[int] = asked) -> bool:
            asked.append(place)
            return place == 0 or asked.count(1) < 3

        kept, left = model.generate(prompts, Sampling(max_tokens=12), wanted=wanted)
        whole = model.generate(prompts, Sampling(max_tokens=12))
        assert kept[0].token_ids == whole[0][0].token_ids
        assert left[0].token_ids == whole[1][0].token_ids[:3]
