"""Which adapter a network has, kinds of one's own, and the network without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from condition.adapters.attach import freeze, shared_copy, trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.lora import LoRA
from condition.adapters.registry import (
    KINDS,
    KeptAdapter,
    adapter_from,
    adapter_of,
    attached,
    from_folder,
    load_adapter,
    register,
    save_adapter,
    switched_off,
)
from condition.adapters.soft_prompts import PromptTuning
from condition.errors import ContractError, SettingsError
from condition.models.load import load
from condition.types import Options, Sampling
from tests.adapters.test_every_adapter import fit
from tests.conftest import Tiny, TinyModel

IDS = torch.arange(3, 40)[None]


class Shift(Options):
    """A stranger's adapter: one number added to the last hidden state, after the registry's own words."""

    start: float = 0.0
    kind: Literal["shift"] = "shift"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        twin = shared_copy(network)
        freeze(twin)
        base = twin.base_model
        base.register_parameter("learned_shift", torch.nn.Parameter(torch.full((64,), self.start)))
        base.register_forward_hook(_add)
        return twin

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        save_file({"shift": network.base_model.learned_shift.detach().clone()}, folder / "shift.safetensors")

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        twin = attached(self, network)
        twin.base_model.learned_shift.data.copy_(load_file(folder / "shift.safetensors")["shift"])
        return twin


def _add(base: Any, given: Any, output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state + base.learned_shift
    return output


@pytest.fixture
def shift() -> Iterator[Shift]:
    register(Shift, "shift")
    yield Shift(start=0.1)
    KINDS.pop("shift")


def test_a_kind_of_ones_own_is_trained_saved_and_loaded(tiny_model: TinyModel, shift: Shift, tmp_path: Path) -> None:
    assert isinstance(shift, KeptAdapter)
    base = tiny_model()
    tuned = fit(base, shift)
    _, losses = tuned.history.series("loss")
    assert losses[-1] < losses[0]
    assert adapter_of(tuned.network) == shift
    assert tuned.name == "tiny llama + shift"
    tuned.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved", base=base)
    assert adapter_of(again.network) == shift
    [[mine]], [[theirs]] = (m.generate("What?", Sampling(max_tokens=4)) for m in (tuned, again))
    assert (mine.token_ids, mine.logprobs) == (theirs.token_ids, theirs.logprobs)


def test_a_kind_is_of_one_class(shift: Shift) -> None:
    register(Shift, "shift")  # a notebook's cell is run twice
    with pytest.raises(SettingsError, match="the kind 'lora' is taken by LoRA"):
        register(Shift, "lora")
    assert KINDS["lora"] is LoRA


def test_an_adapter_without_a_way_to_be_saved_says_so(tiny: Tiny, tmp_path: Path) -> None:
    class Only:
        def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
            return shared_copy(network)

    network = attached(Only(), tiny("llama"))
    with pytest.raises(SettingsError, match="Only can't be saved: give it kind, save and load"):
        save_adapter(network, tmp_path / "saved", "base")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("adapter", [LoRA(rank=3), PromptTuning(length=2), Bottleneck(size=3)], ids=lambda a: a.kind)
def test_what_a_contract_tells_is_the_adapter(adapter: Any, tiny: Tiny) -> None:
    told = json.loads(json.dumps(adapter.model_dump(mode="json")))
    assert adapter_from(told) == adapter
    assert adapter_from({**told, "of a later version": 1}) == adapter
    assert adapter_of(attached(adapter, tiny("llama"))) is adapter
    assert adapter_of(tiny("llama")) is None


def test_contracts_that_can_not_be_read() -> None:
    with pytest.raises(ContractError, match=r"kind 'quantum', which is not known here: known are adalora, .*register"):
        adapter_from({"kind": "quantum"})
    with pytest.raises(ContractError, match="the kind 'None'"):
        adapter_from({})
    with pytest.raises(ContractError, match=r"the contract's adapter can't be read: .*rank"):
        adapter_from({"kind": "lora", "rank": -1})


def test_pefts_methods_that_are_not_known(tiny: Tiny, tmp_path: Path) -> None:
    told = {"peft_type": "VERA", "task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(ContractError, match=r"of the method .*VERA is not known here: use PEFT itself"):
        from_folder(tmp_path)


def test_a_folder_of_another_kind_than_the_contract_says(tiny: Tiny, tmp_path: Path) -> None:
    save_adapter(LoRA(rank=2).attach(tiny("llama")), tmp_path, "base")
    for kind, said in (
        ("ia3", "LORA, and IA3Config was to be loaded"),
        ("adalora", "LORA, and AdaLoraConfig was"),
        ("prompt_tuning", "holds no prompt_embeddings"),
    ):
        with pytest.raises(ContractError, match=said):
            load_adapter(tiny("llama"), tmp_path, {"kind": kind})


@torch.no_grad()
@pytest.mark.parametrize("whole", [(), ("lm_head",)], ids=["factors", "a whole head too"])
def test_switched_off_and_on_again(tiny: Tiny, whole: tuple[str, ...]) -> None:
    base = tiny("llama")
    network = LoRA(rank=2, initialisation="gaussian", whole=whole).attach(base)
    for parameter in trainable(network).values():
        parameter.add_(0.1)
    changed, learning = network(input_ids=IDS).logits, set(trainable(network))
    with switched_off(network):
        assert torch.equal(network(input_ids=IDS).logits, base(input_ids=IDS).logits)
    assert torch.equal(network(input_ids=IDS).logits, changed)
    with pytest.raises(KeyError), switched_off(network):  # it comes back on whatever happens
        raise KeyError
    assert torch.equal(network(input_ids=IDS).logits, changed)
    assert set(trainable(network)) == learning


def test_frozen_it_stays_frozen_when_it_comes_back(tiny: Tiny) -> None:
    network = LoRA(rank=2).attach(tiny("llama"))
    freeze(network)
    with switched_off(network):
        pass
    assert not trainable(network)


@pytest.mark.parametrize("adapter", [FullFineTuning(), LastLayers(1)], ids=lambda a: a.kind)
def test_what_changed_the_bases_own_weights_has_no_switch(tiny: Tiny, adapter: Any) -> None:
    with pytest.raises(SettingsError, match="no adapter to switch off"), switched_off(attached(adapter, tiny("llama"))):
        pass
