"""The fused layers beside PEFT's own: the same numbers, and nothing left behind."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from condition import onednn
from condition.adapters import projections
from condition.adapters.attach import trainable
from condition.adapters.fused import fused, unfused
from condition.adapters.norms import is_rms_norm
from condition.adapters.projections import Plain
from tests.conftest import Tiny

IDS = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(3))
PROJECTION = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(4))


Llama = Callable[..., PreTrainedModel]


@pytest.fixture
def llama(tiny: Tiny) -> Llama:
    """Builds a network of width 32; keywords change its configuration."""
    return partial(tiny, "llama", vocab_size=96, hidden_size=32, intermediate_size=48)


def adapted(network: PreTrainedModel, **settings: Any) -> PreTrainedModel:
    """With a trained-looking adapter: factors that are not zero."""
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **settings}))
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = torch.randn(parameter.shape, generator=numbers) * 0.1
    network.train()
    return network


def step(network: PreTrainedModel) -> tuple[Tensor, dict[str, Tensor]]:
    """The hidden states and the gradients of a fixed projection of them."""
    network.zero_grad()
    hidden = network.base_model(input_ids=IDS, use_cache=False).last_hidden_state
    (hidden.float() * PROJECTION).sum().backward()
    return hidden.detach(), {name: p.grad for name, p in trainable(network).items() if p.grad is not None}


def swapped(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if "forward" in module.__dict__]


def packs() -> bool:
    """Whether bfloat16 weights can be packed here; asked without the warning that says they can't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return onednn.works(torch.bfloat16)


def same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]], within: float) -> None:
    """Within a share of each tensor's norm."""
    assert found[1].keys() == expected[1].keys()
    for ours, theirs in [(found[0], expected[0]), *((found[1][name], grad) for name, grad in expected[1].items())]:
        assert ours.dtype == torch.float32 or within > 1e-3
        assert float((ours.float() - theirs).norm() / theirs.norm()) < within


@pytest.mark.parametrize(
    ("network", "adapter"),
    [
        ({}, {}),
        ({"attention_bias": True, "mlp_bias": True}, {}),
        ({}, {"target_modules": ["q_proj", "v_proj"]}),
        ({}, {"target_modules": ["gate_proj", "o_proj"]}),
        ({}, {"r": 2, "rank_pattern": {"k_proj": 8}, "alpha_pattern": {"v_proj": 1}}),
    ],
)
def test_float32_is_exact(llama: Llama, network: dict[str, Any], adapter: dict[str, Any]) -> None:
    model = adapted(llama(**network), **adapter)
    expected = step(model)
    with fused(model, torch.float32):
        same(step(model), expected, 1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_bfloat16_is_close(llama: Llama, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if packed and not packs():
        pytest.skip("this processor has no packed bfloat16 products")
    monkeypatch.setattr(onednn, "works", lambda _: packed)
    model = adapted(llama(mlp_bias=True))
    expected = step(model)
    with fused(model, torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        hidden, grads = step(model)
    assert all(grad.dtype == torch.float32 for grad in grads.values())
    same((hidden, grads), expected, 0.03)


def test_what_is_swapped(llama: Llama) -> None:
    model = adapted(llama())
    with fused(model, torch.float32):
        names = {name.rpartition(".")[2] for name in swapped(model)}
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "mlp"}
    assert names == layers | {"input_layernorm", "post_attention_layernorm", "norm"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_base_is_as_before(llama: Llama, dtype: torch.dtype) -> None:
    packs()
    model = adapted(llama())
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "lora" not in name}
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in tensors.items()}
    with fused(model, dtype), torch.autocast("cpu", torch.bfloat16, dtype != torch.float32):
        step(model)
    assert not swapped(model)
    for name, tensor in model.state_dict().items():
        if name in before:
            assert tensor.data_ptr() == before[name][0]
            assert torch.equal(tensor, before[name][1])


def test_layers_are_restored_after_an_error(llama: Llama) -> None:
    model = adapted(llama())
    with pytest.raises(IndexError), fused(model, torch.float32):
        model(input_ids=IDS + 96)
    assert not swapped(model)


@pytest.mark.parametrize("adapter", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_adapters_keep_their_own_path(llama: Llama, adapter: dict[str, Any]) -> None:
    model = adapted(llama(attention_bias=True, mlp_bias=True), **adapter)
    with fused(model, torch.float32):
        assert not any(name.endswith("_proj") for name in swapped(model))


def test_gpt2_is_left_alone() -> None:
    model = adapted(GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=32, n_layer=1, n_head=2)), fan_in_fan_out=True)
    with fused(model, torch.float32):
        assert not swapped(model)


def test_a_norm_that_computes_something_else_is_left_alone() -> None:
    class ShiftedRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.zeros(8), requires_grad=False), 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return (1 + self.weight) * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    assert not is_rms_norm(ShiftedRMSNorm())


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_gradient_checkpointing(llama: Llama, reentrant: bool) -> None:
    model = adapted(llama())
    expected = step(model)
    model.enable_input_require_grads()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    with fused(model, torch.float32):
        same(step(model), expected, 1e-5)


def test_adapters_can_be_switched_off_inside(llama: Llama) -> None:
    model = adapted(llama())
    model.disable_adapters()
    expected = model(input_ids=IDS).logits
    model.enable_adapters()
    with fused(model, torch.float32), torch.no_grad():
        model.disable_adapters()
        torch.testing.assert_close(model(input_ids=IDS).logits, expected)


