"""Several adapters on one network: the same as one after the other, all of them trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.adalora import AdaLoRA, ranks
from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.mixed import Mixed
from condition.adapters.registry import load_adapter, save_adapter, switched_off
from condition.adapters.side import LadderSide
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning, PTuning
from condition.adapters.stack import Stack
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
THREE = Stack((PromptTuning(length=4), LoRA(rank=2), Bottleneck(size=4)))


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for _, parameter in sorted(trainable(network).items()):
        parameter.data = parameter.data + torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


@torch.no_grad()
def test_it_is_its_parts_one_after_the_other(tiny: Tiny, family: str) -> None:
    """The soft prompt last, whatever the order they are given in: it is read through the others."""
    base = tiny(family)
    torch.manual_seed(0)
    stacked = filled(THREE.attach(base))
    torch.manual_seed(0)
    by_hand = Bottleneck(size=4).attach(LoRA(rank=2).attach(base))
    by_hand = PromptTuning(length=4).attach(by_hand)
    own = trainable(stacked)
    named = {name: p for name, p in by_hand.named_parameters() if name in own}
    assert named.keys() == own.keys()
    for name, parameter in named.items():
        parameter.data.copy_(own[name])
    assert torch.equal(stacked(input_ids=IDS).logits, by_hand(input_ids=IDS).logits)
    reordered = Stack(THREE.parts[::-1])
    assert [part.kind for part in reordered.ordered] == [part.kind for part in THREE.ordered]
    assert THREE.ordered[-1].kind == "prompt_tuning"


def test_all_parts_learn_and_nothing_else(tiny: Tiny, family: str) -> None:
    network = filled(THREE.attach(tiny(family)))
    kinds = {"lora_A": 0, "learned_bottleneck": 0, "learned_prefix": 0}
    network(input_ids=IDS, labels=IDS).loss.backward()
    for name, parameter in network.named_parameters():
        kind = next((kind for kind in kinds if kind in name.split(".")), None)
        assert (parameter.grad is not None) == parameter.requires_grad == (kind is not None or "lora_B" in name), name
        if kind is not None:
            kinds[kind] += 1
            assert bool(parameter.grad.any()), name
    assert all(kinds.values())


def test_switched_off_all_are(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = filled(THREE.attach(base))
    with torch.no_grad(), switched_off(network):
        torch.testing.assert_close(network(input_ids=IDS).logits, base(input_ids=IDS).logits)
    assert len(trainable(network)) == len(trainable(THREE.attach(base)))


@torch.no_grad()
@pytest.mark.parametrize(
    "stack",
    [
        THREE,
        Stack((LoRA(rank=2, initialisation="pissa"), PrefixTuning(length=3))),
        Stack((AdaLoRA(rank=2, start=3), Bottleneck(size=4))),
        Stack((IA3(), PTuning(length=3))),
    ],
    ids=lambda stack: "-".join(part.kind for part in stack.parts),
)
def test_there_and_back(tiny: Tiny, family: str, stack: Stack, tmp_path: Path) -> None:
    network = filled(stack.attach(tiny(family)))
    save_adapter(network, tmp_path, "base")
    assert {path.name for path in tmp_path.iterdir()} == {part.kind for part in stack.parts}
    again = load_adapter(tiny(family), tmp_path, stack.model_dump(mode="json"))
    assert torch.equal(again(input_ids=IDS).logits, network(input_ids=IDS).logits)
    assert trainable(again).keys() == trainable(network).keys()
    with pytest.raises(ContractError, match=r"is not of this adapter on this base|give the right base"):
        load_adapter(tiny(family, **_another(family)), tmp_path, stack.model_dump(mode="json"))


def _another(family: str) -> dict[str, int]:
    return {"n_layer": 3} if family == "gpt2" else {"num_hidden_layers": 3}


def test_ranks_are_allocated_inside_a_stack_too(tiny: Tiny) -> None:
    stack = Stack((AdaLoRA(rank=1, start=4, every=1, settled=0.5), Bottleneck(size=4)))
    network = filled(stack.attach(tiny("llama")))
    before = ranks(network)
    for step in range(1, 5):
        network(input_ids=IDS, labels=IDS).loss.backward()
        slopes = {name: p.grad.clone() for name, p in trainable(network).items()}
        stack.before_step(network, step, 4)
        changed = {name for name, p in trainable(network).items() if not torch.equal(p.grad, slopes[name])}
        assert changed
        assert all("lora_A" in name or "lora_B" in name for name in changed)
        stack.after_step(network, step, 4)
        network.zero_grad()
    assert sum(ranks(network).values()) == len(before) < sum(before.values())


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((LoRA(),), "two or more adapters"),
        (5, "Stack takes several adapters"),
        (LoRA(), "Stack takes several adapters"),
        ((LoRA(), IA3()), "lora and ia3 can't stack: a network has room for PEFT's layers once"),
        ((PromptTuning(), LoRA(), PrefixTuning()), "prompt_tuning and prefix_tuning can't stack"),
        ((Bottleneck(), Bottleneck(size=2)), "room for a bottleneck once"),
    ],
)
def test_parts_that_do_not_stack(parts: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Stack(parts)


@pytest.mark.parametrize("kind", [Stack, Mixed])
def test_parts_that_are_not_in_a_tuple(kind: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{kind.__name__} takes several adapters in a tuple, .*, not LoRA.*IA3"):
        kind(LoRA(rank=2), IA3())


@pytest.mark.parametrize("kind", [Stack, Mixed])
@pytest.mark.parametrize("part", [FullFineTuning(), LadderSide(), "lora", None, {"rank": 3}], ids=str)
def test_what_is_no_part_is_told_what_is(kind: Any, part: Any) -> None:
    with pytest.raises(
        SettingsError, match=rf"^{kind.__name__} can't hold .*: it takes LoRA, .*, such as {kind.__name__}\("
    ):
        kind((LoRA(rank=2), part))


@pytest.mark.parametrize("kind", [Stack, Mixed])
def test_a_part_that_was_not_called(kind: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{kind.__name__}: LoRA is a class, .*: write LoRA\(\)$"):
        kind((LoRA, Bottleneck()))
