"""Chain of Hindsight: what is trained behind what, the loss by hand, and the prompt that serving uses."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.errors import DataError, SettingsError, SharingWarning
from condition.models.load import load
from condition.models.local import LocalModel
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.training.hindsight import HindsightTrainer, chain_likelihood, prepare_chains, sentence
from condition.training.objective import Objective
from condition.training.rows import collate
from condition.training.settings import Settings
from condition.types import Feedback, Ranking, Sampling
from tests.conftest import TinyModel
from tests.training.test_preference import PLAIN, QUICK, ROWS, alike

PAIR = Ranking.pair({"q": "Why?"}, "so", "no")


def fit(model: LocalModel, rows: Any = ROWS, settings: Any = None, **options: Any) -> LocalModel:
    trainer = HindsightTrainer(LoRA(rank=16), Settings(**{**QUICK, **(settings or {})}), **options)
    return trainer.fit(model, rows, prompt="{q}")


def links(model: LocalModel, rows: Any, prompt: Any = "{q}", **options: Any) -> list[list[tuple[str, str]]]:
    """Of each row, what is read and what is trained, in words."""
    prepared: Any = prepare_chains(model, rows, as_prompt(prompt), Settings(**options), "training", sentence=sentence)
    decode = model.tokenizer.decode
    return [[(decode(li.ids[: li.start]), decode(li.ids[li.start :])) for li in row.links] for row in prepared.rows]


def test_a_chain_goes_both_ways(tiny_model: TinyModel) -> None:
    good, bad = "Why?\n\nA helpful answer:", "Why?\n\nAn unhelpful answer:"
    ((one, two, three, four),) = links(tiny_model(), [PAIR])
    assert [said for _, said in (one, two, three, four)] == [f"{x}<|im_end|>" for x in ("so", "no", "no", "so")]
    assert f"{good}<|im_end|>" in one[0]
    assert "no" not in one[0].split("helpful")[1]
    assert f"{good}<|im_end|>\n<|im_start|>assistant\nso<|im_end|>" in two[0]
    assert two[0].endswith("An unhelpful answer:<|im_end|>\n<|im_start|>assistant\n")
    assert f"{bad}<|im_end|>\n<|im_start|>assistant\nno<|im_end|>" in four[0]
    assert four[0].endswith("A helpful answer:<|im_end|>\n<|im_start|>assistant\n")


def test_the_best_ones_are_all_helpful(tiny_model: TinyModel) -> None:
    tied = Ranking({"q": "Why?"}, ("so", "as well", "no"), (2.0, 2.0, 1.0))
    (chain,) = links(tiny_model(), [tied])
    told = {(re.findall(r"An? \w+ answer", before)[-1], said.removesuffix("<|im_end|>")) for before, said in chain}
    assert told == {("A helpful answer", "so"), ("A helpful answer", "as well"), ("An unhelpful answer", "no")}
    assert len(chain) == 6


def test_from_tied_candidates_nothing_is_learned(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    tied = Ranking({"q": "Why?"}, ("so", "as well"), (1.0, 1.0))
    prepare = partial(prepare_chains, tiny_model(), prompt=as_prompt("{q}"), settings=Settings(), what="training")
    found: Any = prepare([tied, PAIR], sentence=sentence)
    assert (len(found.rows), found.dropped) == (1, 1)
    assert "training rows left out: 1 with all candidates tied" in caplog.text
    with pytest.raises(DataError, match="no training rows left: 2 with all candidates tied"):
        fit(tiny_model(), [tied] * 2)
    with pytest.raises(DataError, match="no training rows: the data is empty"):
        fit(tiny_model(), [])


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([Feedback({"q": "Why?"}, "so", False)], {}, "A helpful answer:"),
        ([Feedback({"q": "Why?"}, "so", g) for g in (1.0, 2.0)], {"positive": 5.0}, "An answer graded 5:"),
        ([Feedback({"q": "Why?"}, "so", g) for g in (True, 1.0)], {}, None),
        ([PAIR], {}, None),
        ([PAIR, Feedback({"q": "Why?"}, "so", "too long")], {"positive": "too long"}, None),
    ],
)
def test_a_sentence_that_no_row_says_is_told(
    rows: Any, options: dict[str, Any], words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    HindsightTrainer(**options)._positive(rows)
    told = [message for message in caplog.messages if "which no training row says" in message]
    assert told == [] if words is None else repr(words) in told[0]


def test_the_best_grade_is_asked_for_where_rankings_are_tied() -> None:
    tied = Ranking({"q": "Why?"}, ("so", "as well"), (1.0, 1.0))
    assert HindsightTrainer()._positive([tied, *(Feedback({"q": "Why?"}, "so", g) for g in (3.0, 4.0))]) == 4.0


def test_a_text_prompt_goes_on_as_text(tiny_model: TinyModel) -> None:
    ((_, two, *_),) = links(tiny_model(), [PAIR], TextPrompt("Q: {q}"))
    assert two == ("Q: Why?\n\nA helpful answer:so\n\nAn unhelpful answer:", "no<|im_end|>")


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_by_hand(tiny_model: TinyModel, shared: bool) -> None:
    """The mean of -log p over all tokens of all answers, feedback and prompt left out."""
    model = tiny_model()
    assert shareable(model.network)
    prepared: Any = prepare_chains(model, [PAIR, ROWS[1]], as_prompt("{q}"), Settings(), "training", sentence=sentence)
    objective = Objective(model.network, chain_likelihood, shared=shared, dtype=torch.float32)
    loss = objective(**collate(prepared.rows))["loss"]
    total, count = 0.0, 0
    for link in (link for row in prepared.rows for link in row.links):
        with torch.no_grad():
            logs = model.network(input_ids=torch.tensor([link.ids])).logits[0].log_softmax(-1)
        told = torch.tensor(link.ids[link.start :])
        total -= float(logs[link.start - 1 : -1].gather(1, told[:, None]).sum())
        count += len(told)
    assert float(loss.detach()) == pytest.approx(total / count, abs=1e-4)


def test_it_learns_to_follow_the_feedback(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model(tie_word_embeddings=True)
    tuned = fit(base, [Ranking.pair({"q": "Which?"}, "blue", "grey")], settings={"epochs": 60, "learning_rate": 5e-3})
    assert tuned.invoke("Which?", Sampling(max_tokens=12)).text == "blue"
    asked = "Which?\n\nAn unhelpful answer:"
    assert tuned.generate(asked, Sampling(max_tokens=12))[0][0].text == "grey"
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned", base=base)  # type: ignore[arg-type]  # a model made in memory
    assert again.invoke("Which?", Sampling(max_tokens=12)).text == "blue"


def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel) -> None:
    base, settings = tiny_model(), {"max_steps": 2, **PLAIN}
    rows = [*ROWS[:3], Ranking.pair({"q": "A pair?"}, "yes, it is one", "no")]
    one = fit(base, rows, settings={**settings, "batch_size": 4})
    two = fit(base, rows, settings={**settings, "batch_size": 1, "accumulation": 4})
    for measured in ("loss", "grad_norm"):
        assert one.history.series(measured)[1] == pytest.approx(two.history.series(measured)[1], abs=1e-5, rel=1e-5)
    alike(one, two)


def test_some_of_the_past_is_forgotten_in_training(tiny_model: TinyModel) -> None:
    base, settings = tiny_model(), {"max_steps": 2, "log_every": 1}
    whole, less, again = (fit(base, [PAIR], settings=settings, forget=share) for share in (0.0, 0.9, 0.9))
    assert less.history[0]["loss"] == again.history[0]["loss"]
    assert less.history[0]["loss"] != pytest.approx(whole.history[0]["loss"], abs=1e-4)
    assert whole.contract is not None
    assert less.contract is not None
    assert "forget" not in whole.contract.settings
    assert less.contract.settings["forget"] == 0.9
    prepared: Any = prepare_chains(base, [PAIR], as_prompt("{q}"), Settings(), "training", sentence=sentence)
    network = base.network
    for forget, training, same in ((0.9, False, True), (0.9, True, False), (0.0, True, True)):
        network.train(training)
        with torch.no_grad():
            losses = [chain_likelihood(network, prepared.rows, True, f).loss for f in (0.0, forget)]
        assert torch.equal(*losses) == same
    network.eval()


def test_a_network_that_can_not_forget(tiny_model: TinyModel) -> None:
    windowed = tiny_model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)
    trainer = HindsightTrainer(LoRA(rank=2), Settings(**QUICK), forget=0.05)
    with (
        pytest.warns(SharingWarning),
        pytest.raises(SettingsError, match="forget needs a network whose prompts can be shared"),
    ):
        trainer.fit(windowed, [PAIR], prompt="{q}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"forget": -0.1}, "forget=-0.1"),
        ({"forget": 1}, "forget=1: give a share below 1"),
        ({"positive": [1]}, r"positive=\[1\]: give True, a grade or words"),
        ({"sentence": "Good:"}, "sentence='Good:'"),
    ],
)
def test_bad_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        HindsightTrainer(**options)


@pytest.mark.parametrize("words", [None, " "])
def test_a_sentence_without_words(tiny_model: TinyModel, words: Any) -> None:
    with pytest.raises(SettingsError, match=r"sentence\(False\) gives .* give a function that turns it into words"):
        fit(tiny_model(), [PAIR], sentence=lambda said: "Good:" if said else words)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([PAIR], {}, "A helpful answer:"),
        ([Feedback({"q": "Why?"}, "so", g) for g in (1.0, 4.5)], {}, "An answer graded 4.5:"),
        ([Feedback({"q": "Why?"}, "so", "too long")], {"positive": True}, "A helpful answer:"),
        ([PAIR, Feedback({"q": "Why?"}, "so", "too long")], {}, "A helpful answer:"),
        ([PAIR], {"sentence": lambda said: "Good:" if said else "Bad:"}, "Good:"),
    ],
)
def test_feedback_of_any_kind(tiny_model: TinyModel, rows: Any, options: dict[str, Any], words: str) -> None:
    tuned = fit(tiny_model(), rows, settings={"max_steps": 1}, **options)
    assert tuned.prompt is not None
    assert tuned.prompt.format(q="Why?")[-1].content == f"Why?\n\n{words}"


def test_sentences() -> None:
    assert sentence("too long") == "An answer of which was said: too long"
    assert sentence(False) == "An unhelpful answer:"


def test_links_that_are_too_long_are_left_out(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    short, whole = (links(tiny_model(), [PAIR, ROWS[0]], max_length=n) for n in (70, 512))
    assert 0 < sum(map(len, short)) < sum(map(len, whole))
    assert "with links of a chain too long" in caplog.text


@pytest.mark.parametrize("prompt", ["Say why.\n{q}", TextPrompt("Say why.\n{q}\nA:")], ids=["chat", "text"])
def test_a_chain_that_is_too_long_loses_the_beginning_of_its_prompt(tiny_model: TinyModel, prompt: Any) -> None:
    """The same before all its links; feedback and answers stay whole."""
    model = tiny_model()
    rows = [Ranking.pair({"q": "the sea " * 20 + "is blue?"}, "so it is", "no, it is not"), PAIR]
    prepare = partial(prepare_chains, model, rows, as_prompt(prompt), what="training", sentence=sentence)
    whole: Any = prepare(settings=Settings())
    longest = max(len(link.ids) for link in whole.rows[0].links)
    found: Any = prepare(settings=Settings(max_length=longest - 9, too_long="trim"))
    assert (found.dropped, found.trimmed) == (0, 1)
    assert found.rows[1] == whole.rows[1]
    for link, before in zip(found.rows[0].links, whole.rows[0].links, strict=True):
        assert len(link.ids) == len(before.ids) - 9
        assert link.labels == before.labels
        assert link.ids[-link.start :] == before.ids[-link.start :]  # feedback, answers and the end of the prompt
        begun = common_prefix(link.ids, before.ids)
        assert (*before.ids[:begun], *before.ids[begun + 9 :]) == link.ids
    assert max(len(link.ids) for link in found.rows[0].links) == longest - 9


def test_what_trimming_does_not_make_short_enough_is_left_out(
    tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    rows = [Ranking.pair({"q": "Why is it so?"}, "so " * 20, "no " * 200), PAIR]
    found: Any = prepare_chains(
        model, rows, as_prompt("{q}"), Settings(max_length=120, too_long="trim"), "training", sentence=sentence
    )
    ((only,), whole) = (row.links for row in found.rows)
    assert model.tokenizer.decode(only.labels) == f"{'so ' * 20}<|im_end|>"
    assert (len(whole), found.trimmed) == (4, 0)
    assert "3 with links of a chain too long" in caplog.text


def test_the_longest_message_is_cut_and_a_token_of_it_stays(tiny_model: TinyModel) -> None:
    model, prompt = tiny_model(), ChatPrompt([("system", "Be kind."), ("user", "{q}")])
    rows = [Feedback({"q": "1" * 30}, "1111", True), Feedback({"q": "1"}, "1", True)]
    prepared: Any = prepare_chains(model, rows, prompt, Settings(), "training", sentence=sentence)
    longest = len(prepared.rows[0].ids)
    (((asked, said),), other) = links(model, rows, prompt)
    for gone in (9, 29):
        found = links(model, rows, prompt, max_length=longest - gone, too_long="trim")
        assert found == [[(asked.replace("1" * 30, "1" * (30 - gone)), said)], other]
    assert links(model, rows, prompt, max_length=longest - 30, too_long="trim") == [other]


def test_a_link_may_be_as_long_as_the_limit(tiny_model: TinyModel) -> None:
    model = tiny_model()
    prepared: Any = prepare_chains(model, [PAIR], as_prompt("{q}"), Settings(), "training", sentence=sentence)
    longest = max(len(link.ids) for link in prepared.rows[0].links)
    kept, less = (links(model, [PAIR], max_length=n)[0] for n in (longest, longest - 1))
    assert (len(kept), len(less) < 4) == (4, True)


def test_bad_input(tiny_model: TinyModel) -> None:
    with pytest.raises(SettingsError, match="the feedback is words alone: say which"):
        fit(tiny_model(), [Feedback({"q": "Why?"}, "so", "too long")])
    with pytest.raises(DataError, match=r"training row 0: the prompt needs the column 'q'"):
        fit(tiny_model(), [Ranking.pair({"p": "Why?"}, "so", "no")])
    with pytest.raises(DataError, match=r"training row 0 has .* tokens, the limit is 512"):
        fit(tiny_model(), [Ranking.pair({"q": "a " * 600}, "so", "no")])
