"""References are computed once for the same rows, and never for others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.fused import fused
from condition.adapters.lora import LoRA
from condition.adapters.registry import attached, switched_off
from condition.adapters.soft_prompts import PromptTuning
from condition.errors import ContractError, ModelError, SettingsError
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.prefix_sharing.logprobs import logprobs, plain_logprobs
from condition.prefix_sharing.probe import shareable
from condition.prompts.template import as_prompt
from condition.training import references
from condition.training.candidates import Candidates, prepare_rankings
from condition.training.preference import DPOTrainer
from condition.training.reading import read_completions
from condition.training.references import reference_hash, with_references
from condition.training.settings import Settings
from condition.types import Ranking
from tests.conftest import TinyModel
from tests.training.test_preference import QUICK, ROWS


def rows_of(model: LocalModel, rows: Any = ROWS) -> list[Candidates]:
    found: Any = prepare_rankings(model, rows, as_prompt("{q}"), Settings(), "training").rows
    return list(found)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read at each call of the network."""
    calls: list[int] = []
    real = references._measured
    monkeypatch.setattr(references, "_measured", lambda rows, *more: (calls.append(len(rows)), real(rows, *more))[1])
    return calls


def test_they_are_the_plain_path_s(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    for row in with_references(rows_of(model), model, torch.float32):
        with torch.no_grad():
            plain = plain_logprobs(model.network, row.sequences, [row.start] * len(row.completions))
        for kept, value in zip(row.reference, plain, strict=True):
            torch.testing.assert_close(torch.tensor(kept), value, atol=1e-4, rtol=1e-4)


def test_other_settings_find_them_again(tiny_model: TinyModel, computed: list[int]) -> None:
    for options in ({}, {"beta": 0.3}, {"loss": "ipo"}, {"pairs": "best"}):
        for settings in ({"learning_rate": 1e-3}, {"seed": 3, "batch_size": 4}):
            trainer = DPOTrainer(settings=Settings(**{**QUICK, **settings, "max_steps": 1}), **options)  # type: ignore[arg-type]
            trainer.fit(tiny_model(), ROWS, prompt="{q}")
    assert computed == [12]


def test_what_they_depend_on_computes_them_anew(tiny_model: TinyModel, computed: list[int]) -> None:
    model = tiny_model()
    rows = rows_of(model)
    with_references(rows, model, torch.float32)
    with_references(rows[:5], model, torch.float32)
    with_references(rows, model, torch.bfloat16)
    other = tiny_model()
    other.network.get_submodule("lm_head").weight.data.mul_(1.01)
    with_references(rows, other, torch.float32)
    network = LoRA(rank=2).attach(model.network)
    tuned = LocalModel(network, model.tokenizer, source=model.source)
    with_references(rows, tuned, torch.float32)
    next(p for n, p in network.named_parameters() if "lora_B" in n).data[0, 0] = 0.5
    with_references(rows, tuned, torch.float32)
    assert computed == [12, 5, 12, 12, 12, 12]


def adapted(base: LocalModel, alpha: int) -> LocalModel:
    network = LoRA(rank=2, alpha=alpha).attach(base.network)
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    return LocalModel(network, base.tokenizer, source=base.source)


def edited(base: LocalModel) -> LocalModel:
    """One row of one matrix, that of a token of every prompt, is another."""
    token = rows_of(base)[0].prompt[5]
    base.network.get_input_embeddings().weight.data[token, 1::2] += 0.5
    return base


OTHERS: dict[str, tuple[Callable[[TinyModel], LocalModel], Callable[[TinyModel], LocalModel]]] = {
    "positions": (lambda tiny: tiny(), lambda tiny: tiny(rope_parameters={"rope_type": "default", "rope_theta": 50.0})),
    "norms": (lambda tiny: tiny(), lambda tiny: tiny(rms_norm_eps=0.1)),
    "activation": (lambda tiny: tiny(), lambda tiny: tiny(hidden_act="gelu")),
    "adapter": (lambda tiny: adapted(tiny(), 4), lambda tiny: adapted(tiny(), 64)),
    "a row": (lambda tiny: tiny(), lambda tiny: edited(tiny())),
}


@pytest.mark.parametrize("what", list(OTHERS))
def test_a_model_that_says_something_else_is_asked_itself(tiny_model: TinyModel, what: str) -> None:
    """With the same weight files, or the same numbers in its adapter, and another setting of either."""
    one, other = (make(tiny_model) for make in OTHERS[what])
    before = with_references(rows_of(one), one, torch.float32)
    found = with_references(rows_of(other), other, torch.float32)
    row = found[0]
    with torch.no_grad():
        plain = plain_logprobs(other.network, row.sequences, [row.start] * len(row.completions))
    assert before[0].reference != row.reference
    for kept, value in zip(row.reference, plain, strict=True):
        torch.testing.assert_close(torch.tensor(kept), value, atol=1e-4, rtol=1e-4)


def test_a_damaged_file_is_computed_again(tiny_model: TinyModel, computed: list[int], own_references: Path) -> None:
    model = tiny_model()
    rows = with_references(rows_of(model), model, torch.float32)
    (file,) = own_references.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12, 12]
    assert list(own_references.iterdir()) == [file]