def test_siblings_that_read_different_inputs(llama: Llama) -> None:
    model = adapted(llama())
    attention: Any = model.get_submodule("model.layers.0.self_attn")
    x, z = torch.randn(2, 1, 5, 32)
    expected = attention.q_proj(x), attention.k_proj(z), attention.v_proj(x)
    with fused(model, torch.float32):
        torch.testing.assert_close((attention.q_proj(x), attention.k_proj(z), attention.v_proj(x)), expected)


@pytest.mark.usefixtures("fresh_probe")
def test_without_the_private_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(onednn, "linear", refuse)
    with pytest.warns(UserWarning, match="no such operator"):
        weight = projections.frozen(nn.Linear(4, 4), torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert isinstance(weight, Plain)
        assert not onednn.works(torch.bfloat16)


def test_layers_that_are_merged_or_watched_keep_their_own_path(llama: Llama) -> None:
    model = adapted(llama())
    merged: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    merged.merge()
    seen: list[str] = []
    watched: Any = model.get_submodule("model.layers.1.mlp.up_proj")
    watched.register_forward_hook(lambda *_: seen.append("up"))
    expected = step(model)
    with fused(model, torch.float32):
        seen.clear()
        assert "forward" not in merged.__dict__
        same(step(model), expected, 1e-5)
    assert seen == ["up"]


def test_a_norm_that_is_trained_gets_its_gradient(llama: Llama) -> None:
    model = adapted(llama())
    norm: Any = model.get_submodule("model.norm")
    norm.weight.requires_grad_()
    expected = step(model)
    with fused(model, torch.float32):
        found = step(model)
    assert "model.norm.weight" in expected[1]
    same(found, expected, 1e-5)


def with_other(network: PreTrainedModel) -> PreTrainedModel:
    """With a second adapter beside the first, which stays active."""
    with pytest.warns(UserWarning, match="multiple adapters"):
        network.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"), "other")
    numbers = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if ".other." in name:
            parameter.data = torch.randn(parameter.shape, generator=numbers) * 0.1
    network.set_adapter("default")
    return network


def test_the_active_adapter_is_computed(llama: Llama) -> None:
    model = with_other(adapted(llama()))
    default = step(model)
    model.set_adapter("other")
    expected = step(model)
    assert all(".other." in name for name in expected[1])
    with fused(model, torch.float32):
        assert swapped(model)
        same(step(model), expected, 1e-5)
        model.set_adapter("default")  # asked at each call
        same(step(model), default, 1e-5)


def test_a_base_layer_that_is_trained_gets_its_gradient(llama: Llama) -> None:
    model = adapted(llama())
    layer: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    layer.base_layer.weight.requires_grad_()
    expected = step(model)
    assert "model.layers.0.self_attn.q_proj.base_layer.weight" in expected[1]
    with fused(model, torch.float32):
        same(step(model), expected, 1e-5)


def test_one_of_siblings_called_twice_and_nothing_kept(llama: Llama) -> None:
    model = adapted(llama())
    attention: Any = model.get_submodule("model.layers.0.self_attn")
    x = torch.randn(1, 5, 32)
    with torch.no_grad(), fused(model, torch.float32):
        first = attention.q_proj(x)
        torch.testing.assert_close(attention.q_proj(x), first)
        for layer in (attention.k_proj, attention.v_proj):
            layer(x)
        alive = weakref.ref(x)
        del x
        assert alive() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_gives_what_an_untrained_adapter_gives_to_the_bit(llama: Llama, dtype: torch.dtype) -> None:
    packs()
    base, model = llama(), adapted(llama())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    hidden = []
    for network in (base.requires_grad_(False), model):
        with torch.no_grad(), torch.autocast("cpu", dtype, dtype != torch.float32), fused(network, dtype):
            hidden.append(network.base_model(input_ids=IDS, use_cache=False).last_hidden_state)
    assert torch.equal(*hidden)


def test_plain_layers_beside_adapted_ones_are_fused_and_the_head_is_not(llama: Llama) -> None:
    model = adapted(llama(), target_modules=["q_proj"], lora_dropout=0.5)
    model.eval()
    expected = step(model)
    with fused(model, torch.float32):
        names = {name.removeprefix("model.layers.0.") for name in swapped(model)}
        assert {"self_attn.q_proj.base_layer", "self_attn.k_proj", "mlp.down_proj"} <= names
        assert not names & {"lm_head", "self_attn.q_proj"}
        same(step(model), expected, 1e-5)


def test_inside_it_can_be_left_for_a_while(llama: Llama) -> None:
    model = adapted(llama())
    with unfused(model):  # nothing to leave
        assert not swapped(model)
    with fused(model, torch.float32):
        before = swapped(model)
        with unfused(model):
            assert not swapped(model)
        assert before
        assert swapped(model) == before
    assert not swapped(model)


def test_what_adds_in_place_to_a_fused_layer() -> None:
    linear = nn.Linear(8, 4).requires_grad_(False)
    x = torch.randn(1, 3, 8, requires_grad=True)
    expected = torch.autograd.grad(linear(x).sum() * 2, x)[0]
    (y,) = projections.Projections.apply(x.view(3, 8), (projections.frozen(linear, torch.float32),), (), torch.float32)
    y += 1.0
    torch.testing.assert_close(torch.autograd.grad(y.sum() * 2, x)[0], expected)
