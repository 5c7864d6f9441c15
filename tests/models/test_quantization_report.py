"""Size, perplexity and speed of each way of storing weights."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.errors import DataError, ModelError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantization_report import quantization_report
from condition.models.quantize import Quantization
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example, Message
from tests.conftest import TinyModel


def test_rows_in_the_order_asked_for(tiny_folder: Path) -> None:
    pytest.importorskip("torchao")
    asked = [Quantization(bits=8, kind="intx"), Quantization()]
    report = quantization_report(tiny_folder, asked, texts=["The bridge at Orla was built of oak in 1784."])
    assert [row.name for row in report.rows] == ["float32", "intx8", "nf4"]
    whole, eight, four = report.rows
    assert whole.megabytes > eight.megabytes > four.megabytes
    assert eight.perplexity == pytest.approx(whole.perplexity, rel=0.02)
    assert (whole.bits, eight.bits) == (32, 9)
    assert all(row.tokens_per_second > 0 for row in report.rows)
    assert str(report).splitlines()[1].split() == ["MB", "bits", "perplexity", "tokens/s"]


def test_perplexity_by_hand(tiny_folder: Path) -> None:
    """Of every token that has one before it, over all texts together."""
    texts = ["The bridge at Orla was built of oak in 1784.", "Bread needs flour, water and salt, and patience. " * 3]
    model = load(tiny_folder)
    total, count = 0.0, 0
    for text in texts:
        ids = model.render((Message("text", text),)).ids
        values = model.network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(values[i - 1, ids[i]].detach()) for i in range(1, len(ids)))
        count += len(ids) - 1
    (row,) = quantization_report(tiny_folder, [], texts=texts).rows
    assert row.perplexity == pytest.approx(math.exp(total / count), rel=1e-4)
    whole = sum(t.numel() * t.element_size() for t in (*model.network.parameters(), *model.network.buffers()))
    assert row.megabytes == pytest.approx(whole / 1e6)


def test_bits_a_weight_with_its_share_of_the_scales(tiny_folder: Path) -> None:
    """Dettmers et al. 2023: a scale in fp32 for 64 weights, or in 8 bits with one in fp32 for 256 of those."""
    asked = [Quantization(), Quantization(double=False), Quantization(bits=8)]
    rows = quantization_report(tiny_folder, asked, texts=["The bridge at Orla."]).rows
    assert [row.name for row in rows] == ["float32", "nf4", "nf4 double=False", "int8"]
    shapes = [m.weight.shape for n, m in load(tiny_folder).network.named_modules() if n.endswith("_proj")]
    layers = sum(s.numel() for s in shapes)
    rowwise = 32 * sum(s[0] for s in shapes) / layers  # int8 has a scale for each row
    assert [row.bits for row in rows] == [32, pytest.approx(4.127, abs=1e-3), 4.5, pytest.approx(8 + rowwise)]
    saved = [rows[0].megabytes - row.megabytes for row in rows[1:]]
    # Of 32 bits those are left, and of nf4 a table of 16 numbers for each layer, and one of 256 for scales of scales.
    tables = [len(shapes) * 4 * (16 + 256 + 1), len(shapes) * 4 * 16, 0]
    for one, row, table in zip(saved, rows[1:], tables, strict=True):
        assert one * 1e6 == pytest.approx(layers * (32 - row.bits) / 8 - table, rel=1e-3)


@pytest.mark.parametrize("quantization", [Quantization(), Quantization(kind="fp4", double=False), Quantization(bits=8)])
def test_megabytes_are_all_that_is_held(tiny_folder: Path, quantization: Quantization) -> None:
    """By storages, found from outside: all tensors that a network's weights and layers lead to."""
    network = load(tiny_folder, quantization=quantization).network
    waiting: list[Any] = [*network.parameters(), *network.buffers(), *network.modules()]
    seen: set[int] = set()
    storages: dict[int, int] = {}
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, torch.Tensor) and found.numel():
            storages[found.untyped_storage().data_ptr()] = found.numel() * found.element_size()
        if type(found).__module__.startswith("bitsandbytes"):
            waiting += vars(found).values()
    row = quantization_report(tiny_folder, [quantization], texts=["The bridge at Orla."]).rows[1]
    assert row.megabytes == pytest.approx(sum(storages.values()) / 1e6, rel=1e-6)


def test_what_is_done_once_is_not_counted_as_writing(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call looks whether prompts can be shared and lays weights out: the clock starts behind it."""
    happened: list[str] = []
    clock, write = time.perf_counter, LocalModel.generate

    def generate(self: LocalModel, *given: Any, **options: Any) -> Any:
        happened.append("write")
        try:
            return write(self, *given, **options)
        finally:
            happened.append("written")

    def perf_counter() -> float:
        happened.append("clock")
        return clock()

    monkeypatch.setattr(LocalModel, "generate", generate)
    monkeypatch.setattr("condition.models.quantization_report.time", SimpleNamespace(perf_counter=perf_counter))
    quantization_report(tiny_folder, [], texts=["The bridge at Orla."])
    assert happened.index("written") < happened.index("clock") < len(happened) - 1 - happened[::-1].index("write")


def test_what_can_not_be_measured(tiny_model: TinyModel, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="made in memory and can't be loaded again"):
        quantization_report(tiny_model())
    with pytest.raises(DataError, match="texts with words"):
        quantization_report(tiny_folder, texts=[" "])
    for wrong in ("one text", [None, "two"]):  # a string would be a list of letters
        with pytest.raises(DataError, match="takes texts in a list"):
            quantization_report(tiny_folder, [], texts=wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="of two tokens or more"):
        quantization_report(tiny_folder, [], texts=["a", "b"])
    with pytest.raises(SettingsError, match="takes several settings"):
        quantization_report(tiny_folder, Quantization())  # type: ignore[arg-type]


def test_a_tuned_model_is_measured_by_its_folder(tiny_folder: Path, tmp_path: Path) -> None:
    """In memory it names its base, which would be measured in its place."""
    texts = ["The bridge at Orla was built of oak in 1784."]
    settings = Settings(max_steps=4, batch_size=1, learning_rate=0.02)
    rows = [Example({"q": "When?"}, texts[0])]
    tuned = SFTTrainer(LoRA(rank=2), settings).fit(load(tiny_folder), rows, prompt="{q}")
    with pytest.raises(
        ModelError, match=r"lora' is tuned, .*save it, and give its folder: .*quantization_report\(folder"
    ):
        quantization_report(tuned, [], texts=texts)
    tuned.save_pretrained(tmp_path / "saved")
    base, other = (quantization_report(name, [], texts=texts).rows[0] for name in (tiny_folder, tmp_path / "saved"))
    assert other.perplexity != pytest.approx(base.perplexity, rel=0.01)


def test_layers_without_groups_have_a_scale_a_row(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Inputs of 40 and 64: the first are no multiple of 32."""
    pytest.importorskip("torchao")
    plain = tiny_model("llama", hidden_size=40, intermediate_size=64)
    plain.network.save_pretrained(tmp_path)
    plain.tokenizer.save_pretrained(tmp_path)
    asked = [Quantization(bits=2, kind="intx")]
    _, row = quantization_report(tmp_path, asked, texts=["it is blue, as it was"]).rows
    layers = [m.weight for n, m in plain.network.named_modules() if n.endswith("_proj")]
    scales = sum(w.shape[0] * (2 if w.shape[1] == 64 else 1) for w in layers)
    assert row.bits == pytest.approx(2 + 32 * scales / sum(w.numel() for w in layers))
