"""Which adapter is trained: the model's own, and what is said of another one."""

from __future__ import annotations

from typing import Any

import pytest

from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.registry import adapter_of
from condition.adapters.side import LadderSide
from condition.adapters.soft_prompts import PromptTuning
from condition.errors import SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from tests.conftest import TinyModel

ROWS = [{"q": "1+1?", "target": "2"}]
MERGE = "fit model.merge() for the new one over it, "


def fit(model: LocalModel, adapter: Any) -> LocalModel:
    return SFTTrainer(adapter, Settings(max_steps=1, batch_size=1)).fit(model, ROWS, prompt="{q}")


@pytest.mark.parametrize(
    ("own", "asked", "ways"),
    [
        (LoRA(rank=2), LoRA(rank=4), MERGE),
        (LoRA(rank=2), IA3(), MERGE),
        (
            LoRA(rank=2),
            Bottleneck(size=2),
            MERGE + "fit the base with cd.Stack((cd.LoRA(), cd.Bottleneck())) for both together, ",
        ),
        (FullFineTuning(), LadderSide(), MERGE),
        (
            PromptTuning(length=2),
            IA3(),
            "fit the base with cd.Stack((cd.PromptTuning(), cd.IA3())) for both together, ",
        ),
        (PromptTuning(length=2), PromptTuning(length=3), ""),
        (Bottleneck(size=2), LadderSide(), ""),
    ],
)
def test_another_adapter_on_a_tuned_model_is_told_the_ways(
    tiny_model: TinyModel, own: Any, asked: Any, ways: str
) -> None:
    tuned = fit(tiny_model(), own)
    with pytest.raises(SettingsError) as said:
        fit(tuned, asked)
    assert str(said.value).endswith(f": leave `adapter` out to tune it on, {ways}or fit the base")
    if ways.startswith(MERGE):
        assert adapter_of(fit(tuned.merge(), asked).network) == asked


def test_over_a_quantized_base_one_exports_first(tiny_folder: Any) -> None:
    tuned = fit(load(tiny_folder, quantization=Quantization(bits=8, kind="int8")), LoRA(rank=2))
    with pytest.raises(
        SettingsError, match=r"tune it on, fit what model\.export\(folder\) writes, .*, or fit the base$"
    ):
        fit(tuned, IA3())
