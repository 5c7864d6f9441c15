"""Size, perplexity and speed of each way of storing weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from condition.errors import DataError, ModelError
from condition.models.quantization_report import quantization_report
from condition.models.quantize import Quantization
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


def test_what_can_not_be_measured(tiny_model: TinyModel, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="made in memory and can't be loaded again"):
        quantization_report(tiny_model())
    with pytest.raises(DataError, match="texts with words"):
        quantization_report(tiny_folder, texts=[" "])
