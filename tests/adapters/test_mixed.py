"""UniPELT's gates by hand. Mao et al. 2021, arXiv 2110.07577."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from condition.adapters.attach import trainable
from condition.adapters.bottleneck import PART as NARROW
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.lora import LoRA
from condition.adapters.mixed import PART, Mixed
from condition.adapters.registry import load_adapter, save_adapter
from condition.adapters.soft_prompts import PrefixTuning, prefix_module
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
X = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(2))
ALL = Mixed((LoRA(rank=4), Bottleneck(size=8, placement="pfeiffer"), PrefixTuning(length=6)))


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = parameter.data + torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


def gate(module: Any, x: Tensor) -> Tensor:
    """One number between 0 and 1 a token, of the token itself: `[..., 1]`."""
    return 1 / (1 + torch.exp(-(x @ module.gate.weight.T + module.gate.bias)))


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 6 / 4), (True, 6 / 4**0.5)])
@torch.no_grad()
def test_a_gated_low_rank_change(tiny: Tiny, stabilised: bool, scale: float) -> None:
    adapter = Mixed((LoRA(rank=4, alpha=6, rank_stabilised=stabilised), Bottleneck(size=8)))
    base = tiny("llama")
    layer = filled(adapter.attach(base)).model.layers[1].self_attn.k_proj
    own, plain = layer.get_submodule(PART), base.model.layers[1].self_attn.k_proj
    change = scale * X @ own.down.weight.T @ own.up.weight.T
    torch.testing.assert_close(layer(X), plain(X) + gate(own, X) * change, rtol=1e-4, atol=1e-5)
    shares = gate(own, X)
    assert shares.shape == (2, 5, 1)
    assert len(shares.unique()) == 10  # token by token


@torch.no_grad()
def test_a_gated_bottleneck(tiny: Tiny) -> None:
    base = tiny("llama")
    host = filled(Mixed((LoRA(rank=4, targets=["q_proj"]), Bottleneck(size=8, placement="pfeiffer"))).attach(base))
    host, plain = host.model.layers[0].mlp, base.model.layers[0].mlp
    own, h = host.get_submodule(NARROW), plain(X)
    inner = functional.gelu(h @ own.down.weight.T + own.down.bias)
    change = inner @ own.up.weight.T + own.up.bias
    torch.testing.assert_close(host(X), h + gate(own, h) * change, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_gated_prefix(tiny: Tiny) -> None:
    """One gate a layer, over keys and values alike."""
    network = filled(Mixed((LoRA(rank=4), PrefixTuning(length=6))).attach(tiny("llama")))
    module = prefix_module(network)
    assert module.gates is not None
    assert module.gates.shape == (2,)
    keys, values = module.keys_and_values(network.base_model)
    shares = torch.sigmoid(module.gates)
    assert float(shares[0]) != float(shares[1])
    gates, module.gates = module.gates, None
    whole_keys, whole_values = module.keys_and_values(network.base_model)
    module.gates = gates
    for layer in (0, 1):
        torch.testing.assert_close(keys[layer], shares[layer] * whole_keys[layer])
        torch.testing.assert_close(values[layer], shares[layer] * whole_values[layer])


@torch.no_grad()
def test_closed_gates_leave_the_base(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = filled(Mixed((LoRA(rank=4), Bottleneck(size=8))).attach(base))
    gates = [module.gate for _, module in network.named_modules() if getattr(module, "gate", None) is not None]
    expected = base(input_ids=IDS).logits
    assert not torch.allclose(network(input_ids=IDS).logits, expected, atol=1e-3)
    for each in gates:
        each.weight.zero_()
        each.bias.fill_(-1e4)
    assert torch.equal(network(input_ids=IDS).logits, expected)


@torch.no_grad()
def test_a_gate_never_looks_ahead(tiny: Tiny, family: str) -> None:
    network = filled(ALL.attach(tiny(family)))
    whole = network(input_ids=IDS).logits
    torch.testing.assert_close(network(input_ids=IDS[:, :9]).logits, whole[:, :9], rtol=1e-4, atol=1e-5)


def test_gates_begin_half_open_and_learn(tiny: Tiny, family: str) -> None:
    network = ALL.attach(tiny(family))
    module = prefix_module(network)
    assert module.gates is not None
    assert not module.gates.any()
    filled(network)(input_ids=IDS, labels=IDS).loss.backward()
    gates = {name: p for name, p in trainable(network).items() if ".gate." in name or name.endswith(".gates")}
    assert {part for name in gates for part in (PART, NARROW, "gates") if part in name.split(".")} == {
        PART,
        NARROW,
        "gates",
    }
    assert all(bool(p.grad.any()) for p in gates.values())


@torch.no_grad()
def test_there_and_back(tiny: Tiny, family: str, tmp_path: Path) -> None:
    network = filled(ALL.attach(tiny(family)))
    save_adapter(network, tmp_path, "base")
    again = load_adapter(tiny(family), tmp_path, ALL.model_dump(mode="json"))
    assert torch.equal(again(input_ids=IDS).logits, network(input_ids=IDS).logits)
    assert trainable(again).keys() == trainable(network).keys()
    other = Mixed((LoRA(rank=3), *ALL.parts[1:]))
    with pytest.raises(ContractError, match=r"there and .* here"):
        load_adapter(tiny(family), tmp_path, other.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((LoRA(),), "two or three different parts"),
        (5, "Mixed takes several adapters"),
        (LoRA(), "Mixed takes several adapters"),
        ((LoRA(), LoRA(rank=2)), "two or three different parts"),
        ((LoRA(weight_decomposed=True), Bottleneck()), "a gated LoRA is a plain one"),
        ((LoRA(whole=("lm_head",)), Bottleneck()), "a gated LoRA is a plain one"),
        ((LoRA(initialisation="pissa"), Bottleneck()), "a gated LoRA is a plain one"),
        ((LoRA(), PrefixTuning(size=4)), "a gated prefix has no perceptron"),
    ],
)
def test_parts_that_do_not_mix(parts: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Mixed(parts)


def test_where_it_can_not_lie(tiny: Tiny) -> None:
    for adapter in (LoRA(rank=2), Bottleneck(size=2), PrefixTuning(length=2)):
        with pytest.raises(SettingsError, match="can't lie over another adapter"):
            Mixed((LoRA(rank=2), Bottleneck(size=2))).attach(adapter.attach(tiny("llama")))
    for names in (["nonsense"], ["q_proj", "v_prj"]):
        with pytest.raises(SettingsError, match=rf"Mixed: LoRA\.targets: '{names[-1]}' is no module of"):
            Mixed((LoRA(targets=names), Bottleneck(size=2))).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"LoRA fits no layer of LlamaForCausalLM by targets=\['norm'\]"):
        Mixed((LoRA(targets=["norm"]), Bottleneck(size=2))).attach(tiny("llama"))
