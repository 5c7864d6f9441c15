"""AdaLoRA by hand: its layer, its penalty, what counts as important, and how many ranks are left when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from condition.adapters.adalora import BUDGET, FILE, SMOOTHING, AdaLoRA, layers, ranks
from condition.adapters.attach import is_learned, private_copy, trainable, trained_state
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.registry import from_folder, load_adapter, save_adapter
from condition.adapters.stack import Stack
from condition.errors import ContractError, SettingsError
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]
PARTS = ("lora_A", "lora_B", "lora_E")


def filled(network: Any) -> Any:
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


def slopes(network: Any, seed: int) -> None:
    numbers = torch.Generator().manual_seed(seed)
    for parameter in trainable(network).values():
        parameter.grad = torch.randn(parameter.shape, generator=numbers)


def parts(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(getattr(layer, part)["default"] for part in PARTS)


@torch.no_grad()
def test_a_new_one_changes_nothing(tiny: Tiny, family: str) -> None:
    base = tiny(family)
    network = AdaLoRA(rank=2, start=3).attach(base)
    torch.testing.assert_close(network(input_ids=IDS).logits, base(input_ids=IDS).logits, rtol=0, atol=0)


def test_a_narrow_base_trains_no_constant(tiny: Tiny) -> None:
    """PEFT moves its layers to the base's type and device, and a moved constant learns."""
    network = AdaLoRA(rank=2, start=3).attach(tiny("llama").bfloat16())
    assert {name.split(".")[-2] for name in trainable(network)} == set(PARTS)
    assert all(float(layer.ranknum["default"]) == 3 for _, layer in layers(network))


@torch.no_grad()
def test_a_layer_by_hand(tiny: Tiny) -> None:
    """Zhang et al. 2023: W x + B diag(e) A x, scaled by alpha / start."""
    network = filled(AdaLoRA(rank=2, start=4, alpha=6, targets=["q_proj"]).attach(tiny("llama")))
    layer = network.get_submodule("model.layers.0.self_attn.q_proj")
    a, b, e = parts(layer)
    assert (a.shape, b.shape, e.shape) == ((4, 64), (64, 4), (4, 1))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    expected = x @ layer.base_layer.weight.T + (6 / 4) * x @ (b @ e[:, 0].diag() @ a).T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_of_factors_that_are_not_orthonormal(tiny: Tiny) -> None:
    adapter = AdaLoRA(rank=2, start=4, orthogonality=0.3)
    network = filled(adapter.attach(tiny("llama")))
    slopes(network, 3)
    before = {name: p.grad.clone() for name, p in trainable(network).items()}
    adapter.before_step(network, 1, 10)
    found = {name: p.grad - before[name] for name, p in trainable(network).items()}

    distances = []
    for _, layer in layers(network):
        a, b, _ = parts(layer)
        distances += [(a @ a.T - torch.eye(4)).pow(2).sum().sqrt(), (b.T @ b - torch.eye(4)).pow(2).sum().sqrt()]
    penalty = 0.3 * sum(distances) / len(distances)
    own = [(name, p) for name, p in trainable(network).items() if "lora_E" not in name]
    for (name, _), slope in zip(own, torch.autograd.grad(penalty, [p for _, p in own]), strict=True):
        torch.testing.assert_close(found[name], slope, rtol=1e-3, atol=1e-6)
    assert not any(found[name].any() for name in found if "lora_E" in name)

    slopes(network, 3)
    AdaLoRA(rank=2, start=4, orthogonality=0).before_step(network, 1, 10)
    assert all(torch.equal(p.grad, before[name]) for name, p in trainable(network).items())


def test_orthonormal_factors_have_no_penalty(tiny: Tiny) -> None:
    adapter = AdaLoRA(rank=2, start=4)
    network = filled(adapter.attach(tiny("llama")))
    for _, layer in layers(network):
        for factor in parts(layer)[:2]:
            nn.init.orthogonal_(factor)
    slopes(network, 3)
    before = {name: p.grad.clone() for name, p in trainable(network).items()}
    adapter.before_step(network, 1, 10)
    # The distance is a root, whose slope next to zero is of any direction and at most the weight over the count.
    for name, parameter in trainable(network).items():
        assert float((parameter.grad - before[name]).norm()) < 0.1


def test_importance_is_smoothed_and_multiplied_by_its_uncertainty(tiny: Tiny) -> None:
    """Of which ranks are kept: s(e) + mean s(A's row) + mean s(B's column), s = smoothed |p dp| times its deviation."""
    adapter = AdaLoRA(rank=1, start=4, targets=["q_proj"], warmup=0.0, settled=0.5, every=100)
    network = filled(adapter.attach(tiny("llama")))
    smooth: dict[tuple[int, str], Tensor] = {}
    doubt: dict[tuple[int, str], Tensor] = {}
    for step in (1, 2):  # a run of 4: allocated for the first time at its half
        slopes(network, step)
        for number, (_, layer) in enumerate(layers(network)):
            for part, p in zip(PARTS, parts(layer), strict=True):
                now, key = (p * p.grad).abs().detach(), (number, part)
                smooth[key] = SMOOTHING * smooth.get(key, torch.zeros(())) + (1 - SMOOTHING) * now
                doubt[key] = SMOOTHING * doubt.get(key, torch.zeros(())) + (1 - SMOOTHING) * (now - smooth[key]).abs()
        before = [parts(layer)[2].detach().clone() for _, layer in layers(network)]
        adapter.after_step(network, step, 4)
        if step == 1:
            assert all(torch.equal(parts(la)[2], e) for (_, la), e in zip(layers(network), before, strict=True))
    scores = []
    for number in (0, 1):
        a, b, e = (smooth[number, part] * doubt[number, part] for part in PARTS)
        scores.append(e[:, 0] + a.mean(1) + b.mean(0))
    found = network.get_submodule(BUDGET).scores([layer for _, layer in layers(network)])
    for one, expected in zip(found, scores, strict=True):
        torch.testing.assert_close(one, expected)
    kept = torch.cat(scores).topk(2).indices.tolist()  # two layers, a rank each on average
    left = torch.cat([parts(layer)[2][:, 0] for _, layer in layers(network)])
    assert sorted(kept) == left.nonzero()[:, 0].tolist()
    whole = torch.cat([e[:, 0] for e in before])
    assert torch.equal(left[kept], whole[kept])


