"""The base's own weights: which of them are trained, that they are a copy, and in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.lora import LoRA
from condition.adapters.registry import load_adapter, save_adapter
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
LAST = {"llama": ("model.layers.1.", "model.norm."), "gpt2": ("transformer.h.1.", "transformer.ln_f.")}


@pytest.mark.parametrize("family", LAST)
def test_the_last_blocks_and_the_norm_behind_them(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = LastLayers(1).attach(base)
    own = trainable(network)
    assert own.keys() == {name for name, _ in base.named_parameters() if name.startswith(LAST[family])}
    theirs = dict(base.named_parameters())
    for name, parameter in network.named_parameters():
        assert (parameter is theirs[name]) == (name not in own), name
        assert torch.equal(parameter, theirs[name])
    assert len(trainable(LastLayers(2).attach(base))) > len(own)


@pytest.mark.parametrize("adapter", [FullFineTuning(), LastLayers(1)], ids=lambda a: a.kind)
def test_a_narrower_base_is_trained_in_float32(tiny: Tiny, adapter: FullFineTuning | LastLayers) -> None:
    base = tiny("llama").to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    network = adapter.attach(base)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    for parameter in trainable(network).values():
        parameter.data.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert base.dtype == torch.bfloat16
    assert network(input_ids=IDS).logits.dtype == torch.float32


def test_all_weights_are_a_copy_and_what_is_tied_stays_tied(tiny: Tiny) -> None:
    base = tiny("llama", tie_word_embeddings=True)
    network = FullFineTuning().attach(base)
    mine = {id(p) for p in base.parameters()}
    assert not any(id(p) in mine for p in network.parameters())
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    assert trainable(network).keys() == dict(network.named_parameters()).keys()


def test_the_blocks_are_saved_alone(tiny: Tiny, tmp_path: Path) -> None:
    network = LastLayers(1).attach(tiny("llama"))
    for parameter in trainable(network).values():
        parameter.data.add_(0.1)
    save_adapter(network, tmp_path, "base")
    told = LastLayers(1).model_dump(mode="json")
    again = load_adapter(tiny("llama"), tmp_path, told)
    assert torch.equal(again(input_ids=IDS).logits, network(input_ids=IDS).logits)
    with pytest.raises(ContractError, match="is only in the network"):
        load_adapter(tiny("llama"), tmp_path, {**told, "n": 2})
    with pytest.raises(SettingsError, match="goes on no base: load it by itself"):
        FullFineTuning().load(tiny("llama"), tmp_path)


def test_what_does_not_fit_is_refused(tiny: Tiny) -> None:
    with pytest.raises(SettingsError, match=r"LastLayers\.n = 3, but LlamaForCausalLM has 2 blocks"):
        LastLayers(3).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"LastLayers\.n = 0"):
        LastLayers(0)
    for adapter in (FullFineTuning(), LastLayers(1)):
        for adapted in (LoRA(rank=2).attach(tiny("llama")), Bottleneck(size=2).attach(tiny("llama"))):
            with pytest.raises(SettingsError, match="needs a plain base: merge the adapter first"):
                adapter.attach(adapted)
