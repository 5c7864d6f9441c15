"""Merged, a model says the same and needs no adapter; what can't be merged is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import condition as cd
from condition.adapters.attach import trainable
from condition.adapters.merge import merged
from condition.adapters.registry import adapter_of, attached
from condition.errors import ModelError, SettingsError
from condition.models import export as module
from condition.models.load import load
from tests.conftest import Tiny
from tests.training.test_sft import fit

IDS = torch.arange(3, 20)[None]
MERGE = {
    "lora": cd.LoRA(rank=4),
    "dora": cd.LoRA(rank=4, weight_decomposed=True),
    "stabilised": cd.LoRA(rank=4, rank_stabilised=True),
    "words": cd.LoRA(rank=4, targets=["all-linear", "embed_tokens"]),
    "ia3": cd.IA3(),
    "adalora": cd.AdaLoRA(rank=2, start=3),
    "full": cd.FullFineTuning(),
    "last": cd.LastLayers(1),
}


def moved(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(0)
    for parameter in trainable(network).values():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=numbers))
    return network.eval()


@pytest.mark.parametrize("kind", MERGE)
@torch.no_grad()
def test_merged_it_says_the_same(kind: str, tiny: Tiny) -> None:
    base = tiny("llama").eval()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    tuned = moved(attached(MERGE[kind], base))
    plain = merged(tuned)
    said = tuned(IDS).logits
    torch.testing.assert_close(plain(IDS).logits, said, atol=1e-5, rtol=0)
    assert (base(IDS).logits - said).abs().max() > 1e-3
    assert adapter_of(plain) is None
    assert adapter_of(tuned) is not None
    torch.testing.assert_close(tuned(IDS).logits, said, atol=0, rtol=0)
    assert plain.state_dict().keys() == before.keys()
    assert all(torch.equal(base.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_merged_model_is_saved_whole_and_tuned_anew(tiny_folder: Path, tmp_path: Path) -> None:
    tuned = fit(load(tiny_folder), max_steps=3)
    plain = tuned.merge()
    plain.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / "adapter_config.json").exists()
    again = load(tmp_path / "plain")
    for mine, other in zip(
        tuned.score(["1?"], [["one", "two"]])[0], again.score(["1?"], [["one", "two"]])[0], strict=True
    ):
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-5)
    assert again.prompt is not None
    assert "lora merged" in plain.name
    assert adapter_of(fit(again, max_steps=1).network) is not None


@pytest.mark.parametrize("quantization", [cd.Quantization(bits=4), cd.Quantization(bits=8, kind="int8")], ids=str)
def test_a_quantized_base_is_exported_in_full(tiny_folder: Path, tmp_path: Path, quantization: cd.Quantization) -> None:
    tuned = fit(load(tiny_folder, quantization=quantization), max_steps=3)
    with pytest.raises(SettingsError, match=r"export\(folder\)"):
        tuned.merge()
    drift = tuned.export(tmp_path / "out", tolerance=0.05)
    assert drift.tokens > 10
    assert drift.mean <= drift.largest
    again = load(tmp_path / "out")
    assert again.quantization is None
    assert again.network.dtype == torch.float32
    ids = torch.tensor([tuned.render(module.READ).ids])
    apart = module._logprobs(tuned.network, ids) - module._logprobs(again.network, ids)
    assert float(apart.abs().mean()) == pytest.approx(drift.mean, abs=1e-5)


def test_what_drifts_is_not_written(tiny_folder: Path, tmp_path: Path) -> None:
    tuned = fit(load(tiny_folder, quantization=cd.Quantization(bits=8, kind="int8")), max_steps=3)
    with pytest.raises(ModelError, match="says something else"):
        tuned.export(tmp_path / "out", tolerance=0.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tolerance", ["x", None, float("nan"), -0.1, True, [0.1]], ids=str)
def test_a_tolerance_that_is_no_number(tiny_folder: Path, tmp_path: Path, tolerance: Any) -> None:
    with pytest.raises(SettingsError, match=r"^tolerance=.*: give nats a token, a number of 0 or more such as 0\.01"):
        load(tiny_folder).export(tmp_path / "out", tolerance=tolerance)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (
            None,
            r"this is a base, or its own weights were tuned as FullFineTuning .* model\.save_pretrained\(folder\)",
        ),
        (cd.Bottleneck(size=4), "can't be merged"),
        (cd.PromptTuning(length=3), "can't be merged"),
    ],
    ids=["base", "bottleneck", "prompt"],
)
def test_what_is_no_change_of_weights_is_refused(adapter: Any, said: str, tiny: Callable[..., Any]) -> None:
    network = tiny("llama")
    with pytest.raises(SettingsError, match=said):
        merged(network if adapter is None else attached(adapter, network))
