"""IA3 by hand: keys and values stretched, and what the feed-forward's second product reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import OlmoConfig, OlmoForCausalLM

from condition.adapters.attach import trainable
from condition.adapters.ia3 import IA3
from condition.adapters.registry import from_folder, load_adapter, save_adapter
from condition.errors import SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
NAMES = IA3(targets=("k_proj", "v_proj", "down_proj"), feed_forward=("down_proj",))


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = 1 + torch.randn(parameter.shape, generator=numbers) * 0.3
    return network


@torch.no_grad()
def test_ones_change_nothing(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = IA3().attach(base)
    assert all(bool((p == 1).all()) for p in trainable(network).values())
    torch.testing.assert_close(network(input_ids=IDS).logits, base(input_ids=IDS).logits, rtol=0, atol=0)


@torch.no_grad()
def test_layers_by_hand(tiny: Tiny) -> None:
    """Liu et al. 2022: l_k * K, l_v * V, and W2 (l_ff * f(W1 x))."""
    base = tiny("llama")
    network = filled(IA3().attach(base))
    numbers = torch.Generator().manual_seed(2)
    x, wide = (torch.randn(5, n, generator=numbers) for n in (64, 128))
    own, plain = network.model.layers[1], base.model.layers[1]
    for name in ("k_proj", "v_proj"):
        layer = own.self_attn.get_submodule(name)
        stretched = layer.ia3_l["default"].flatten() * plain.self_attn.get_submodule(name)(x)
        assert layer.ia3_l["default"].numel() == 32  # of the shared heads
        torch.testing.assert_close(layer(x), stretched)
    layer = own.mlp.down_proj
    torch.testing.assert_close(layer(wide), plain.mlp.down_proj(wide * layer.ia3_l["default"].flatten()))
    mlp = plain.mlp
    inner = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x) * layer.ia3_l["default"].flatten()
    torch.testing.assert_close(own.mlp(x), mlp.down_proj(inner))
    assert sum(p.numel() for p in trainable(network).values()) == 2 * (32 + 32 + 128)


def test_named_they_are_those_of_the_family(tiny: Tiny) -> None:
    given = filled(NAMES.attach(tiny("llama")))
    assert trainable(given).keys() == trainable(IA3().attach(tiny("llama"))).keys()
    assert torch.equal(given(input_ids=IDS).logits, filled(IA3().attach(tiny("llama")))(input_ids=IDS).logits)


def test_gradients_are_of_the_vectors_alone(tiny: Tiny, family: str) -> None:
    network = filled(IA3().attach(tiny(family)))
    network(input_ids=IDS, labels=IDS).loss.backward()
    assert {name for name, p in network.named_parameters() if p.grad is not None} == set(trainable(network))
    assert all("ia3_l" in name and bool(p.grad.any()) for name, p in trainable(network).items())


@torch.no_grad()
def test_the_folder_is_pefts_own(tiny: Tiny, family: str, tmp_path: Path) -> None:
    network = filled(IA3().attach(tiny(family)))
    save_adapter(network, tmp_path, "org/base")
    expected = network(input_ids=IDS).logits
    assert torch.equal(PeftModel.from_pretrained(tiny(family), str(tmp_path))(input_ids=IDS).logits, expected)
    assert torch.equal(load_adapter(tiny(family), tmp_path, None)(input_ids=IDS).logits, expected)
    found = from_folder(tmp_path)
    assert isinstance(found, IA3)
    assert set(found.feed_forward or ()) < set(found.targets or ())


def test_what_does_not_fit_is_refused(tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match="give both"):
        IA3(feed_forward=("down_proj",))
    with pytest.raises(SettingsError, match=r"\['up_proj'\], which stand not among targets"):
        IA3(targets=("down_proj",), feed_forward=("up_proj",))
    for names in (("nonsense",), ("k_proj", "v_prj")):
        with pytest.raises(SettingsError, match=rf"IA3\.targets: '{names[-1]}' is no module of LlamaForCausalLM"):
            IA3(targets=names).attach(tiny("llama"))
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    unknown = OlmoForCausalLM(OlmoConfig(vocab_size=64, pad_token_id=0, eos_token_id=1, **shape))
    with pytest.raises(SettingsError, match=r"does not know which layers of OlmoForCausalLM .* name them, IA3\("):
        IA3().attach(unknown)
    assert trainable(NAMES.attach(unknown))
