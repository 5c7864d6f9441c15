"""The ladder by hand, and that no pass goes back through the base. Sung et al. 2022, arXiv 2206.06522."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from condition.adapters.attach import trainable
from condition.adapters.blocks import blocks
from condition.adapters.learned import FILE
from condition.adapters.lora import LoRA
from condition.adapters.registry import load_adapter, save_adapter
from condition.adapters.side import PART, LadderSide
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = parameter.data + torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


def outputs(network: Any) -> tuple[list[Tensor], Tensor]:
    """What each block says, and the logits."""
    said: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, out: said.append(out[0] if isinstance(out, tuple) else out))
        for block in blocks(network, "test")
    ]
    logits = network(input_ids=IDS, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return said, logits


def leaves(root: Any) -> Iterator[Tensor]:
    """Every tensor that a backward pass would end at."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def kept_bytes(network: Any) -> int:
    """Activations that a backward pass of the whole loss would need, without the weights."""
    weights = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network.base_model(input_ids=IDS, use_cache=False)
    return sum(kept.values())


def test_the_base_keeps_no_graph(tiny: Tiny, family: str) -> None:
    network = filled(LadderSide(reduction=4).attach(tiny(family))).train()
    said, logits = outputs(network)
    assert len(said) == 2
    assert all(each.grad_fn is None and not each.requires_grad for each in said)
    assert {id(t) for t in leaves(logits.grad_fn)} == {id(p) for p in trainable(network).values()}
    said, logits = outputs(LoRA(rank=2).attach(tiny(family)).train())  # as every other method does
    assert all(each.grad_fn is not None for each in said)


def test_nothing_of_the_base_runs_backwards(tiny: Tiny, family: str) -> None:
    """Behind the ladder's sum there is the head alone."""
    network = filled(LadderSide(reduction=4).attach(tiny(family))).train()
    head, ran = network.get_output_embeddings(), set()
    inside = [m for name, m in network.named_modules() if PART not in name.split(".") and m is not head]
    handles = [
        module.register_forward_hook(
            lambda module, _, out: (
                out.register_hook(lambda _: ran.add(module)) if isinstance(out, Tensor) and out.requires_grad else None
            )
        )
        for module in inside
        if isinstance(module, nn.Module) and not list(module.children())
    ]
    network(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    for handle in handles:
        handle.remove()
    assert handles
    assert not ran
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trainable(network).values())
    assert {name for name, p in network.named_parameters() if p.grad is not None} == set(trainable(network))


def test_it_hears_without_answering(tiny: Tiny, family: str) -> None:
    """Where something before the base learns, its gradient is the base's own."""
    base = tiny(family)
    network = filled(LadderSide(reduction=4).attach(base))
    weights = torch.randn(1, IDS.shape[1], 64, generator=torch.Generator().manual_seed(3))
    slopes = []
    for each in (base, network):
        words = base.get_input_embeddings()(IDS).detach().requires_grad_()
        (each.base_model(inputs_embeds=words, use_cache=False).last_hidden_state * weights).sum().backward()
        slopes.append(words.grad)
    torch.testing.assert_close(slopes[1], slopes[0])
    assert all(bool(p.grad.any()) for name, p in trainable(network).items() if "up" in name)


def test_it_keeps_a_fraction_of_the_activations(tiny: Tiny, family: str) -> None:
    ladder = kept_bytes(LadderSide(reduction=8).attach(tiny(family)).train())
    assert 0 < ladder < 0.4 * kept_bytes(LoRA(rank=2).attach(tiny(family)).train())


@torch.no_grad()
def test_by_hand(tiny: Tiny, family: str) -> None:
    """A rung: share * below + (1 - share) * down(beside), then + narrow(gelu(wide(norm))); the first has no below."""
    base = tiny(family)
    network = filled(LadderSide(reduction=4, expansion=2).attach(base))
    ladder = network.base_model.get_submodule(PART)
    said, logits = outputs(network)
    state: Tensor | None = None
    for rung, beside in zip(ladder.rungs, said, strict=True):
        heard = beside @ rung.down.weight.T + rung.down.bias
        if state is None:
            assert rung.gate is None
            mixed = heard
        else:
            share = 1 / (1 + torch.exp(-rung.gate))
            mixed = share * state + (1 - share) * heard
        inner = functional.layer_norm(mixed, (16,), rung.norm.weight, rung.norm.bias)
        state = mixed + functional.gelu(inner @ rung.wide.weight.T + rung.wide.bias) @ rung.narrow.weight.T
        state = state + rung.narrow.bias
        assert rung.wide.out_features == 2 * rung.narrow.out_features == 2 * 16
    assert state is not None
    added = functional.layer_norm(state, (16,), ladder.norm.weight, ladder.norm.bias) @ ladder.up.weight.T
    last = base.base_model(input_ids=IDS).last_hidden_state + added + ladder.up.bias
    torch.testing.assert_close(logits, base.get_output_embeddings()(last), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits, base(input_ids=IDS).logits, atol=1e-3)


@torch.no_grad()
def test_a_new_one_changes_nothing_and_forgets_what_it_heard(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = LadderSide(reduction=4).attach(base)
    assert torch.equal(network(input_ids=IDS).logits, base(input_ids=IDS).logits)
    assert network.base_model.get_submodule(PART).heard == {}


def test_what_does_not_fit_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    network = LadderSide(reduction=4).attach(tiny("llama"))
    for adapted in (network, LoRA(rank=2).attach(tiny("llama"))):
        with pytest.raises(SettingsError, match="can't stand beside another adapter"):
            LadderSide().attach(adapted)
    with pytest.raises(SettingsError, match=r"reduction = 65 leaves nothing of a width of 64"):
        LadderSide(reduction=65).attach(tiny("llama"))
    save_adapter(network, tmp_path, "base")
    told = LadderSide(reduction=4).model_dump(mode="json")
    with pytest.raises(ContractError, match=r"there and .* here"):
        load_adapter(tiny("llama"), tmp_path, {**told, "reduction": 8})
    with pytest.raises(ContractError, match="is only in the network"):
        load_adapter(tiny("llama", num_hidden_layers=3), tmp_path, told)
    # As it was when the first rung had a gate too.
    file = tmp_path / FILE
    tensors = load_file(file)
    gate = next(name for name in tensors if name.endswith("rungs.1.gate")).replace("rungs.1", "rungs.0")
    save_file({**tensors, gate: torch.zeros(())}, file)
    with pytest.raises(ContractError, match=rf"{gate} is only in the file\. .* another version .* tune and save again"):
        load_adapter(tiny("llama"), tmp_path, told)