@pytest.mark.parametrize("values", [torch.zeros(3), torch.full((1,), torch.nan)], ids=["too few", "no numbers"])
def test_a_file_of_something_else_is_computed_again(
    tiny_model: TinyModel, computed: list[int], own_references: Path, values: torch.Tensor
) -> None:
    model = tiny_model()
    rows = with_references(rows_of(model), model, torch.float32)
    (file,) = own_references.iterdir()
    count = sum(len(kept) for row in rows for kept in row.reference)
    save_file({"logprobs": values.expand(count).clone() if len(values) == 1 else values}, file)
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12, 12]


def test_a_file_that_was_changed_by_hand_is_computed_again(
    tiny_model: TinyModel, computed: list[int], own_references: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Or that was written for other rows, or whose numbers no model can have given."""
    model = tiny_model()
    rows = with_references(rows_of(model), model, torch.float32)
    (file,) = own_references.iterdir()
    kept, values = file.read_bytes(), load_file(file)["logprobs"]
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12]
    assert not caplog.records
    moved, above = values - 1, values + 20
    for tensor, metadata in ((moved, told), (moved, None), (above, {"digest": references._digest(file, above)})):
        save_file({"logprobs": tensor}, file, metadata)
        assert with_references(rows_of(model), model, torch.float32) == rows
        assert file.read_bytes() == kept
        assert f"{file} is not what was written there" in caplog.messages.pop()
    save_file({"logprobs": moved}, file, {"digest": references._digest(own_references / "of-others", moved)})
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12] * 5


@pytest.mark.parametrize(
    ("last", "count", "found"),
    [(0.0, 2, True), (5e-4, 2, True), (2e-3, 2, False), (-math.inf, 2, False), (math.nan, 2, False), (0.0, 3, False)],
)
def test_what_may_be_a_log_probability(own_references: Path, last: float, count: int, found: bool) -> None:
    """Rounding may lift one above 0; nothing else does."""
    values = torch.tensor([-1.0, last])
    references._keep(own_references / "some.safetensors", values)
    kept = references._kept(own_references / "some.safetensors", count)
    assert kept is None if not found else torch.equal(kept, values)


SWITCHED: dict[str, Any] = {
    "LoRA": LoRA(rank=2),
    "whole": LoRA(rank=2, whole=("lm_head",)),
    "soft prompt": PromptTuning(length=3),
    "bottleneck": Bottleneck(size=4),
}


@pytest.mark.parametrize("kind", list(SWITCHED))
def test_an_adapter_that_is_off_says_what_the_base_says(tiny_model: TinyModel, kind: str) -> None:
    """Also where what it says while it is on is kept already; and on again it says that."""
    base = tiny_model()
    network = attached(SWITCHED[kind], base.network, base.tokenizer)
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    tuned, rows = LocalModel(network, base.tokenizer, source=base.source), rows_of(base)
    told = with_references(rows, base, torch.float32)
    on = with_references(rows, tuned, torch.float32)
    with switched_off(network):
        off = with_references(rows, tuned, torch.float32)
    for one, two, three in zip(told, off, on, strict=True):
        assert one.reference[0] == pytest.approx(two.reference[0], abs=1e-4)
        assert one.reference[0] != pytest.approx(three.reference[0], abs=1e-4)
    assert with_references(rows, tuned, torch.float32) == on
    plain = logprobs(network, rows[0].sequences, [rows[0].start] * len(rows[0].completions), shared=False)
    assert on[0].reference[0] == pytest.approx(plain[0].tolist(), abs=1e-3)


def test_how_strong_an_adapter_is_belongs_to_it(tiny_model: TinyModel) -> None:
    tuned = adapted(tiny_model(), 4)
    found = {reference_hash(tuned)}
    tuned.network.disable_adapters()
    found.add(reference_hash(tuned))
    tuned.network.enable_adapters()
    found.add(reference_hash(tuned))
    assert len(found) == 2
    next(m for m in tuned.network.modules() if isinstance(m, LoraLayer)).scale_layer(2.0)
    assert reference_hash(tuned) not in found


@pytest.mark.parametrize("kind", list(SWITCHED))
def test_a_policy_that_is_switched_off_is_refused(tiny_model: TinyModel, kind: str, computed: list[int]) -> None:
    base = tiny_model()
    network = attached(SWITCHED[kind], base.network, base.tokenizer)
    tuned = LocalModel(network, base.tokenizer, source=base.source)
    trainer = DPOTrainer(settings=Settings(**{**QUICK, "max_steps": 1}))  # type: ignore[arg-type]
    with switched_off(network), pytest.raises(SettingsError, match="adapter is switched off, and would learn nothing"):
        trainer.fit(tuned, ROWS, prompt="{q}")
    assert computed == []
    with switched_off(network):
        assert trainer.fit(base, ROWS, prompt="{q}").history  # the base is as it was


def test_each_row_is_read_once_whatever_fits_together() -> None:
    rows = [Candidates((7,) * (100 * size), ((7,) * 100, (7,) * 90)) for size in (3, 9, 30, 2, 8, 5, 1)]
    packs = list(references._packs(rows))
    assert [row for pack in packs for row in pack] == rows
    assert [sum(row.size for row in pack) for pack in packs] == [1580, 3190, 1380, 980]


def test_another_vocabulary_is_another_base(tiny_model: TinyModel) -> None:
    """Also where nothing else says so."""
    base, larger = tiny_model(), tiny_model(vocab_size=600)
    other = LocalModel(larger.network, base.tokenizer, source=base.source)
    with pytest.raises(ContractError, match="the reference stands on another base"):
        references.check_reference(base, other)


def test_the_same_answers_to_other_questions_are_others(tiny_model: TinyModel) -> None:
    model = tiny_model()
    why, who = (Ranking.pair({"q": q}, "so it is", "no") for q in ("Why?", "Who?"))
    one, other = (with_references(rows_of(model, [row]), model, torch.float32)[0] for row in (why, who))
    assert one.completions == other.completions
    assert one.reference != other.reference


def test_what_a_model_is_computed_in_belongs_to_it(tiny_model: TinyModel) -> None:
    """bitsandbytes keeps the same numbers, whatever their products are computed in."""
    base = tiny_model()
    kinds = [None, *(Quantization(bits=4, compute_dtype=dtype) for dtype in ("float32", "bfloat16"))]
    models = [LocalModel(base.network, base.tokenizer, source=base.source, quantization=kind) for kind in kinds]
    assert len({reference_hash(model) for model in models}) == 3


def test_the_same_bytes_may_be_other_weights() -> None:
    """By another name, in another shape and of another type."""
    bits = torch.arange(6, dtype=torch.int16)
    kinds = {
        "as they are": {"a": bits},
        "name": {"b": bits},
        "shape": {"a": bits.view(2, 3)},
        "type": {"a": bits.view(torch.float16)},
        "in two": {"a": bits[:3], "b": bits[3:]},
    }
    told = [
        torch.nn.ParameterDict({n: torch.nn.Parameter(t, False) for n, t in kind.items()}) for kind in kinds.values()
    ]
    assert len({references._weights(weights) for weights in told}) == len(kinds)  # type: ignore[arg-type]


def test_what_a_hook_does_is_never_kept(tiny_model: TinyModel, computed: list[int], own_references: Path) -> None:
    """Nor is what was kept before it was there given to a model that computes something else now."""
    model = tiny_model()
    rows = rows_of(model)
    plain = with_references(rows, model, torch.float32)
    steer = model.network.get_submodule("model.layers.0").register_forward_hook(lambda layer, given, out: out * 1.5)
    steered = with_references(rows, model, torch.float32)
    assert steered[0].reference[0] != pytest.approx(plain[0].reference[0])
    assert len(list(own_references.iterdir())) == 1
    steer.remove()
    assert with_references(rows, model, torch.float32) == plain
    assert computed == [12, 12]


def test_other_versions_of_the_libraries_read_anew(
    tiny_model: TinyModel, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    rows = rows_of(model)
    with_references(rows, model, torch.float32)
    monkeypatch.setattr(references, "versions", lambda: {"transformers": "5.99"})
    with_references(rows, model, torch.float32)
    assert computed == [12, 12]


def test_a_reference_in_training_is_read_without_dropout(tiny_model: TinyModel) -> None:
    model = tiny_model(attention_dropout=0.5)
    expected = [row.reference for row in with_references(rows_of(model), model, torch.float32)]
    again = tiny_model(attention_dropout=0.5)
    again.network.get_submodule("lm_head").weight.data[500] += 1e-5  # another file
    again.network.train()
    found = [row.reference for row in with_references(rows_of(again), again, torch.float32)]
    assert again.network.training
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_policy_that_has_learned_nothing_is_its_reference(tiny_model: TinyModel, dtype: torch.dtype) -> None:
    """To the bit: products of the reference are those of the training."""
    model = tiny_model()
    assert shareable(model.network)
    network = LoRA(rank=2).attach(model.network)
    for row in rows_of(model)[:3]:
        (known,) = with_references([row], model, dtype)
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32), fused(network, dtype):
            read = read_completions(network, [known], shared=True)
        assert [tuple(values.tolist()) for values in read.tokens] == list(known.reference)


def test_what_can_not_be_kept_is_computed_again(
    tiny_model: TinyModel, computed: list[int], own_references: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle of the file leaves nothing of it."""

    def full(tensors: Any, path: str, *_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = tiny_model()
    with monkeypatch.context() as patched:
        patched.setattr(references, "save_file", full)
        rows = with_references(rows_of(model), model, torch.float32)
        assert list(own_references.iterdir()) == []
    assert with_references(rows_of(model), model, torch.float32) == rows
    assert computed == [12, 12]


def test_they_are_no_part_of_a_row(tiny_model: TinyModel) -> None:
    row = rows_of(tiny_model())[0]
    assert repr(replace(row, reference=((1.0,), (2.0,), (3.0,)))) == repr(row)


def test_a_broken_reference(tiny_model: TinyModel) -> None:
    model = tiny_model()
    assert shareable(model.network)
    model.network.get_submodule("lm_head").weight.data[:] = torch.nan
    with pytest.raises(ModelError, match="log-probabilities that are no numbers"):
        with_references(rows_of(model), model, torch.float32)
