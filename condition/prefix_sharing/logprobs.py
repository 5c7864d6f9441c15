"""Log-probabilities of continuations: shared where the network can, plain where it can't.

`logprobs` is what scoring and every training loss call; `plain_logprobs` is the path that it has to equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.prefix_sharing.attention import check_exchanged, plan
from condition.prefix_sharing.head import gather_logprobs, head_logprobs
from condition.prefix_sharing.layout import Packed, common_prefix, pack
from condition.prefix_sharing.learned import before_row
from condition.prefix_sharing.past import Past


def logprobs(
    network: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    *,
    shared: bool = True,
    kept: Past | None = None,
) -> list[Tensor]:
    """Log-probability of each token from `starts[i]` on, natural log: one fp32 tensor `[scored]` a sequence.

    `shared=False` takes the plain path. Ask `probe.shareable(network)` first; gradients flow on both paths, but not
    behind a beginning that is `kept`.
    """
    if not shared:
        return plain_logprobs(network, sequences, starts)
    known = min(min(starts) - 1, *(common_prefix(kept.ids, s) for s in sequences)) if kept else 0
    packed = pack([s[known:] for s in sequences], [start - known for start in starts])
    values = packed_logprobs(network, packed, kept.first(known) if kept and known else None)
    return list(values.split([len(s) - start for s, start in zip(sequences, starts, strict=True)]))


def packed_logprobs(network: PreTrainedModel, packed: Packed, past: Past | None = None) -> Tensor:
    """Log-probabilities `[scored]` of a packed batch, fp32, behind what is `past`."""
    device = network.device
    hidden = packed_hidden(network, packed, past)[packed.predictors.to(device)]
    return head_logprobs(output_head(network), hidden, packed.targets.to(device))


def packed_hidden(network: PreTrainedModel, packed: Packed, past: Past | None = None) -> Tensor:
    """Last hidden states `[tokens, width]` of a packed batch.

    Raises RuntimeError for a network whose attention was never exchanged: it would read the tree as one plain row.
    """
    check_exchanged(network)
    device, before = network.device, len(past.ids) if past else 0
    # A 4-D mask goes through transformers untouched, so that no dense mask is built for the whole row.
    untouched = torch.zeros(1, 1, 1, 1, device=device)
    output = network.base_model(
        input_ids=packed.ids.to(device),
        position_ids=packed.positions.to(device) + before,
        attention_mask=untouched,
        use_cache=False,
        shared=plan(packed.blocks, packed.ids.shape[1], before_row(network, past), packed.ends).to(device),
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def output_head(network: PreTrainedModel) -> nn.Module:
    """The projection to the vocabulary."""
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise NotImplementedError(f"{type(network).__name__} has no output head")
    return head


def plain_logprobs(network: PreTrainedModel, sequences: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Tensor]:
    """The same by the network's own forward pass on right-padded rows, nothing shared."""
    device = network.device
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
    logits = network(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    return [
        gather_logprobs(logits[i, start - 1 : len(sequence) - 1], ids[i, start : len(sequence)].to(device))
        for i, (sequence, start) in enumerate(zip(sequences, starts, strict=True))
    ]
