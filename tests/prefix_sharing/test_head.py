from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from condition.prefix_sharing import head as head_module
from condition.prefix_sharing.head import cast_once, gather_logprobs, head_logprobs


class Doubled(nn.Module):
    """A head that is no plain linear layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.out_features = inner.out_features

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = 2 * self.inner(x)
        return doubled


def wanted(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    table: Tensor = head(hidden).double().log_softmax(-1)
    return table[torch.arange(len(targets)), targets]


def parts(bias: bool, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(6, 11, bias=bias, dtype=dtype), torch.randn(9, 6, dtype=dtype), torch.randint(0, 11, (9,))


@pytest.fixture(params=[11, 40, 10**6], ids=["one position", "three positions", "all positions"], autouse=True)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits a chunk of positions at a time."""
    monkeypatch.setattr(head_module, "CHUNK_ENTRIES", request.param)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_values_and_gradients_are_those_of_log_softmax(bias: bool, frozen: bool, plain: bool) -> None:
    linear, hidden, targets = parts(bias)
    hidden.requires_grad_()
    head = linear if plain else Doubled(linear)
    head.requires_grad_(not frozen)
    inputs = [hidden, *(p for p in head.parameters() if p.requires_grad)]
    weights = torch.linspace(-1, 2, 9, dtype=torch.float64)
    values, expected = head_logprobs(head, hidden, targets), wanted(head, hidden, targets)
    torch.testing.assert_close(values, expected)
    grads = torch.autograd.grad((values * weights).sum(), inputs)
    torch.testing.assert_close(grads, torch.autograd.grad((expected * weights).sum(), inputs))


@pytest.mark.parametrize("frozen", [False, True])
def test_without_gradients(frozen: bool) -> None:
    linear, hidden, targets = parts(True)
    linear.requires_grad_(not frozen)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(head_logprobs(linear, hidden, targets), wanted(linear, hidden, targets))


@pytest.mark.parametrize("frozen", [False, True])
def test_bf16_gives_fp32_values_and_gradients_in_the_type_of_the_hidden_states(frozen: bool) -> None:
    linear, hidden, targets = parts(False, torch.bfloat16)
    linear.requires_grad_(not frozen)
    hidden.requires_grad_()
    values = head_logprobs(linear, hidden, targets)
    assert values.dtype == torch.float32
    (grad,) = torch.autograd.grad(values.sum(), hidden)
    assert grad.dtype == torch.bfloat16
    exact = parts(False, torch.bfloat16)[0].double()
    rounded = hidden.detach().double().requires_grad_()
    expected = wanted(exact, rounded, targets)
    torch.testing.assert_close(values.double(), expected, rtol=0, atol=0.03)
    torch.testing.assert_close(grad.double(), torch.autograd.grad(expected.sum(), rounded)[0], rtol=0.05, atol=0.03)


def test_autocast_reaches_the_frozen_head() -> None:
    linear, hidden, targets = parts(True, torch.float32)
    linear.requires_grad_(False)
    hidden.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = head_logprobs(linear, hidden, targets)
        own = gather_logprobs(linear(hidden), targets)
    torch.testing.assert_close(values, own)
    (grad,) = torch.autograd.grad(values.sum(), hidden)
    assert grad.dtype == torch.float32


def test_large_logits_do_not_overflow() -> None:
    linear, hidden, targets = parts(True, torch.float32)
    linear.requires_grad_(False)
    hidden = (hidden * 1000).requires_grad_()
    values, expected = head_logprobs(linear, hidden, targets), wanted(linear, hidden, targets)
    torch.testing.assert_close(values, expected.float())
    (grad,) = torch.autograd.grad(values.sum(), hidden)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), hidden)[0])


def test_a_bias_that_is_trained_beside_a_frozen_weight_has_a_gradient() -> None:
    linear, hidden, targets = parts(True)
    linear.weight.requires_grad_(False)
    (grad,) = torch.autograd.grad(head_logprobs(linear, hidden, targets).sum(), linear.bias)
    torch.testing.assert_close(grad, torch.autograd.grad(wanted(linear, hidden, targets).sum(), linear.bias)[0])


def test_no_positions_are_no_values() -> None:
    linear, hidden, targets = parts(True)
    for frozen in (True, False):
        linear.requires_grad_(not frozen)
        assert head_logprobs(linear, hidden[:0], targets[:0]).shape == (0,)


def test_a_frozen_head_is_cast_once_and_left_as_it_was() -> None:
    linear, hidden, targets = parts(True, torch.float32)
    linear.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        expected = head_logprobs(linear, hidden, targets)
        with cast_once(linear, torch.bfloat16):
            kept = dict(linear.__dict__)
            assert torch.equal(head_logprobs(linear, hidden, targets), expected)
    assert len(kept) == len(linear.__dict__) + 1
    with cast_once(linear, torch.float32):
        assert len(linear.__dict__) == len(kept) - 1
