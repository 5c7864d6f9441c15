from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from condition.errors import SharingWarning
from condition.prefix_sharing import probe
from condition.prefix_sharing.logprobs import logprobs, packed_logprobs, plain_logprobs
from condition.prefix_sharing.probe import shareable, trust

TOKENS: dict[str, Any] = {"vocab_size": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPE: dict[str, Any] = {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE: dict[str, Any] = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 1}
BATCH = ([[*range(3, 43), 50, 51], [*range(3, 43), 60], [7, 8, 9]], [40, 40, 1])

# A network that can't share, and what the warning says of it.
REFUSED: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "a window smaller than the probe": (
        lambda: MistralForCausalLM(MistralConfig(**WIDE, sliding_window=8)),
        "sliding_window",
    ),
    "a window larger than the probe": (
        lambda: MistralForCausalLM(MistralConfig(**WIDE, sliding_window=4096)),
        "sliding_window",
    ),
    "windows in some layers": (
        lambda: Qwen2ForCausalLM(Qwen2Config(**WIDE, use_sliding_window=True, sliding_window=8, max_window_layers=1)),
        "sliding_attention",
    ),
    "ALiBi": (
        lambda: BloomForCausalLM(BloomConfig(**TOKENS, hidden_size=32, n_layer=2, n_head=2)),
        "attention is 'eager'",
    ),
    "ALiBi behind sdpa": (lambda: FalconForCausalLM(FalconConfig(**SHAPE, alibi=True)), "ALiBi"),
    "an attention of its own": (lambda: FalconForCausalLM(FalconConfig(**SHAPE, alibi=False)), "can't be exchanged"),
    "local attention": (
        lambda: GPTNeoForCausalLM(
            GPTNeoConfig(
                **TOKENS, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
            )
        ),
        "attention is 'eager'",
    ),
    "a state space": (
        lambda: MambaForCausalLM(MambaConfig(**TOKENS, hidden_size=32, num_hidden_layers=2, state_size=4)),
        "linear_attention",
    ),
    "soft caps": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**WIDE, head_dim=16, layer_types=["full_attention"] * 2)),
        "soft cap",
    ),
    "soft caps and windows": (lambda: Gemma2ForCausalLM(Gemma2Config(**WIDE, head_dim=16)), "sliding_attention"),
    "scaled logits": (lambda: CohereForCausalLM(CohereConfig(**WIDE, logit_scale=0.06)), "differ from the plain path"),
}


def verdict(network: PreTrainedModel) -> tuple[bool, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SharingWarning)
        answer = shareable(network)
    return answer, [str(w.message) for w in caught if issubclass(w.category, SharingWarning)]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_share_is_refused_once_with_its_reason(kind: str) -> None:
    make, reason = REFUSED[kind]
    torch.manual_seed(0)
    network = make().eval()
    implementation = network.config._attn_implementation
    with torch.no_grad():
        before = plain_logprobs(network, *BATCH)
    shared, said = verdict(network)
    assert not shared
    assert len(said) == 1
    assert reason in said[0]
    assert type(network).__name__ in said[0]
    assert verdict(network) == (False, [])  # it is not said twice
    assert network.config._attn_implementation == implementation
    with torch.no_grad():
        after = logprobs(network, *BATCH, shared=shareable(network))
        alone = [plain_logprobs(network, [s], [start])[0] for s, start in zip(*BATCH, strict=True)]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    torch.testing.assert_close(after, alone, rtol=0, atol=1e-4)


def test_a_warning_can_be_an_error_and_the_answer_stands() -> None:
    network = MistralForCausalLM(MistralConfig(**WIDE, sliding_window=8))
    with pytest.raises(SharingWarning, match="sliding_window"):
        shareable(network)
    assert shareable(network) is False


def test_plain_networks_share(tiny: Any, family: str) -> None:
    assert verdict(tiny(family)) == (True, [])


def test_a_window_that_is_off_is_none() -> None:
    torch.manual_seed(0)
    assert verdict(MistralForCausalLM(MistralConfig(**WIDE, sliding_window=None)).eval()) == (True, [])


def test_a_network_is_asked_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = tiny("llama"), []
    monkeypatch.setattr(probe, "_compare", lambda n: asked.append(n))
    assert [shareable(network) for _ in range(3)] == [True] * 3
    assert asked == [network]


class Leaning(nn.Module):
    """Adds something that depends on where in the row a token lies, not on its position."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **keywords: Any) -> Any:
        output = self.inner(*args, **keywords)
        return output + torch.linspace(0, 1, output.shape[1])[:, None] * torch.arange(output.shape[2]).sin()


def test_numbers_that_depend_on_the_place_in_the_row_are_refused(tiny: Any, family: str) -> None:
    network = tiny(family)
    network.set_input_embeddings(Leaning(network.get_input_embeddings()))
    shared, said = verdict(network)
    assert not shared
    assert len(said) == 1


def test_a_hook_that_looks_at_neighbours_is_refused(tiny: Any) -> None:
    network = tiny("llama")
    network.model.layers[0].register_forward_hook(lambda m, i, output: output + output.roll(1, 1))
    shared, said = verdict(network)
    assert not shared
    assert "differ from the plain path" in said[0]


def test_numbers_that_are_no_numbers_are_refused(tiny: Any) -> None:
    network = tiny("llama")
    with torch.no_grad():
        network.model.norm.weight.fill_(float("nan"))
    assert not verdict(network)[0]


def test_the_modes_of_all_parts_stay_as_they_were(tiny: Any) -> None:
    network = tiny("llama").train()
    network.model.layers[0].eval()
    modes = {name: module.training for name, module in network.named_modules()}
    assert shareable(network)
    assert {name: module.training for name, module in network.named_modules()} == modes


def test_no_gradients_and_no_randomness_are_left_behind(tiny: Any) -> None:
    network = tiny("llama")
    state = torch.get_rng_state()
    assert shareable(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())


def test_half_precision_is_allowed_its_rounding(tiny: Any, family: str) -> None:
    assert verdict(tiny(family).to(torch.bfloat16)) == (True, [])


def test_half_precision_is_no_excuse(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a nat in each token is no rounding, nor is a whole one in one token."""
    for each, one in ((0.2, 0.0), (0.0, 1.0)):
        network = tiny("llama").to(torch.bfloat16)

        def off(network: Any, packed: Any, each: float = each, one: float = one) -> torch.Tensor:
            values = packed_logprobs(network, packed)
            return values + each + one * (torch.arange(len(values)) == 4)

        monkeypatch.setattr(probe, "packed_logprobs", off)
        answer, [warning] = verdict(network)
        assert not answer
        assert "on average" in warning


def test_a_verdict_does_not_keep_a_network_alive(tiny: Any) -> None:
    network = tiny("llama")
    assert shareable(network)
    reference = weakref.ref(network)
    del network
    gc.collect()
    assert reference() is None


def test_a_copy_takes_over_the_verdict(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, twin, stranger = tiny("llama"), tiny("llama"), tiny("llama")
    assert shareable(network)
    trust(stranger, network)  # its attention is another one: it is asked for itself
    twin.set_attn_implementation(network.config._attn_implementation)
    trust(twin, network)
    asked: list[Any] = []
    monkeypatch.setattr(probe, "_compare", lambda n: asked.append(n))
    assert shareable(twin)
    assert asked == []
    assert shareable(stranger)
    assert asked == [stranger]
