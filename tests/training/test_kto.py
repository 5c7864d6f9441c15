"""KTO: thumbs, the divergence that is a mean over a step, and what is no thumb."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.errors import ContractError, DataError, SettingsError
from condition.models.local import LocalModel
from condition.prefix_sharing.logprobs import logprobs
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training.candidates import Candidates
from condition.training.dropout import without_dropout
from condition.training.kto import KTOTrainer, ThumbObjective, prepare_thumbs
from condition.training.losses import kto_loss
from condition.training.settings import Settings
from condition.types import Feedback, Ranking
from tests.conftest import TinyModel
from tests.training.test_preference import PLAIN, QUICK, alike, last

THUMBS = [
    Feedback({"q": f"What is {i}? " + "sky " * (i % 5)}, f"It is {i}" if i % 2 else "no " * 3, i % 2 == 1)
    for i in range(12)
]


def fit(model: LocalModel, rows: Any = THUMBS, settings: Any = None, held: Any = None, **options: Any) -> LocalModel:
    trainer = KTOTrainer(
        adapter=LoRA(rank=4), settings=Settings(**{**QUICK, "batch_size": 4, **(settings or {})}), **options
    )
    return trainer.fit(model, rows, prompt="{q}", validation=held)


def test_it_learns_what_was_liked(tiny_model: TinyModel) -> None:
    tuned = fit(tiny_model(), settings={"epochs": 6})
    losses = tuned.history.series("loss")[1]
    assert losses[0] == pytest.approx(0.5, abs=1e-5)  # no divergence and no reward at the start
    assert sum(losses[-3:]) < sum(losses[:3])
    assert last(tuned, "reward_good") > last(tuned, "reward_bad")
    assert last(tuned, "drift_better") > last(tuned, "drift_worse")
    assert last(tuned, "divergence") >= 0


def test_a_row_stands_beside_the_next_ones_completion(tiny_model: TinyModel) -> None:
    model = tiny_model()
    same = [
        Feedback({"q": "Why?"}, "so", True),
        Feedback({"q": "Why?"}, "no", False),
        Feedback({"q": "Who?"}, "me", True),
    ]
    rows: Any = prepare_thumbs(model, same, as_prompt("{q}"), Settings(), "training").rows
    said = [[model.tokenizer.decode(c[:-1]) for c in row.completions] for row in rows]
    assert said == [["so", "me"], ["no", "me"], ["me", "so"]]  # never one of the same prompt
    assert [row.grades[0] for row in rows] == [1.0, 0.0, 1.0]


def test_the_next_row_with_another_prompt(tiny_model: TinyModel) -> None:
    """As one would find it row by row, around the end; with one prompt alone the next row."""
    model, numbers = tiny_model(), random.Random(0)
    for prompts in ([numbers.choice("abc") for _ in range(30)], ["a"] * 3, ["a", "b", "b"], ["b", "b", "a"]):
        thumbs = [Feedback({"q": q}, str(number), True) for number, q in enumerate(prompts)]
        found: Any = prepare_thumbs(model, thumbs, as_prompt("{q}"), Settings(), "training").rows
        for place, row in enumerate(found):
            later = [*range(place + 1, len(prompts)), *range(place)]
            other = next((i for i in later if prompts[i] != prompts[place]), later[0])
            assert [model.tokenizer.decode(c[:-1]) for c in row.completions] == [str(place), str(other)]


def test_another_row_s_completion_is_cut_to_what_fits(tiny_model: TinyModel) -> None:
    thumbs = [Feedback({"q": "sky " * 20}, "so", True), Feedback({"q": "Why?"}, "no " * 20, False)]
    whole: Any = prepare_thumbs(tiny_model(), thumbs, as_prompt("{q}"), Settings(), "training").rows[0]
    limit = len(whole.sequences[1]) - 3
    settings = Settings(max_length=limit)
    short: Any = prepare_thumbs(tiny_model(), thumbs, as_prompt("{q}"), settings, "training").rows[0]
    assert short.sequences == [whole.sequences[0], whole.sequences[1][:limit]]


def test_thumbs_are_numbers_in_some_files(tiny_model: TinyModel) -> None:
    rows = [{"q": f"What is {i}?", "completion": "so", "label": i} for i in (1, 0, 1.0, 0.0)]
    found: Any = prepare_thumbs(tiny_model(), rows, as_prompt("{q}"), Settings(), "training").rows
    assert [row.grades[0] for row in found] == [1.0, 0.0, 1.0, 0.0]


def test_the_divergence_is_never_below_zero_and_no_way_to_learn(tiny_model: TinyModel) -> None:
    """A policy that gives other completions less than the reference does has a divergence of 0; where it gives them
    more, no gradient flows through it."""
    model = tiny_model()
    assert shareable(model.network)
    rows: Any = prepare_thumbs(model, THUMBS[:4], as_prompt("{q}"), Settings(), "training").rows
    network = LoRA(rank=2).attach(model.network)
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    good = torch.tensor([row.grades[0] == 1 for row in rows])
    for moved, expected in ((5.0, 0.0), (-5.0, 5.0)):
        like = [replace(row, reference=_at(network, row, moved)) for row in rows]
        measured = ThumbObjective(0.2, 1.0, 1.0)(network, like, True)
        assert measured.watched["divergence"].tolist() == pytest.approx([expected] * 4, abs=1e-4)
        found = torch.autograd.grad(measured.loss, list(trainable(network).values()))
        sums = torch.stack([logprobs(network, row.sequences, [row.start] * 2)[0].sum() for row in rows])
        alone = kto_loss(sums - sums.detach(), good, torch.tensor(expected), beta=0.2, good_weight=1.0, bad_weight=1.0)
        assert float(measured.loss.detach()) == pytest.approx(float(alone.sum().detach()), abs=1e-4)
        for one, other in zip(found, torch.autograd.grad(alone.sum(), list(trainable(network).values())), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("moved", "of_step", "of_first"), [((-2.0, -6.0), 4.0, 2.0), ((5.0, -1.0), 0.0, 0.0)])
def test_the_divergence_of_a_step(
    tiny_model: TinyModel, moved: tuple[float, float], of_step: float, of_first: float
) -> None:
    """A mean over the batches of a step, told before the first; in validation over all rows, and none of the step."""
    model = tiny_model(attention_dropout=0.5)  # nothing is dropped where the divergence is measured
    assert shareable(model.network)
    rows: Any = prepare_thumbs(model, THUMBS[:4], as_prompt("{q}"), Settings(), "training").rows
    network = LoRA(rank=2).attach(model.network)
    one, two = ([replace(r, reference=_at(network, r, m)) for r in rows] for m in moved)
    measure = ThumbObjective(0.2, 1.0, 2.0)
    network.train()
    measure.before_step(network, [one, two], True)
    assert network.training
    divergence = measure(network, one, True).watched["divergence"]
    assert divergence.tolist() == pytest.approx([of_step] * 4, abs=1e-4)
    measure.before_step(network, [one], True)  # a step of one batch measures its own, as the last of an epoch may be
    with without_dropout(network):
        divergence = measure(network, one, True).watched["divergence"]
    assert divergence.tolist() == pytest.approx([of_first] * 4, abs=1e-4)
    parts = [measure(network.eval(), batch, True).parts for batch in (one, two)]
    assert measure.whole(parts[0])["divergence"] == pytest.approx(of_first, abs=1e-4)
    found = measure.whole([*parts[0], *parts[1]])
    assert found["divergence"] == pytest.approx(of_step, abs=1e-4)
    good, ratios = torch.tensor([row.grades[0] == 1 for row in [*one, *two]]), torch.zeros(8)
    by_hand = kto_loss(ratios, good, torch.tensor(of_step), beta=0.2, good_weight=1.0, bad_weight=2.0)
    assert found["loss"] == pytest.approx(float(by_hand.mean()), abs=1e-4)


def _at(network: Any, row: Candidates, moved: float) -> tuple[tuple[float, ...], ...]:
    """A reference at the policy's own numbers, which gives the other completion so much more, in nats."""
    with torch.no_grad():
        own, other = logprobs(network, row.sequences, [row.start] * 2)
    return tuple(own.tolist()), tuple((other + moved / len(other)).tolist())


