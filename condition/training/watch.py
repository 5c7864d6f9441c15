"""A measure of one's own that is asked of a model while it is trained, as it will be served.

    ask = asking(watch, model, prompt, network)      # network: the one in training, over the model's tensors
    ask()                                            # the measure now, higher for better

Training lays weights out for its own speed; what the measure reads is what serving will compute.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from condition.adapters.fused import unfused
from condition.models.local import LocalModel
from condition.prefix_sharing.head import uncast
from condition.prefix_sharing.logprobs import output_head
from condition.protocols import Prompt

Watch = Callable[[LocalModel], float]
"""A measure of a model, higher for better, such as `condition.evaluation.watch.watcher` gives."""


def asking(
    watch: Watch | None, model: LocalModel, prompt: Prompt, network: PreTrainedModel
) -> Callable[[], float] | None:
    """What asks `watch` of a network in training, behind the prompt that it will be served with; none without one."""
    if watch is None:
        return None
    asked = LocalModel(
        network,
        model.tokenizer,
        source=model.source,
        quantization=model.quantization,
        prompt=prompt,
        memory_bytes=model.memory_bytes,
    )

    def ask() -> float:
        with unfused(network), uncast(output_head(network)):
            return watch(asked)

    return ask
