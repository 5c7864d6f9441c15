"""Every adapter through the same checks, and a kind of one's own, of a class that inherits nothing: what `KeptAdapter`
says is enough."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.attach import trainable
from condition.adapters.lora import LoRA
from condition.adapters.registry import KINDS, KeptAdapter, adapter_of, register, told_of
from condition.errors import ContractError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.testing import check_adapter
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example
from tests.adapters.test_every_adapter import ADAPTERS
from tests.conftest import Tiny, TinyModel

ROWS = [Example({"q": f"What is {i}?"}, "It is blue") for i in range(4)]


class Moved(nn.Module):
    """An embedding, and a vector beside it that is added to what it gives."""

    def __init__(self, inner: nn.Embedding, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        self.shift = nn.Parameter(torch.zeros(inner.embedding_dim))

    @property
    def weight(self) -> Tensor:
        return self.inner.weight

    def forward(self, ids: Tensor) -> Tensor:
        moved: Tensor = self.inner(ids) + self.scale * self.shift
        return moved


class Shift:
    """One learned vector for all words."""

    kind = "shift"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        twin: Any = copy.deepcopy(network, {id(p): p for p in network.parameters()})
        twin.requires_grad_(False)
        twin.set_input_embeddings(Moved(twin.get_input_embeddings(), self.scale))
        return twin  # type: ignore[no-any-return]

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        save_file({name: p.detach().clone() for name, p in trainable(network).items()}, folder / "shift.safetensors")

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        twin = self.attach(network)
        twin.load_state_dict(load_file(folder / "shift.safetensors"), strict=False)
        return twin

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        return {"scale": self.scale}


class Attached:
    """An Adapter, and no more."""

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        return network


BEGINS_ELSEWHERE = ("prompt_tuning", "p_tuning", "lstm", "prefix_tuning", "projected", "mixed", "stack")
"""Those with a soft prompt or a prefix, which says something from the beginning."""


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter(name: str, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    check_adapter(ADAPTERS[name], tokenizer=tiny_tokenizer, begins_as_base=name not in BEGINS_ELSEWHERE)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_on_another_network(name: str, tiny: Tiny, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    check_adapter(ADAPTERS[name], tiny("gpt2"), tiny_tokenizer)


def test_one_of_ones_own() -> None:
    check_adapter(Shift(2.0), begins_as_base=True)


@pytest.fixture(autouse=True)
def own_kinds() -> Iterator[None]:
    """What a test registers is gone behind it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


def fit(model: LocalModel, adapter: KeptAdapter) -> LocalModel:
    settings = Settings(max_steps=2, batch_size=2, learning_rate=0.1, precision="fp32")
    return SFTTrainer(adapter, settings).fit(model, ROWS, prompt="{q}")


def shift_of(model: LocalModel) -> Tensor:
    (vector,) = trainable(model.network).values()
    return vector.detach()


def test_it_is_trained_saved_and_loaded(tiny_model: TinyModel, tmp_path: Path) -> None:
    register(Shift, "shift")
    base = tiny_model()
    tuned = fit(base, Shift(2.0))
    assert tuned.name == "tiny llama + shift"
    assert tuned.contract is not None
    assert tuned.contract.adapter == {"kind": "shift", "scale": 2.0}
    assert shift_of(tuned).abs().max() > 0
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned", base=base)
    assert torch.equal(shift_of(again), shift_of(tuned))
    assert again.score(["x"], [["blue"]]) == tuned.score(["x"], [["blue"]])


def test_what_was_loaded_is_tuned_on_and_not_taken_for_a_base(tiny_model: TinyModel, tmp_path: Path) -> None:
    register(Shift, "shift")
    base = tiny_model()
    fit(base, Shift()).save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned", base=base)
    own = adapter_of(again.network)
    assert own is not None
    assert told_of(own) == {"kind": "shift", "scale": 1.0}
    further = fit(again, Shift())
    assert not torch.equal(shift_of(further), shift_of(again))
    with pytest.raises(SettingsError, match=r"differs in scale \(1\.0, asked for 3\.0\)"):
        fit(again, Shift(3.0))
    with pytest.raises(SettingsError, match=r"differs in kind \('shift', asked for 'lora'\)"):
        fit(again, LoRA(rank=2))


def test_a_kind_that_nobody_registered(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tiny_model()
    fit(base, Shift()).save_pretrained(tmp_path / "tuned")
    with pytest.raises(ContractError, match=r"of the kind 'shift', which is not known here.*registry\.register"):
        load(tmp_path / "tuned", base=base)


def test_a_class_that_does_not_take_what_it_told(tiny_model: TinyModel, tmp_path: Path) -> None:
    class Other(Shift):
        def __init__(self) -> None:
            super().__init__()

    base = tiny_model()
    register(Other, "shift")
    fit(base, Shift()).save_pretrained(tmp_path / "tuned")
    with pytest.raises(ContractError, match=r"the contract's adapter can't be read: .*scale"):
        load(tmp_path / "tuned", base=base)


def test_a_kind_is_taken_once() -> None:
    register(Shift, "shift")
    register(Shift, "shift")
    with pytest.raises(SettingsError, match="the kind 'lora' is taken by LoRA"):
        register(Shift, "lora")


def test_one_that_can_only_be_attached_is_told_what_it_lacks(tiny_model: TinyModel) -> None:
    with pytest.raises(
        SettingsError, match=r"^Attached can be attached, .* it lacks kind, save, load, model_dump; see"
    ):
        fit(tiny_model(), Attached())  # type: ignore[arg-type]
