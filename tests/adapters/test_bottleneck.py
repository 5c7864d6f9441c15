"""Bottlenecks by hand: Houlsby's, Pfeiffer's and the parallel one, each where its paper puts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from condition.adapters.attach import trainable
from condition.adapters.blocks import attention_of, blocks, feed_forward_of
from condition.adapters.bottleneck import PART, Bottleneck
from condition.adapters.registry import load_adapter, save_adapter
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
X = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(2))


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


def change(host: nn.Module, x: Tensor, activation: Any) -> Tensor:
    """Two products with a bend between them."""
    narrow = getattr(host, PART)
    return activation(x @ narrow.down.weight.T + narrow.down.bias) @ narrow.up.weight.T + narrow.up.bias


def said(network: Any, where: Any) -> Tensor:
    """What a sublayer of the first block says while the network reads."""
    heard: list[Tensor] = []
    handle = where(blocks(network, "test")[0]).register_forward_hook(
        lambda _, __, out: heard.append(out[0] if isinstance(out, tuple) else out)
    )
    network(input_ids=IDS)
    handle.remove()
    return heard[0]


@torch.no_grad()
def test_a_new_one_changes_nothing(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    expected = base(input_ids=IDS).logits
    for placement in ("houlsby", "pfeiffer", "parallel"):
        assert torch.equal(Bottleneck(size=4, placement=placement).attach(base)(input_ids=IDS).logits, expected)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@torch.no_grad()
def test_behind_the_feed_forward(tiny: Tiny, activation: Any) -> None:
    """Pfeiffer et al. 2020: h <- h + up(f(down(h))), h what the feed-forward says."""
    base = tiny("llama")
    network = filled(Bottleneck(size=4, placement="pfeiffer", activation=activation).attach(base))
    host, plain = network.model.layers[1].mlp, base.model.layers[1].mlp
    h = plain(X)
    bend = {"relu": torch.relu, "gelu": functional.gelu, "silu": functional.silu, "tanh": torch.tanh}[activation]
    torch.testing.assert_close(host(X), h + change(host, h, bend))
    torch.testing.assert_close(said(network, attention_of), said(base, attention_of), rtol=0, atol=0)


@torch.no_grad()
def test_behind_attention_and_feed_forward(tiny: Tiny, family: str) -> None:
    """Houlsby et al. 2019: both sublayers, before what they say is added to the stream."""
    base = tiny(family)
    network = filled(Bottleneck(size=4).attach(base))
    h, host = said(base, attention_of), attention_of(blocks(network, "test")[0])
    assert host is not None
    attended = h + change(host, h, functional.gelu)
    torch.testing.assert_close(said(network, attention_of), attended, rtol=1e-4, atol=1e-5)
    plain, host = feed_forward_of(blocks(base, "test")[0]), feed_forward_of(blocks(network, "test")[0])
    assert plain is not None
    assert host is not None
    h = plain(X)
    torch.testing.assert_close(host(X), h + change(host, h, functional.gelu), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_whole_block(tiny: Tiny) -> None:
    """x + a(attention(norm x)), then + a(feed-forward(norm ...)): a bottleneck stands before the stream's sum."""
    base = tiny("llama")
    network = filled(Bottleneck(size=4).attach(base))
    block, own = base.model.layers[0], network.model.layers[0]
    x = base.model.embed_tokens(IDS)
    h = said(base, attention_of)
    x = x + h + change(own.self_attn, h, functional.gelu)
    h = block.mlp(block.post_attention_layernorm(x))
    x = x + h + change(own.mlp, h, functional.gelu)
    torch.testing.assert_close(said(network, lambda block: block), x, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_beside_the_feed_forward(tiny: Tiny) -> None:
    """He et al. 2021: f(x) + s up(relu(down(x))), x what the feed-forward reads."""
    base = tiny("llama")
    network = filled(Bottleneck(size=4, placement="parallel", activation="relu", scale=4.0).attach(base))
    host = network.model.layers[0].mlp
    torch.testing.assert_close(host(X), base.model.layers[0].mlp(X) + 4.0 * change(host, X, torch.relu))


@pytest.mark.parametrize(("placement", "each"), [("houlsby", 2), ("pfeiffer", 1), ("parallel", 1)])
def test_only_they_are_trained(
    tiny: Tiny, family: str, placement: Literal["houlsby", "pfeiffer", "parallel"], each: int
) -> None:
    own = trainable(Bottleneck(size=4, placement=placement).attach(tiny(family)))
    assert all(PART in name.split(".") for name in own)
    assert sum(p.numel() for p in own.values()) == 2 * each * (2 * 64 * 4 + 4 + 64)  # two blocks


@torch.no_grad()
def test_on_a_narrower_base_they_compute_in_float32(tiny: Tiny) -> None:
    network = filled(Bottleneck(size=4).attach(tiny("llama").to(torch.bfloat16)))
    assert {p.dtype for p in trainable(network).values()} == {torch.float32}
    x = X.to(torch.bfloat16)
    host = network.model.layers[0].mlp
    found = getattr(host, PART)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, change(host, x.float(), functional.gelu).to(torch.bfloat16), rtol=0, atol=0)


def test_what_does_not_fit_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    network = Bottleneck(size=4).attach(tiny("llama"))
    with pytest.raises(SettingsError, match="can't lie over another Bottleneck"):
        Bottleneck(size=2).attach(network)
    for options in ({"size": 0}, {"placement": "lora"}, {"activation": "sine"}, {"scale": 0}):
        with pytest.raises(SettingsError):
            Bottleneck(**options)
    save_adapter(network, tmp_path, "base")
    told = Bottleneck(size=4).model_dump(mode="json")
    with pytest.raises(ContractError, match=r"is \[4, 64\] there and \[8, 64\] here|is \[4\] there and \[8\] here"):
        load_adapter(tiny("llama"), tmp_path, {**told, "size": 8})
    with pytest.raises(ContractError, match="is only in the file"):
        load_adapter(tiny("llama"), tmp_path, {**told, "placement": "pfeiffer"})
    with pytest.raises(ContractError, match="is only in the network"):
        load_adapter(tiny("llama", num_hidden_layers=3), tmp_path, told)
