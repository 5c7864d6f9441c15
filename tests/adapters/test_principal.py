"""PiSSA and OLoRA: the papers' start and gradients, over a base that keeps every bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from condition.adapters.attach import private_copy, trainable
from condition.adapters.lora import LoRA, lora_of
from condition.adapters.merge import merged
from condition.adapters.principal import FILE
from condition.adapters.registry import load_adapter, save_adapter, switched_off
from condition.errors import ContractError, SettingsError
from condition.models.load import load
from condition.models.quantize import Quantization
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(params=["pissa", "olora"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def moved(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data += torch.randn(parameter.shape, generator=numbers) * 0.05
    return network


def factors(network: Any, name: str = Q) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A and B as they are now, A0 and B0."""
    layer = network.get_submodule(name)
    down, up = layer.lora_A["default"], layer.lora_B["default"]
    a0, b0 = down.learned_start, up.learned_start
    return (a0 + down.own).detach(), (b0 + up.own).detach(), a0, b0


@torch.no_grad()
def test_a_new_one_changes_nothing_to_the_bit(tiny: Tiny, family: str, start: Any) -> None:
    base = tiny(family)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    expected = base(input_ids=IDS).logits
    network = LoRA(rank=4, initialisation=start).attach(base)
    assert torch.equal(network(input_ids=IDS).logits, expected)
    assert not torch.equal(moved(network)(input_ids=IDS).logits, expected)
    with switched_off(network):
        assert torch.equal(network(input_ids=IDS).logits, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_pissa_begins_at_the_largest_singular_values(tiny: Tiny) -> None:
    base = tiny("llama")
    weight = base.get_submodule(Q).weight.data
    u, _, v = torch.linalg.svd(weight)
    falling = torch.cat([torch.tensor([9.0, 7.0, 5.0, 4.0]), torch.linspace(1, 0.1, 60)])
    weight.copy_(u @ falling.diag() @ v)
    *_, a0, b0 = factors(LoRA(rank=4, alpha=8, initialisation="pissa").attach(base))
    torch.testing.assert_close(2.0 * b0 @ a0, (u[:, :4] * falling[:4]) @ v[:4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b0.norm(dim=0), a0.norm(dim=1))  # the root of the values on each side
    torch.testing.assert_close(b0.norm(dim=0) ** 2, falling[:4] / 2)


def test_olora_begins_at_the_first_orthogonal_directions(tiny: Tiny) -> None:
    base = tiny("gpt2")  # whose weights are [in, out]
    name = "transformer.h.0.mlp.c_fc"
    *_, a0, b0 = factors(LoRA(rank=4, initialisation="olora").attach(base), name)
    q, r = torch.linalg.qr(base.get_submodule(name).weight.T)
    torch.testing.assert_close(b0, q[:, :4])
    torch.testing.assert_close(a0, r[:4])
    torch.testing.assert_close(b0.T @ b0, torch.eye(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 6 / 4), (True, 6 / 4**0.5)])
def test_a_layer_by_hand(tiny: Tiny, start: Any, stabilised: bool, scale: float) -> None:
    adapter = LoRA(rank=4, alpha=6, targets=["q_proj"], rank_stabilised=stabilised, initialisation=start)
    network = moved(adapter.attach(tiny("llama")))
    layer = network.get_submodule(Q)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    a, b, a0, b0 = factors(network)
    expected = x @ layer.base_layer.weight.T + scale * (x @ a.T @ b.T - x @ a0.T @ b0.T)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in trainable(network).values()) == 2 * (64 * 4 + 64 * 4)


def test_it_learns_as_pefts_own(tiny: Tiny, family: str, start: Any) -> None:
    """The same losses and factors, step by step; PEFT's stands on a base that was changed."""
    if (family, start) == ("gpt2", "olora"):
        pytest.skip("PEFT factors GPT-2's weights as they lie, [in, out], and can't put the factors in place")
    theirs = tiny(family)
    theirs.requires_grad_(False)
    options = {"fan_in_fan_out": family == "gpt2", "target_modules": "all-linear"}
    theirs.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=start, **options))
    ours = LoRA(rank=4, alpha=8, initialisation=start).attach(tiny(family))
    layers = [name for name, module in ours.named_modules() if hasattr(module, "lora_A")]
    for name in layers:  # a random search found other singular vectors than theirs: begin at the same ones
        for part in ("lora_A", "lora_B"):
            begun = getattr(theirs.get_submodule(name), part)["default"].weight.data
            getattr(ours.get_submodule(name), part)["default"].learned_start.copy_(begun)
    losses: list[list[float]] = [[], []]
    for network, kept in zip((theirs, ours), losses, strict=True):
        optimizer = torch.optim.SGD(trainable(network).values(), lr=0.05)
        for _ in range(4):
            loss = network(input_ids=IDS, labels=IDS).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            kept.append(loss.item())
    assert losses[1][-1] < losses[1][0] - 0.01
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    for name in layers:
        a, b, a0, _ = factors(ours, name)
        layer = theirs.get_submodule(name)
        torch.testing.assert_close(a, layer.lora_A["default"].weight.data, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(b, layer.lora_B["default"].weight.data, rtol=1e-3, atol=1e-4)
    assert not torch.equal(a, a0)


@torch.no_grad()
def test_the_folder_is_a_plain_lora_on_the_base_as_it_is(tiny: Tiny, family: str, start: Any, tmp_path: Path) -> None:
    adapter = LoRA(rank=4, alpha=6, rank_stabilised=True, initialisation=start)
    network = moved(adapter.attach(tiny(family)))
    expected = network(input_ids=IDS).logits
    save_adapter(network, tmp_path, "org/base")
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (told["r"], told["use_rslora"], told["init_lora_weights"]) == (8, False, True)
    assert network.peft_config["default"].r == 4
    read = PeftModel.from_pretrained(tiny(family), str(tmp_path))
    torch.testing.assert_close(read(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)

    again = load_adapter(tiny(family), tmp_path, adapter.model_dump(mode="json"))
    assert torch.equal(again(input_ids=IDS).logits, expected)
    assert lora_of(again) == lora_of(network)
    assert lora_of(again).initialisation == start
    own = trainable(network)
    assert all(torch.equal(p, own[name]) for name, p in trainable(again).items())
    assert trainable(again).keys() == own.keys()
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, again.get_buffer(name)), name

    plain = load_adapter(tiny(family), tmp_path, None)  # of somebody who knows no start
    assert lora_of(plain).rank == 8
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)