def test_ranks_are_taken_away_by_the_cube_of_what_is_left_of_the_run(tiny: Tiny) -> None:
    adapter = AdaLoRA(rank=2, start=6, warmup=0.2, settled=0.4, every=5)
    network = filled(adapter.attach(tiny("llama")))
    count, total, found = len(list(layers(network))), 50, {}
    for step in range(1, total + 1):
        slopes(network, step)
        for parameter in trainable(network).values():  # as an optimizer would: what was taken away may come back
            parameter.data.add_(parameter.grad, alpha=0.01)
        adapter.after_step(network, step, total)
        found[step] = sum(ranks(network).values())
    assert found[10] == 6 * count  # the warmup's end
    for step in (15, 20, 25):
        share = 1 - (step - 10) / 20
        assert found[step] == 2 * count + int(4 * count * share**3), step
        assert found[step + 1] == 6 * count  # between two allocations all are trained
    assert {found[step] for step in range(30, total + 1)} == {2 * count}
    assert len(set(ranks(network).values())) > 1  # on average, not each


def test_at_the_end_the_same_ranks_stay(tiny: Tiny) -> None:
    adapter = AdaLoRA(rank=2, start=6, settled=0.4, every=5)
    network = filled(adapter.attach(tiny("llama")))
    seen = []
    for step in range(1, 21):
        slopes(network, step)
        for parameter in trainable(network).values():
            parameter.data.add_(parameter.grad, alpha=0.01)
        adapter.after_step(network, step, 20)
        seen.append(torch.cat([parts(layer)[2][:, 0] != 0 for _, layer in layers(network)]))
    assert all(torch.equal(mask, seen[-1]) for mask in seen[11:])
    assert not torch.equal(seen[4], seen[-1])


def test_what_it_counts_is_trained_state_and_a_copys_own(tiny: Tiny) -> None:
    adapter = AdaLoRA(rank=2, start=4)
    network = filled(adapter.attach(tiny("llama")))
    slopes(network, 1)
    adapter.after_step(network, 1, 10)
    counted = {name: t for name, t in trained_state(network).items() if is_learned(name)}
    assert len(counted) == 2 * 3 * len(list(layers(network)))
    assert all(bool(tensor.any()) for tensor in counted.values())
    other = private_copy(network)
    slopes(other, 2)
    kept = {name: tensor.clone() for name, tensor in counted.items()}
    adapter.after_step(other, 2, 10)
    assert all(torch.equal(network.get_buffer(name), tensor) for name, tensor in kept.items())
    assert not all(torch.equal(other.get_buffer(name), tensor) for name, tensor in kept.items())
    assert BUDGET in dict(network.named_children())


@pytest.mark.parametrize("stacked", [False, True])
def test_tuned_on_from_its_folder_it_is_the_one_from_memory(tiny: Tiny, tmp_path: Path, stacked: bool) -> None:
    """The same ranks are taken away; of a folder without what was counted, as PEFT writes it, the budget is new."""
    own = AdaLoRA(rank=2, start=6, warmup=0.0, every=2)
    adapter: Any = Stack((own, Bottleneck(size=2))) if stacked else own
    network = filled(adapter.attach(tiny("llama")))
    for step in range(1, 11):
        slopes(network, step)
        adapter.after_step(network, step, 10)
    save_adapter(network, tmp_path, "org/base")
    loaded = adapter.load(tiny("llama"), tmp_path)
    (file,) = tmp_path.rglob(FILE)
    file.unlink()
    without = adapter.load(tiny("llama"), tmp_path)
    for other in (network, loaded, without):
        slopes(other, 11)
        adapter.after_step(other, 4, 10)
    here, there, anew = (trained_state(other) for other in (network, loaded, without))
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert not all(torch.equal(here[name], anew[name]) for name in here if "lora_E" in name)
    save_file({}, file)
    with pytest.raises(ContractError, match=f"{FILE} is not of this adapter on this base"):
        adapter.load(tiny("llama"), tmp_path)


@torch.no_grad()
def test_the_folder_is_pefts_own(tiny: Tiny, family: str, tmp_path: Path) -> None:
    network = filled(AdaLoRA(rank=2, start=4, alpha=6).attach(tiny(family)))
    save_adapter(network, tmp_path, "org/base")
    expected = network(input_ids=IDS).logits
    found = PeftModel.from_pretrained(tiny(family), str(tmp_path))(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(load_adapter(tiny(family), tmp_path, None)(input_ids=IDS).logits, expected)
    told = from_folder(tmp_path)
    assert isinstance(told, AdaLoRA)
    assert (told.rank, told.start, told.alpha) == (2, 4, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 4, "start": 3}, "rank 4 is more than start 3"),
        ({"warmup": 0.5, "settled": 0.5}, "nothing is left to allocate ranks in"),
        ({"every": 0}, r"AdaLoRA\.every = 0"),
        ({"orthogonality": -1}, r"AdaLoRA\.orthogonality = -1"),
    ],
)
def test_a_setting_that_does_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        AdaLoRA(**options)
