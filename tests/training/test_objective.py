"""The loss of a batch by hand, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from condition.adapters.attach import freeze, trainable
from condition.adapters.lora import LoRA
from condition.errors import ModelError
from condition.training.objective import Objective
from condition.training.rows import Row, collate
from condition.training.sft import likelihood
from tests.conftest import Tiny

ROWS = [Row((5, 6, 7, 8, 2), 3), Row((*range(20, 60), 9, 2), 40), Row((5, 6, 9, 2), 2)]


def by_hand(network: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    """Mean cross-entropy over all trained tokens, row by row."""
    total, count = torch.zeros(()), 0
    for row in rows:
        logits = network(input_ids=torch.tensor([row.ids])).logits[0]
        targets = torch.tensor(row.ids[row.start :])
        total = total + torch.nn.functional.cross_entropy(logits[row.start - 1 : -1], targets, reduction="sum")
        count += len(targets)
    return total / count


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_cross_entropy(tiny: Tiny, family: str, shared: bool) -> None:
    network = tiny(family)
    if shared:
        from condition.prefix_sharing.probe import shareable  # noqa: PLC0415 - sets the attention

        assert shareable(network)
    objective = Objective(network, likelihood, shared=shared, dtype=torch.float32)
    freeze(network)
    loss = objective(**collate(ROWS))["loss"]
    torch.testing.assert_close(loss, by_hand(network, ROWS), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_cross_entropy(tiny: Tiny) -> None:
    network = LoRA(rank=2).attach(tiny("llama"))
    for parameter in trainable(network).values():
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    by_hand(network, ROWS).backward()
    expected = {n: p.grad for n, p in trainable(network).items()}
    for parameter in trainable(network).values():
        parameter.grad = None
    Objective(network, likelihood, shared=False, dtype=torch.float32)(**collate(ROWS))["loss"].backward()
    for name, parameter in trainable(network).items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_step_is_divided_by_all_its_tokens(tiny: Tiny) -> None:
    objective = Objective(tiny("llama"), likelihood, shared=False, dtype=torch.float32)
    whole = objective(**collate(ROWS))["loss"]
    parts = [objective(**collate(rows), num_items_in_batch=torch.tensor(6))["loss"] for rows in (ROWS[:1], ROWS[1:])]
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_a_loss_that_is_no_number(tiny: Tiny) -> None:
    network = tiny("llama")
    network.get_submodule("lm_head").weight.data[7] = math.nan
    with pytest.raises(ModelError, match=r"the loss became nan: the learning rate is too high"):
        Objective(network, likelihood, shared=False, dtype=torch.float32)(**collate(ROWS))


def test_the_mode_is_set_only_where_it_changes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine asks at each step; to walk through a network's modules takes its time."""
    objective = Objective(tiny("llama"), likelihood, shared=False, dtype=torch.float32)
    for mode in (True, False, True):
        assert objective.train(mode) is objective
        assert {module.training for module in objective.modules()} == {mode}
    objective.network.eval()  # behind the objective's back
    objective.train()
    assert {module.training for module in objective.modules()} == {True}
    monkeypatch.setattr(objective.network, "train", lambda mode: pytest.fail("walked for nothing"))
    assert objective.train() is objective


def test_bf16_is_autocast(tiny: Tiny) -> None:
    network = tiny("llama")
    fp32 = Objective(network, likelihood, shared=False, dtype=torch.float32)(**collate(ROWS))["loss"]
    bf16 = Objective(network, likelihood, shared=False, dtype=torch.bfloat16)(**collate(ROWS))["loss"]
    assert bf16.dtype == torch.float32
    assert 0 < abs(float(bf16.detach() - fp32.detach())) < 0.05
