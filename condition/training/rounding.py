"""Quantization-aware training: the network computes with rounded weights while it learns, and keeps them whole.

Jacob et al. 2018, arXiv 1712.05877, by torchao: weights are rounded on the way forward, gradients pass as they are.
What is trained loses less when it is loaded with `load(folder, quantization=Quantization(bits, kind="intx"))`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from condition.adapters.attach import is_learned
from condition.models.quantize import Quantization, group_of


@contextmanager
def rounded(network: PreTrainedModel, bits: Literal[8, 4, 3, 2] | None) -> Iterator[None]:
    """Linear layers but the output head and an adapter's own compute with weights of so many bits, and keep theirs.

    Raises SettingsError where torchao is not installed.
    """
    if bits is None:
        yield
        return
    Quantization(bits=bits, kind="intx").config(torch.device("cpu"))  # torchao is there
    from torchao.quantization import quantize_  # noqa: PLC0415 - an extra
    from torchao.quantization.granularity import PerAxis, PerGroup  # noqa: PLC0415
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig  # noqa: PLC0415

    head = network.get_output_embeddings()
    layers = {name: module for name, module in network.named_modules() if type(module) is nn.Linear}
    members = {id(m): group_of(m) for name, m in layers.items() if m is not head and not _is_of_adapter(name)}
    weights = getattr(torch, f"int{bits}")
    for group in {*members.values()}:
        own = {key for key, of in members.items() if of == group}
        granularity = PerGroup(group) if group else PerAxis(0)
        config = IntxFakeQuantizeConfig(weights, granularity=granularity, is_symmetric=True)
        quantize_(
            network,
            QATConfig(weight_config=config, step="prepare"),
            filter_fn=lambda m, _, own=own: id(m) in own,
        )
    try:
        yield
    finally:
        quantize_(network, QATConfig(step="convert"))


def _is_of_adapter(name: str) -> bool:
    """Whether a layer is part of an adapter: those are saved whole and stay so."""
    return is_learned(name) or any(part.startswith("lora_") for part in name.split("."))
