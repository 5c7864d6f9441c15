"""Eight and four bits: smaller, still writing, and gradients that are those of the network's own weights."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.adapters.mixed import Mixed
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning
from condition.errors import ModelError, SettingsError
from condition.models.device import resolve_device
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import BITS, Quantization
from condition.prefix_sharing.logprobs import logprobs
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example, Message, Sampling
from tests.conftest import TinyModel

CPU = resolve_device("cpu")


def test_kinds_and_bits() -> None:
    assert Quantization(bits=8).kind == "int8"
    assert Quantization().config(CPU).bnb_4bit_quant_type == "nf4"
    assert Quantization(kind="fp4", double=False).config(CPU).bnb_4bit_use_double_quant is False
    assert Quantization(bits=8).config(CPU).load_in_8bit
    assert Quantization(compute_dtype="bfloat16").config(CPU).bnb_4bit_compute_dtype == torch.bfloat16
    assert Quantization().torch_dtype(CPU) == torch.float32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 8, "kind": "nf4"}, "8 bits and kind 'nf4' do not go together"),
        ({"bits": 4, "kind": "int8"}, "4 bits and kind 'int8' do not go together"),
        ({"bits": 5}, r"Quantization\.bits = 5"),
        ({"bits": 3, "kind": "nf4"}, "3 bits and kind 'nf4' do not go together"),
        ({"bit": 4}, "did you mean 'bits'"),
        ({"kind": "gptq"}, r"Quantization\.kind = 'gptq'"),
        (
            {"kind": "intx", "double": False},
            "double=False would do nothing with intx4, only with nf4 and fp4: leave it",
        ),
        ({"bits": 8, "compute_dtype": "bfloat16"}, "compute_dtype='bfloat16' would do nothing with int8"),
        ({"kind": "int8-dynamic", "double": False, "compute_dtype": "float32"}, "double=False and compute_dtype="),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Quantization(**options)


@pytest.mark.parametrize("kind", BITS)
def test_what_a_contract_has_written_of_it_is_taken(kind: Any) -> None:
    told = Quantization(kind=kind).model_dump()
    assert Quantization(**told).model_dump() == told


def test_a_device_without_kernels() -> None:
    with pytest.raises(SettingsError, match="no kernels for this device"):
        Quantization().config(torch.device("mps"))


def plain_twin(network: Any, like: Any) -> Any:
    """The same network with its four-bit weights written out."""
    weights = {
        name: dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in network.named_modules()
        if type(module).__name__ == "Linear4bit"
    }
    assert weights
    for name, weight in weights.items():
        like.get_submodule(name).weight.data.copy_(weight)
    return like


@pytest.mark.parametrize("double", [False, True])
def test_gradients_after_writing_are_those_of_the_weights(tiny_folder: Any, double: bool) -> None:
    """bitsandbytes re-lays weights when it writes; the product of that layout would give no gradient."""
    base = load(tiny_folder, quantization=Quantization(double=double))
    base.generate("x", Sampling(max_tokens=4))
    base.score(["x"], [["blue"]])
    sequences, starts = [[5, 6, 7, 8, 9, 10], [5, 6, 11, 12]], [3, 2]
    grads = []
    for network in (base.network, plain_twin(base.network, load(tiny_folder).network)):
        adapted = LoRA(rank=2).attach(network).train()
        for name, parameter in sorted(trainable(adapted).items()):
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        torch.cat(logprobs(adapted, sequences, starts, shared=False)).sum().backward()
        grads.append({name: p.grad for name, p in trainable(adapted).items()})
    for name, grad in grads[0].items():
        assert grad is not None, name
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_widths_that_end_within_a_block_are_told(
    tiny_model: TinyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said of them holds: bitsandbytes gives other numbers than the same rounding, unpacked flat."""
    for width, factor in ((96, 2), (128, 1)):
        plain = tiny_model("llama", hidden_size=width, intermediate_size=width)
        plain.network.save_pretrained(tmp_path / str(width))
        plain.tokenizer.save_pretrained(tmp_path / str(width))
        caplog.clear()
        model = load(tmp_path / str(width), quantization=Quantization(double=False))
        assert (f"layers of {width} inputs, no multiple of 64" in caplog.text) is (width == 96)
        layer: Any = model.network.get_submodule("model.layers.0.mlp.up_proj")
        state = copy(layer.weight.quant_state)
        unpacked = dequantize_4bit(layer.weight.data, state)
        state.shape = torch.Size((1, state.shape.numel()))
        flat = dequantize_4bit(layer.weight.data, state).view_as(unpacked)
        own: Any = plain.network.get_submodule("model.layers.0.mlp.up_proj")
        assert float((unpacked - own.weight.detach()).norm()) > 0.99 * factor * float(
            (flat - own.weight.detach()).norm()
        )


REAL = {
    "nf4": Quantization(double=False),
    "nf4 double": Quantization(),
    "fp4": Quantization(kind="fp4", double=False),
    "int8": Quantization(bits=8),
}