def test_loaded_it_is_tuned_on_as_if_it_had_never_been_saved(tiny: Tiny, start: Any, tmp_path: Path) -> None:
    adapter = LoRA(rank=4, initialisation=start)
    network = moved(adapter.attach(tiny("llama")))
    save_adapter(network, tmp_path, "org/base")
    again = load_adapter(tiny("llama"), tmp_path, adapter.model_dump(mode="json"))
    copied = private_copy(network)
    for each in (network, again, copied):
        each(input_ids=IDS, labels=IDS).loss.backward()
    for name, parameter in trainable(network).items():
        for other in (again, copied):
            torch.testing.assert_close(trainable(other)[name].grad, parameter.grad, rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_merged_it_says_the_same(tiny: Tiny, family: str, start: Any) -> None:
    network = moved(LoRA(rank=4, initialisation=start).attach(tiny(family)))
    torch.testing.assert_close(merged(network)(IDS).logits, network(IDS).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_with_magnitudes_too(tiny: Tiny, start: Any, tmp_path: Path) -> None:
    """DoRA: W + s (B A - B0 A0), its columns stretched to learned lengths."""
    adapter = LoRA(rank=4, alpha=4, targets=["q_proj"], weight_decomposed=True, initialisation=start)
    network = moved(adapter.attach(tiny("llama")))
    layer = network.get_submodule(Q)
    a, b, a0, b0 = factors(network)
    whole = layer.base_layer.weight + b @ a - b0 @ a0
    length = layer.lora_magnitude_vector["default"].weight
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    expected = x @ (whole * (length / whole.norm(dim=1))[:, None]).T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    save_adapter(network, tmp_path, "org/base")
    again = load_adapter(tiny("llama"), tmp_path, adapter.model_dump(mode="json"))
    assert torch.equal(again(input_ids=IDS).logits, network(input_ids=IDS).logits)


@pytest.mark.parametrize(
    "quantization", [Quantization(), Quantization(bits=8), Quantization(bits=4, kind="intx")], ids=lambda q: q.name
)
@torch.no_grad()
def test_a_quantized_base_keeps_its_bits_too(tiny_folder: Path, start: Any, quantization: Quantization) -> None:
    if quantization.kind == "intx":
        pytest.importorskip("torchao")
    base = load(tiny_folder, quantization=quantization).network
    held = base.get_submodule(Q).weight
    expected = base(input_ids=IDS).logits
    network = LoRA(rank=4, alpha=8, targets=["q_proj"], initialisation=start).attach(base)
    assert base.get_submodule(Q).weight is held
    assert network.get_submodule(Q).base_layer.weight is held
    assert torch.equal(base(input_ids=IDS).logits, expected)
    torch.testing.assert_close(network(input_ids=IDS).logits, expected, rtol=0, atol=0)
    *_, a0, b0 = factors(network)
    x = torch.eye(64)
    weight = base.get_submodule(Q)(x).T  # as the layer multiplies
    rest = weight - 2.0 * b0 @ a0 if start == "pissa" else weight - b0 @ a0
    assert rest.norm() < 0.97 * weight.norm()


def test_what_does_not_fit_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is for linear layers, and model\.embed_tokens is none"):
        LoRA(rank=4, targets=["q_proj", "embed_tokens"], initialisation="pissa").attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"LoRA.rank = 33 is more than .*k_proj has: 32 directions"):
        LoRA(rank=33, targets=["k_proj"], initialisation="olora").attach(tiny("llama"))
    adapter = LoRA(rank=4, initialisation="pissa")
    save_adapter(adapter.attach(tiny("llama")), tmp_path, "base")
    told = adapter.model_dump(mode="json")
    with pytest.raises(ContractError, match="is of another size"):
        load_adapter(tiny("llama"), tmp_path, {**told, "rank": 2})
    starts = load_file(tmp_path / FILE)
    starts.pop(Q)
    save_file(starts, tmp_path / FILE)
    with pytest.raises(ContractError, match=f"{Q} is only in one of them"):
        load_adapter(tiny("llama"), tmp_path, told)