def test_it_begins_at_its_reference(tiny_model: TinyModel) -> None:
    """Whatever the network drops in training; from another reference it begins elsewhere."""
    base = tiny_model(attention_dropout=0.5)
    assert fit(base, settings={"max_steps": 1}).history[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    moved = fit(base, settings={"max_steps": 3})
    first = fit(base, settings={"max_steps": 1}, reference=moved).history[0]
    assert abs(first["drift_better"]) > 1e-3
    with pytest.raises(ContractError, match="the reference stands on another base"):
        fit(base, reference=tiny_model("qwen2"))


def test_it_stops_when_the_better_ones_get_unlikely(tiny_model: TinyModel, tmp_path: Path) -> None:
    rows = [Feedback({"q": f"What {i}?"}, "it is" if i % 2 else "it is it is it is", i % 2 == 1) for i in range(12)]
    settings = {"epochs": 30, "learning_rate": 3e-2, "output": tmp_path / "run"}
    tuned = fit(tiny_model(), rows, settings, good_weight=0.01, stop_drift=0.05)
    assert tuned.history.series("loss")[0][-1] < 90
    assert last(tuned, "drift_better") < -0.05
    with pytest.raises(SettingsError, match="it differs in stop_drift"):
        fit(tiny_model(), rows, settings, good_weight=0.01, stop_drift=0.1)


IN_PARTS: list[dict[str, Any]] = [{"batch_size": 2, "accumulation": 4}, {"batch_size": 8, "at_once": 3}]


@pytest.mark.parametrize("parts", IN_PARTS, ids=str)
def test_small_batches_add_up_to_a_large_one(tiny_model: TinyModel, parts: dict[str, Any]) -> None:
    """The divergence too is that of the whole step, and of all validation rows. By plain gradients: Adam divides by
    their size, also where that is nothing but rounding."""
    base = tiny_model()
    rows = [
        Feedback(thumb.inputs, "It is so" + " no" * (number % 3), number > 0) for number, thumb in enumerate(THUMBS)
    ]
    settings = {"max_steps": 3, **PLAIN}
    held = [Feedback({"q": f"And {i}?"}, "It is so" if i % 3 else "no " * (i + 1), i < 2) for i in range(7)]
    one = fit(base, rows[:8], settings={**settings, "batch_size": 8}, held=held)
    two = fit(base, rows[:8], settings={**settings, **parts}, held=held)
    assert last(one, "divergence") > 1e-3
    for measured in ("loss", "grad_norm", "divergence", "eval_loss", "eval_divergence"):
        assert one.history.series(measured)[1] == pytest.approx(two.history.series(measured)[1], abs=1e-5, rel=1e-5)
    alike(one, two)


def test_rankings_are_thumbs_too(tiny_model: TinyModel) -> None:
    """All that none is better than are liked."""
    rows = [Ranking({"q": "Why?"}, ("so", "as well", "no"), (2, 2, 1)), Ranking.pair({"q": "Who?"}, "me", "you")]
    found: Any = prepare_thumbs(tiny_model(), rows, as_prompt("{q}"), Settings(), "training").rows
    assert [row.grades[0] for row in found] == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_from_tied_candidates_nothing_is_learned(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    tied = Ranking({"q": "Why?"}, ("so", "as well"), (1, 1))
    found: Any = prepare_thumbs(tiny_model(), [tied, *THUMBS[:2]], as_prompt("{q}"), Settings(), "training")
    assert [row.grades[0] for row in found.rows] == [0.0, 1.0]
    assert found.dropped == 1
    assert "training rows left out: 1 with all candidates tied" in caplog.text
    with pytest.raises(DataError, match="0 training rows: KTO needs at least two"):
        prepare_thumbs(tiny_model(), [tied] * 2, as_prompt("{q}"), Settings(), "training")


def test_rankings_come_from_anywhere(tiny_model: TinyModel, tmp_path: Path) -> None:
    """From a generator, among thumbs, as rows, from a file; a row is named by its place among those given."""
    pair, file = Ranking.pair({"q": "Who?"}, "me", "you"), tmp_path / "pairs.csv"
    file.write_text("q,chosen,rejected\nWho?,me,you\n")
    rows = {"q": "Who?", "chosen": "me", "rejected": "you"}
    sources = ([pair], (one for one in [pair]), [rows], iter([rows]), file, str(file))
    expected = [[1.0, 0.0]] * len(sources)
    prepared: list[Any] = [prepare_thumbs(tiny_model(), s, as_prompt("{q}"), Settings(), "training") for s in sources]
    assert [[row.grades[0] for row in one.rows] for one in prepared] == expected
    mixed: Any = prepare_thumbs(tiny_model(), [THUMBS[0], pair, THUMBS[1]], as_prompt("{q}"), Settings(), "training")
    assert [row.grades[0] for row in mixed.rows] == [0.0, 1.0, 0.0, 1.0]
    with pytest.raises(DataError, match=r"training row 1: 0\.5 is no thumb"):
        prepare_thumbs(tiny_model(), [pair, Feedback({"q": "a"}, "b", 0.5)], as_prompt("{q}"), Settings(), "training")


def test_weights_count(tiny_model: TinyModel) -> None:
    plain, weighted = (
        fit(tiny_model(), settings={"max_steps": 1}),
        fit(tiny_model(), settings={"max_steps": 1}, good_weight=2.0, bad_weight=2.0),
    )
    assert weighted.history[0]["loss"] == pytest.approx(2 * plain.history[0]["loss"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Feedback({"q": "a"}, "b", 0.5)] * 2, "row 0: 0.5 is no thumb"),
        ([Feedback({"q": "a"}, "b", "nice")] * 2, "give words to HindsightTrainer"),
        ([Feedback({"q": "a"}, " ", True)], "an empty completion"),
        (THUMBS[:1], "1 training rows: KTO needs at least two"),
    ],
)
def test_bad_rows(tiny_model: TinyModel, rows: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit(tiny_model(), rows)


def test_shared_and_repeated_rows_are_known_by_their_own_words(tiny_model: TinyModel) -> None:
    """Whatever row comes next; the other thumb on the same completion says something else."""
    said = Feedback({"q": "what  is 3? sky sky sky"}, THUMBS[3].completion.upper(), True)
    with pytest.raises(DataError, match=r"training row 3 is in the validation data"):
        fit(tiny_model(), held=[said, THUMBS[3].model_copy(update={"said": False})])
    other = [THUMBS[i].model_copy(update={"said": not THUMBS[i].said}) for i in (1, 2)]
    tuned = fit(tiny_model(), settings={"overlap": "drop"}, held=[*other, THUMBS[8], THUMBS[5]])
    assert tuned.contract is not None
    assert tuned.contract.rows == len(THUMBS) - 2
    again = [THUMBS[0], THUMBS[1].model_copy(update={"id": "a"}), THUMBS[0], THUMBS[2], said, THUMBS[3], other[0]]
    with pytest.raises(DataError, match=r"training rows row 2, row 5 were there before"):
        fit(tiny_model(), again, settings={"duplicates": "raise"})


def test_bad_settings() -> None:
    for wrong in (0, -1, math.inf, math.nan, True, "1"):
        with pytest.raises(SettingsError, match=r"good_weight=.*: give a number above 0"):
            KTOTrainer(good_weight=wrong)  # type: ignore[arg-type]  # what the message is for
