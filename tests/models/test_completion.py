"""What tokens become: text as they write it, cut where it stops, with what it cost, and never from no numbers."""

from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from condition.control.grammar import Choice
from condition.errors import ModelError
from condition.models.completion import Asked, Writer, completion, grouped, read_prompt, stop_tokens, text_of
from condition.models.local import LocalModel
from condition.types import Completion, Message, Sampling, Usage
from tests.conftest import TinyModel
from tests.models.test_generate import Forced

STOP = 2
ASKED = (Message("user", "Who built the bridge?"),)


@pytest.fixture
def writer(tiny_model: TinyModel) -> Writer:
    return tiny_model()._writer


def ids_of(writer: Writer, text: str) -> list[int]:
    return list(writer.renderer.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_no_space_is_taken_away_before_a_sign() -> None:
    pieces = [("<unk>", 0.0), ("\u2581yes", -1.0), ("\u2581,", -1.0)]
    words = Tokenizer(models.Unigram(pieces, unk_id=0))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, clean_up_tokenization_spaces=True)
    assert tokenizer.decode([1, 2]) == "yes,"  # what a control has not allowed
    assert text_of(tokenizer, [1, 2]) == "yes ,"


@pytest.mark.real
@pytest.mark.parametrize("tokens", [1, 2, 3, 5])
def test_what_is_cut_off_ends_in_no_half_character(embedded: LocalModel, tokens: int) -> None:
    bridges = "\U0001f309\U0001f309"
    sampling = Sampling(max_tokens=tokens)
    ((whole,),) = embedded.generate(["x"], sampling, control=Choice([bridges]))
    pieces = list(embedded.stream("x", sampling, control=Choice([bridges])))
    assert whole.finish_reason == "length"
    assert bridges.startswith(whole.text)
    assert len(whole.token_ids) == tokens  # all that was written
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.text == pieces[-1].text


def test_the_stop_token_is_paid_for_and_not_said(writer: Writer) -> None:
    own = ids_of(writer, "blue")
    prompt, logprobs = Asked(0, (5, 6, 7, 8), (STOP,), is_text=False), [-1.0] * (len(own) + 1)
    spent = Usage(computed_tokens=1, seconds=2.0)
    found = completion(writer, prompt, [*own, STOP], logprobs, Sampling(), spent)
    assert (found.text, found.finish_reason, found.logprob) == ("blue", "stop", -len(own))
    assert found.usage == Usage(
        input_tokens=4, output_tokens=len(own) + 1, computed_tokens=len(own) + 2, saved_tokens=3, seconds=2.0
    )
    longer = completion(writer, prompt, own, logprobs, Sampling(), spent)
    assert longer.finish_reason == "length"
    assert longer.usage is not None
    assert longer.usage.output_tokens == len(own)


def test_a_stop_text_comes_before_a_dead_end_and_before_the_stop_token(writer: Writer) -> None:
    own, prompt = ids_of(writer, "blue sky"), Asked(0, (5,), (STOP,), is_text=False)
    for blocked, ids in ((True, own), (False, [*own, STOP])):
        logprobs = [-1.0] * len(ids)
        found = completion(writer, prompt, ids, logprobs, Sampling(stop=(" s",)), Usage(), blocked=blocked)
        assert (found.text, found.finish_reason) == ("blue", "stop")
        assert found.usage is not None
        assert found.usage.output_tokens == len(own)
    ended = completion(writer, prompt, own, [-1.0] * len(own), Sampling(), Usage(), blocked=True)
    assert ended.finish_reason == "control"


def test_turns_end_with_their_own_token_and_with_the_end_of_text(tiny_model: TinyModel) -> None:
    built = tiny_model()
    assert stop_tokens(built.renderer, ASKED) == (STOP,)
    built.tokenizer.add_special_tokens({"eos_token": "<pad>"})
    model = LocalModel(built.network, built.tokenizer, source=built.source)
    assert stop_tokens(model.renderer, ASKED) == (STOP, 0)
    [[found]] = model.generate([ASKED], control=Forced(70, 0))
    assert (found.token_ids, found.finish_reason) == ((70,), "stop")


def test_a_prompt_leaves_room_for_a_token_at_least(writer: Writer) -> None:
    size = len(read_prompt(writer, ASKED))
    assert len(read_prompt(writer._replace(context=size + 1), ASKED)) == size
    with pytest.raises(ModelError, match=f"has {size} tokens and the model's context {size}"):
        read_prompt(writer._replace(context=size), ASKED)


def test_numbers_that_are_none_are_an_error(writer: Writer) -> None:
    with pytest.raises(ModelError, match="NaN"):
        completion(writer, Asked(0, (5,), (STOP,), is_text=False), [70], [math.nan], Sampling(), Usage())


def test_copies_of_a_greedy_answer_cost_nothing() -> None:
    written = [Completion(text, usage=Usage(output_tokens=1)) for text in "ab"]
    found = grouped(written, 2, Sampling(n=3))
    assert [[c.text for c in own] for own in found] == [["a"] * 3, ["b"] * 3]
    assert [c.usage for c in found[1]] == [Usage(output_tokens=1), Usage(), Usage()]
    drawn = grouped(written, 1, Sampling(n=2, temperature=1.0))
    assert [[c.text for c in own] for own in drawn] == [["a", "b"]]
