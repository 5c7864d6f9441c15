"""oneDNN's products beside torch's own, and a torch without them."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional

from condition import onednn

pytestmark = pytest.mark.skipif(not onednn.works(torch.float32), reason="this torch has no products by oneDNN")
NUMBERS = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("laid_out", [False, True])
def test_products_in_both_directions(rows: int, laid_out: bool) -> None:
    weight, bias = torch.randn(48, 20, generator=NUMBERS), torch.randn(48, generator=NUMBERS)
    x, grad = torch.randn(rows, 20, generator=NUMBERS), torch.randn(rows, 48, generator=NUMBERS)
    forward, backward = (onednn.lay_out(w) if laid_out else w for w in (weight, weight.t()))
    torch.testing.assert_close(onednn.linear(x, forward, bias), functional.linear(x, weight, bias))
    torch.testing.assert_close(onednn.linear(grad, backward, None), grad @ weight)
    before = x.clone()
    torch.testing.assert_close(onednn.linear_add(grad, backward, x), x + grad @ weight)
    assert torch.equal(x, before)


def test_inputs_of_more_dimensions_and_other_strides() -> None:
    weight = torch.randn(8, 6, generator=NUMBERS)
    x = torch.randn(2, 6, 5, generator=NUMBERS).transpose(1, 2)
    torch.testing.assert_close(onednn.linear(x, weight, None), functional.linear(x, weight))


@pytest.mark.usefixtures("fresh_probe")
@pytest.mark.parametrize("name", ["linear", "linear_add", "lay_out"])
def test_wrong_numbers_are_found_and_said_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(onednn, name)
    monkeypatch.setattr(onednn, name, lambda *given: real(*given) * 1.01)
    with pytest.warns(UserWarning, match=r"torch\.float32 runs without oneDNN's products, slower"):
        assert not onednn.works(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not onednn.works(torch.float32)


@pytest.mark.usefixtures("fresh_probe")
def test_a_type_without_products_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx512bw, avx512vl")

    monkeypatch.setattr(onednn, "lay_out", refuse)
    assert not onednn.works(torch.bfloat16)
