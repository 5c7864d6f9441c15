"""Whether a network may share prefixes: asked once a network, answered by comparing with the plain path."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from condition.errors import SharingWarning
from condition.prefix_sharing.attention import NAME
from condition.prefix_sharing.decode import Decoder
from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.logprobs import packed_logprobs, plain_logprobs
from condition.prefix_sharing.memory import store
from condition.prefix_sharing.past import remember
from condition.types import Sampling

_VERDICTS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.75, torch.float16: 0.2}
"""Largest difference of one token's log-probability that is still rounding; in 16 bits, on average a fifth of it.

In bf16 a logit is rounded to an eighth. The embedded model differs by up to 0.21 on a processor and 0.25 on a GPU, by
0.07 on average; a row that misses one token of its prompt by 1.1 to 3.4 and, on average, by 0.4 to 0.7.
"""


def shareable(network: PreTrainedModel) -> bool:
    """True where packed trees give this network's own numbers. Warns once, with the reason, where they do not."""
    # Somebody may have changed the attention since: the packed row would mean something else to it.
    if network not in _VERDICTS or (_VERDICTS[network] and network.config._attn_implementation != NAME):
        reason = _reason_against(network)
        _VERDICTS[network] = reason is None
        if reason:
            warnings.warn(
                f"prefix sharing is off for {type(network).__name__}: {reason}. Results are the same, slower.",
                SharingWarning,
                stacklevel=2,
            )
    return _VERDICTS[network]


def trust(network: PreTrainedModel, like: PreTrainedModel) -> None:
    """Take over the verdict on a network that has the same layers."""
    if like in _VERDICTS and network.config._attn_implementation == like.config._attn_implementation:
        _VERDICTS[network] = _VERDICTS[like]


def _reason_against(network: PreTrainedModel) -> str | None:
    if reason := _stated(network.config.get_text_config()):
        return reason
    before = network.config._attn_implementation
    if before not in ("sdpa", NAME):
        return f"its attention is {before!r}, not 'sdpa'"
    network.set_attn_implementation(NAME)
    if network.config._attn_implementation != NAME:
        return "its attention can't be exchanged"
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        reason = _compare(network)
    except (NotImplementedError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        reason = f"it does not run on a packed row ({type(error).__name__}: {error})"
    finally:
        for module in training:
            module.training = True
    if reason:
        network.set_attn_implementation(before)
    return reason


def _stated(config: PreTrainedConfig) -> str | None:
    """What the configuration itself says against sharing; a short probe may not meet it."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention"}:
        return f"it has {', '.join(sorted(kinds - {'full_attention'}))} layers"
    if not kinds and (window := getattr(config, "sliding_window", None)):
        return f"it has a sliding_window of {window} tokens"
    if getattr(config, "alibi", False):
        return "it has ALiBi positions"
    if getattr(config, "attn_logit_softcapping", None) or getattr(config, "final_logit_softcapping", None):
        return "it has soft caps on its logits"
    return None


@torch.no_grad()
def _compare(network: PreTrainedModel) -> str | None:
    """Three sequences with a common start, two of them with a longer one, and two answers, against the plain path."""
    size = network.config.get_text_config().vocab_size
    numbers = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, size, (54,), generator=numbers).tolist()
    header, question, ends = drawn[:24], drawn[24:36], (drawn[36:39], drawn[39:45], drawn[45:])
    sequences = [header + question + ends[0], header + question + ends[1], header + ends[2]]
    starts = [36, 36, 24]
    written, logprobs = _written(network, [header + question, header])
    shared = torch.cat([packed_logprobs(network, pack(sequences, starts, minimum_saving=1)), logprobs])
    starts = [*starts, 36, 24]
    plain = torch.cat(plain_logprobs(network, sequences + written, starts))
    apart = (shared - plain).abs()
    worst, mean = float(apart.max()), float(apart.mean())
    dtype = next(network.parameters()).dtype
    allowed = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    usual = allowed if dtype in (torch.float32, torch.float64) else allowed / 5
    if not (worst <= allowed and mean <= usual):
        return (
            f"its numbers differ from the plain path by up to {worst:.1e} and by {mean:.1e} on average, more than "
            f"{allowed:.0e} and {usual:.0e}"
        )
    return None


def _written(network: PreTrainedModel, prompts: list[list[int]]) -> tuple[list[list[int]], Tensor]:
    """Prompts with three tokens that the decoder wrote behind each, and the log-probabilities of these `[6]`."""
    stored = store(network, prompts, remember(network, prompts[0][:20]))
    decoder = Decoder(network, stored, prompts, Sampling(max_tokens=3), [()] * len(prompts))
    drawn = decoder.step()
    while not decoder.done:
        decoder.read()
        drawn += decoder.step()
    tokens = [[d.token for d in drawn if d.sample == i] for i in range(len(prompts))]
    values = [d.logprob for i in range(len(prompts)) for d in drawn if d.sample == i]
    return [prompt + own for prompt, own in zip(prompts, tokens, strict=True)], torch.tensor(
        values, device=network.device
    )
