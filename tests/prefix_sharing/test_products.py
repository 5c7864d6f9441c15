"""Plain products against torch's own attention, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from condition.prefix_sharing import products
from condition.prefix_sharing.products import product_attention, products_pay


def drawn(heads: int, shared: int, queries: int, keys: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    numbers = torch.Generator().manual_seed(0)
    shapes = [(2, heads, queries, 4), (2, shared, keys, 4), (2, shared, keys, 4)]
    return [torch.randn(shape, generator=numbers, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(("heads", "shared"), [(1, 1), (4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_equal_to_torchs_own(heads: int, shared: int, causal: bool) -> None:
    inputs = drawn(heads, shared, 5, 5 if causal else 7)
    mask = None if causal else torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    if mask is not None:
        mask[..., 0] = True
    output = product_attention(*inputs, mask, 0.3)
    wanted = scaled_dot_product_attention(*inputs, attn_mask=mask, is_causal=causal, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view(output.shape)
    grads = torch.autograd.grad((output * weights).sum(), inputs)
    torch.testing.assert_close(grads, torch.autograd.grad((wanted * weights).sum(), inputs), rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_differences() -> None:
    mask = torch.ones(2, 1, 3, 4, dtype=torch.bool).tril(1)
    assert torch.autograd.gradcheck(lambda q, k, v: product_attention(q, k, v, mask, 0.5), drawn(4, 2, 3, 4))


def test_inputs_are_left_as_they_are() -> None:
    inputs = drawn(4, 2, 5, 5)
    before = [x.detach().clone() for x in inputs]
    product_attention(*inputs, None, 0.5).sum().backward()
    torch.testing.assert_close([x.detach() for x in inputs], before, rtol=0, atol=0)


def test_autocast_decides_the_type() -> None:
    inputs = drawn(4, 2, 5, 5, torch.float32)
    wanted = product_attention(*inputs, None, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = product_attention(*inputs, None, 0.5)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), wanted, rtol=0, atol=0.05)
    grads = torch.autograd.grad(output.float().sum(), inputs)
    assert all(grad.dtype == torch.float32 for grad in grads)


def test_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, _ = drawn(4, 2, 5, 6)
    monkeypatch.setattr(products, "LARGEST", 2 * 4 * 5 * 6)
    assert products_pay(query, key, 0.0)
    assert not products_pay(query, key, 0.1)  # dropout is the fused kernel's
    assert not products_pay(query.to("meta"), key.to("meta"), 0.0)
    monkeypatch.setattr(products, "LARGEST", 2 * 4 * 5 * 6 - 1)
    assert not products_pay(query, key, 0.0)
