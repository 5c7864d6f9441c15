"""What a control does to rows, on both ways to write: dead ends, stop tokens, a template's space, `generate` alone."""

from __future__ import annotations

import re

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from condition.control.grammar import Choice, Grammar, Regex
from condition.errors import ControlError
from condition.models.local import LocalModel
from condition.prefix_sharing.decode import Decoder
from condition.types import Completion, Message, Sampling
from tests.conftest import TinyModel

ASKED = (Message("user", "Who built the bridge?"),)
DRAWN = Sampling(max_tokens=24, temperature=1.0, n=16, seed=1)
DEAD_END = Grammar('start: "a" ("b" | "c" /[x&&y]/)')
"""Whoever says c can't go on."""


@pytest.fixture(params=["shared", "plain"])
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> LocalModel:
    built = tiny_model()
    if request.param == "plain":
        built.network.set_attn_implementation("eager")
    return built


pytestmark = pytest.mark.filterwarnings("ignore::condition.errors.SharingWarning")


def test_a_dead_end_ends_its_sample_alone(model: LocalModel) -> None:
    [found] = model.generate([ASKED], DRAWN, control=DEAD_END)
    assert {(c.text, c.finish_reason) for c in found} == {("ab", "stop"), ("ac", "control")}
    for completion in found:
        assert len(completion.token_ids) == len(completion.logprobs)
        assert completion.usage is not None
        assert completion.usage.output_tokens == len(completion.token_ids) + (completion.finish_reason == "stop")


def test_what_can_not_begin_is_an_error(model: LocalModel) -> None:
    with pytest.raises(ControlError, match="no token may come first"):
        model.generate([ASKED], control=Choice(["yes"]) & Choice(["no"]))


def test_the_limit_of_tokens_ends_a_grammar_early(model: LocalModel) -> None:
    [[found]] = model.generate([ASKED], Sampling(max_tokens=3), control=Regex("[0-9]{9}"))
    assert found.finish_reason == "length"
    assert re.fullmatch(r"\d{3,}", found.text)


def test_a_dead_end_in_a_stream(model: LocalModel) -> None:
    *pieces, last = model.stream(ASKED, Sampling(max_tokens=9), control=Grammar('start: "abc" /[x&&y]/'))
    assert isinstance(last, Completion)
    assert ("".join(map(str, pieces)), last.text, last.finish_reason) == ("abc", "abc", "control")