# int8 chooses its outliers by what else is in the batch: no two ways of batching agree, and sharing is off.
@pytest.mark.filterwarnings("ignore:prefix sharing is off")
@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_on_the_embedded_model(embedded: LocalModel, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    model = load(quantization=REAL[name])
    assert capfd.readouterr() == ("", "")
    whole, small = embedded.network.get_memory_footprint(), model.network.get_memory_footprint()
    assert small < 0.5 * whole
    kept = {n: p.dtype for n, p in embedded.network.named_parameters() if "proj" not in n}
    assert {n: p.dtype for n, p in model.network.named_parameters() if "proj" not in n} == kept
    layers = [m for n, m in model.network.named_modules() if n.endswith("_proj")]
    assert all(isinstance(m, nn.Linear) and m.weight.dtype in (torch.uint8, torch.int8) for m in layers)
    [[completion]] = model.generate("What is the capital of France?", Sampling(max_tokens=4))
    assert completion.text.startswith("The capital")
    rows = [{"q": "What is it?", "target": "blue"}] * 2
    settings = Settings(max_steps=2, batch_size=1, log_every=1, schedule="constant", warmup=0.0)
    tuned = SFTTrainer(adapter=LoRA(rank=2), settings=settings).fit(model, rows, prompt="{q}")
    factors = trainable(tuned.network)
    assert len(factors) == 2 * len(layers)
    assert all(bool(torch.isfinite(p).all()) for p in factors.values())
    assert all(bool(p.any()) for n, p in factors.items() if "lora_B" in n), "a gradient did not arrive"
    first, second = tuned.history.series("loss")[1]
    assert second < first
    assert "MatMul8bitLt" not in capfd.readouterr().err


def test_a_tiny_model_in_eight_bits(tiny_folder: Any, tiny_model: TinyModel) -> None:
    model = load(tiny_folder, quantization=Quantization(bits=8))
    [[one]], [[other]] = model.score(["x"], [["blue"]]), tiny_model().score(["x"], [["blue"]])
    assert one.logprob == pytest.approx(other.logprob, abs=0.05)


@pytest.mark.parametrize("base_first", [True, False])
def test_two_networks_over_weights_that_have_never_run(tiny_folder: Path, base_first: bool) -> None:
    """bitsandbytes hands a weight's scales to the layer that runs first: both have to have them."""
    ids = torch.arange(3, 40)[None]
    base = load(tiny_folder, quantization=Quantization(bits=8)).network
    with torch.no_grad():
        expected = load(tiny_folder, quantization=Quantization(bits=8)).network(input_ids=ids).logits
        adapted = LoRA(rank=2).attach(base)
        for network in (base, adapted) if base_first else (adapted, base):
            assert torch.equal(network(input_ids=ids).logits, expected)
    one, other = (network.get_submodule("model.layers.0.mlp.up_proj") for network in (base, adapted))
    assert other.base_layer.state.CB.data_ptr() == one.state.CB.data_ptr()
    assert other.base_layer.state is not one.state


@pytest.mark.parametrize("adapter", [PrefixTuning(length=4), PromptTuning(length=4), Mixed()], ids=lambda a: a.kind)
def test_what_was_tuned_on_int8_comes_back(tiny_folder: Path, tmp_path: Path, adapter: Any) -> None:
    base = load(tiny_folder, quantization=Quantization(bits=8))
    rows = [Example({"q": "What is blue?"}, "The sky.")]
    tuned = SFTTrainer(adapter, Settings(max_steps=1, warmup=0.0, packing=False)).fit(base, rows, prompt="{q}")
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned")
    asked = [(Message("user", "What is blue?"),)]
    assert again.score(asked, [["The sky."]]) == tuned.score(asked, [["The sky."]])


TORCHAO = [Quantization(bits=bits, kind="intx") for bits in (8, 4, 3, 2)] + [Quantization(kind="int8-dynamic")]


@pytest.mark.parametrize("quantization", TORCHAO, ids=lambda q: q.name)
def test_whole_numbers(tiny_folder: Any, tmp_path: Any, quantization: Quantization) -> None:
    """Loaded, written with, tuned beside where there is a gradient, saved, loaded again with its canary."""
    pytest.importorskip("torchao")
    model = load(tiny_folder, quantization=quantization)
    assert len(model.generate("x", Sampling(max_tokens=3))) == 1
    with pytest.raises(ModelError, match=f"a base in {quantization.name} is not saved"):
        model.save_pretrained(tmp_path / "base")
    if not quantization.trains:
        return
    rows = [{"q": "What is it?", "target": "blue"}]
    settings = Settings(max_steps=2, batch_size=1, log_every=1, schedule="constant", warmup=0.0, learning_rate=1e-2)
    tuned = SFTTrainer(adapter=LoRA(rank=2), settings=settings).fit(model, rows, prompt="{q}")
    first, second = tuned.history.series("loss")[1]
    assert second < first
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned")
    assert again.quantization == quantization
    assert again.score(["x"], [["blue"]])[0][0].logprob == pytest.approx(tuned.score(["x"], [["blue"]])[0][0].logprob)


def test_kinds_follow_bits() -> None:
    assert [Quantization(bits=bits).name for bits in (8, 4, 3, 2)] == ["int8", "nf4", "intx3", "intx2"]
    assert Quantization(kind="int8-dynamic").bits == 8
