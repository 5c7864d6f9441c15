"""Packed products give the numbers of the layers, see changed weights, and take no more memory than they may."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition import onednn
from condition.adapters import packed
from condition.adapters.copies import Copies
from condition.adapters.lora import LoRA
from condition.adapters.packed import PackedProducts
from condition.adapters.siblings import siblings
from tests.conftest import Tiny

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])

pytestmark = pytest.mark.skipif(not onednn.works(torch.float32), reason="this torch has no packed products")


@pytest.fixture
def network(tiny: Tiny) -> PreTrainedModel:
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48}
    made = tiny("llama", **shape, attention_bias=True, mlp_bias=True)
    torch.manual_seed(0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return made


@pytest.fixture(autouse=True)
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    """Of each test its own."""
    own = Copies(1 << 20)
    monkeypatch.setattr(packed, "COPIES", own)
    return own


@torch.inference_mode()
def logits(network: PreTrainedModel) -> Tensor:
    return network(IDS).logits


def inside(network: PreTrainedModel) -> Tensor:
    with PackedProducts(network):
        return logits(network)


def adapted(network: PreTrainedModel, **options: object) -> PreTrainedModel:
    torch.manual_seed(1)
    made = LoRA(rank=3, **options).attach(network).eval()  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2)
    return made


def test_gives_the_numbers_of_the_layers(network: PreTrainedModel, copies: Copies) -> None:
    torch.testing.assert_close(inside(network), logits(network), rtol=1e-5, atol=1e-5)
    assert copies.bytes > 0
    assert not any("forward" in module.__dict__ for module in network.modules())


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "up_proj"), ("o_proj",)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gives_the_numbers_of_adapted_layers(network: PreTrainedModel, targets: object, dropout: float) -> None:
    tuned = adapted(network, targets=targets, dropout=dropout)
    expected = logits(tuned)
    assert (expected - logits(network)).abs().max() > 0.01
    torch.testing.assert_close(inside(tuned), expected, rtol=1e-5, atol=1e-5)


def test_adapters_of_one_base_share_its_copies(network: PreTrainedModel, copies: Copies) -> None:
    inside(network)
    before = copies.bytes
    inside(adapted(network))
    assert copies.bytes == before


def test_switched_off_the_adapter_is_the_base(network: PreTrainedModel) -> None:
    tuned = adapted(network)
    tuned.disable_adapters()
    torch.testing.assert_close(inside(tuned), logits(network), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_several_active_adapters_are_left_alone(network: PreTrainedModel) -> None:
    tuned = adapted(network)
    tuned.add_adapter(peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False), "second")
    tuned.set_adapter(["default", "second"])
    torch.testing.assert_close(inside(tuned), logits(tuned), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("through", ["in place", "data", "new storage"])
def test_sees_changed_weights(network: PreTrainedModel, through: str) -> None:
    inside(network)
    weight = network.model.layers[1].mlp.up_proj.weight
    if through == "in place":
        with torch.no_grad():
            weight[0, 1] += 3  # not among the values that are looked at
    elif through == "data":
        weight.data.mul_(1.5)
    else:
        weight.data = weight.data * 1.5
    torch.testing.assert_close(inside(network), logits(network), rtol=1e-5, atol=1e-5)


def test_with_gradients_the_layers_work_themselves(network: PreTrainedModel) -> None:
    with PackedProducts(network):
        network(IDS, labels=IDS).loss.backward()
    assert network.model.layers[0].mlp.up_proj.weight.grad is not None


def test_other_threads_find_the_layers_as_they_are(network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    real = onednn.linear
    monkeypatch.setattr(onednn, "linear", lambda *given: products.append(threading.get_ident()) or real(*given))
    with PackedProducts(network):
        logits(network)
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(logits, network).result()
    assert set(products) == {threading.get_ident()}
    torch.testing.assert_close(there, logits(network), rtol=0, atol=0)


def test_what_has_no_room_keeps_its_own_layout(network: PreTrainedModel, copies: Copies) -> None:
    copies.limit = 1000
    torch.testing.assert_close(inside(network), logits(network))
    assert copies.bytes == 0


def test_the_longest_unused_copies_go_first(network: PreTrainedModel, copies: Copies) -> None:
    inside(network)
    copies.limit = int(copies.bytes * 2.5)
    others = [type(network)(network.config).eval() for _ in range(3)]
    for other in others:
        inside(other)
        assert copies.bytes <= copies.limit
    torch.testing.assert_close(inside(others[0]), logits(others[0]), rtol=1e-5, atol=1e-5)


def test_copies_go_with_their_weights(network: PreTrainedModel, copies: Copies) -> None:
    inside(type(network)(network.config))
    gc.collect()
    assert copies.bytes == 0


def test_bf16(network: PreTrainedModel) -> None:
    tuned = adapted(network.bfloat16())
    torch.testing.assert_close(inside(tuned), logits(tuned), rtol=0.05, atol=0.05)


def test_each_layer_stands_in_one_group(network: PreTrainedModel) -> None:
    groups = list(siblings(network, lambda _: True))
    layers = [layer for group in groups for layer in group]
    assert len(layers) == len(set(layers)) == 2 * 7 + 1
    assert sorted(len(group) for group in groups) == [1] * 5 + [2] * 2 + [3] * 2