def test_finished_rows_leave_and_the_others_go_on(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    step = Decoder.step

    def counted(self: Decoder) -> object:
        rows.append(len(self._rows))
        return step(self)

    monkeypatch.setattr(Decoder, "step", counted)
    [found, other] = tiny_model().generate(
        [ASKED, (Message("user", "When?"),)],
        DRAWN.model_copy(update={"max_tokens": 60}),
        control=Regex("(no|[a-z]{20,40})!"),
    )
    assert all(re.fullmatch("(no|[a-z]{20,40})!", c.text) for c in (*found, *other) if c.finish_reason == "stop")
    assert max(rows) == 32 > rows[-1]  # the probe of a new network decodes too


def test_rows_that_are_kept_keep_their_own_stops_and_go_on_once(tiny_model: TinyModel) -> None:
    limits = Choice(["y"]).processor(tiny_model().tokenizer)
    limits.begin([[5], [6], [7]], [False] * 3, 9)
    first = limits(torch.tensor([[1], [1], [1]]), torch.zeros(3, 512)) > -torch.inf
    [(said,)] = first[2:].nonzero(as_tuple=False)[:, 1:].tolist()
    limits.keep([2, 2])
    kept, idle = limits(torch.tensor([[1, said], [1, 9]]), torch.zeros(2, 512)) > -torch.inf
    assert kept.nonzero().flatten().tolist() == [7]
    assert bool(idle.all())  # it stands twice: nobody reads the second


def test_all_stop_tokens_end_a_text(tiny_model: TinyModel) -> None:
    """Turns end with <|im_end|>; the tokenizer's end of text is another token."""
    built = tiny_model()
    built.tokenizer.add_special_tokens({"eos_token": "<pad>"})
    model = LocalModel(built.network, built.tokenizer, source=built.source)
    assert model.renderer.chat_stop != model.tokenizer.eos_token_id
    for asked in (ASKED, (Message("text", "Who?"),)):
        [found] = model.generate([asked], DRAWN, control=Choice(["yes", "no"]))
        assert {(c.text, c.finish_reason) for c in found} == {("yes", "stop"), ("no", "stop")}


def test_a_space_of_the_template_is_no_part_of_the_text(tiny_model: TinyModel) -> None:
    built = tiny_model()
    built.tokenizer.chat_template = None
    model = LocalModel(built.network, built.tokenizer, source=built.source)
    [found, other] = model.generate([ASKED, (Message("text", "Who?"),)], DRAWN, control=Choice(["yes", "the bridge"]))
    assert {c.text for c in found} == {c.text for c in other} == {"yes", "the bridge"}
    assert all(str(model.tokenizer.decode(c.token_ids)).startswith(" ") for c in found)
    assert not any(str(model.tokenizer.decode(c.token_ids)).startswith(" ") for c in other)


def _alone(model: LocalModel, control: Choice | Grammar) -> list[str]:
    """What transformers' own `generate` writes under the processor."""
    ids = torch.tensor([model.render(ASKED).ids] * 16)
    processors = LogitsProcessorList([control.processor(model.tokenizer)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=16, logits_processor=processors
        )
    return list(model.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True))


def test_in_transformers_own_generate(tiny_model: TinyModel) -> None:
    assert set(_alone(tiny_model(), Choice(["yes", "yes!"]))) == {"yes", "yes!"}
    with pytest.raises(ControlError, match="no token may follow"):
        _alone(tiny_model(), DEAD_END)


def test_a_processor_is_for_one_call_and_for_no_beams(tiny_model: TinyModel) -> None:
    model = tiny_model()
    ids = torch.tensor([model.render(ASKED).ids])
    processors = LogitsProcessorList([Regex("[a-z ]{40}").processor(model.tokenizer)])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "logits_processor": processors}
    model.network.generate(ids, do_sample=False, **options)
    with pytest.raises(ControlError, match="anew for each call"):
        model.network.generate(ids, do_sample=False, **options)
    options["logits_processor"] = LogitsProcessorList([Regex("[a-z ]{40}").processor(model.tokenizer)])
    with pytest.raises(ControlError, match="without beams"):
        model.network.generate(ids, do_sample=False, num_beams=4, **options)


def test_a_tokenizer_without_an_end_of_text(tiny_model: TinyModel) -> None:
    """The turn's stop token is all there is; token 0 is a word like any other to the network."""
    built = tiny_model()
    built.tokenizer.eos_token = None
    model = LocalModel(built.network, built.tokenizer, source=built.source)
    [found] = model.generate([ASKED], DRAWN, control=Choice(["yes", "yes!"]))
    assert {(c.text, c.finish_reason) for c in found} == {("yes", "stop"), ("yes!", "stop")}


def test_a_network_that_knows_more_tokens_than_its_tokenizer(tiny_model: TinyModel) -> None:
    [found] = tiny_model(vocab_size=600).generate([ASKED], DRAWN, control=Regex(".{1,9}"))
    assert all(t < 512 for c in found for t in c.token_ids)
    processor = Regex(".{1,9}").processor(tiny_model().tokenizer)
    assert processor(torch.tensor([[5]]), torch.zeros(1, 300)).shape == (1, 300)  # and one may know fewer


def test_a_tokenizer_that_can_not_be_read() -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))
    with pytest.raises(ControlError, match="can't be read as bytes"):
        Choice(["a"]).processor(words)
