"""How far an exported model is from the one on quantized weights: by hand, and held against the tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.errors import ModelError
from condition.models.export import READ
from condition.models.load import load
from condition.models.quantize import Quantization
from tests.adapters.test_every_adapter import fit


def test_drift_is_of_log_probabilities_and_no_more_than_was_allowed(tiny_folder: Path, tmp_path: Path) -> None:
    tuned = fit(load(tiny_folder, quantization=Quantization(bits=8)), LoRA(rank=2), max_steps=2)
    drift = tuned.export(tmp_path / "out", tolerance=1.0)
    ids = torch.tensor([tuned.render(READ).ids])
    said = [
        model.network(ids).logits[0, :-1].detach().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        for model in (tuned, load(tmp_path / "out"))
    ]
    apart = (said[0] - said[1]).abs()
    assert drift.tokens == len(apart) == ids.shape[1] - 1
    assert drift.mean == pytest.approx(float(apart.mean()), rel=1e-2)
    assert drift.largest == pytest.approx(float(apart.max()), rel=1e-2)
    assert drift.mean > 1e-5

    with pytest.raises(ModelError, match=r"says something else: .* is allowed"):
        tuned.export(tmp_path / "near", tolerance=0.9 * drift.mean)
    assert not (tmp_path / "near").exists()
    tuned.export(tmp_path / "near", tolerance=1.1 * drift.mean)
    assert (tmp_path / "near" / "config.json").is_file()
