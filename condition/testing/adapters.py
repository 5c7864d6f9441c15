"""Numbers added to a frozen network: the base keeps every bit, and what is added learns."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.attach import trainable
from condition.adapters.full import WHOLE
from condition.adapters.registry import KeptAdapter, attached
from condition.protocols import Adapter
from condition.testing.networks import tiny_llama
from condition.testing.promises import Promises

TOLERANCE = 1e-4
"""Between logits of the same network, computed in another way."""
_STEPS = 2
_RATE = 0.01


def check_adapter(
    adapter: Any,
    network: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    begins_as_base: bool | None = None,
) -> None:
    """The promises of an Adapter: a network beside the base, which keeps every bit, whose own numbers alone learn.

    `network` is by default a tiny random Llama; it is not changed. `tokenizer` is for adapters that begin with a text.
    `begins_as_base` says how the adapted network has to begin: with the base's logits (True), with others (False), or
    as it likes (None). One that can be saved has to come back from its folder as it was.
    """
    own = Promises(Adapter, adapter)
    base = tiny_llama() if network is None else network
    before = _Bits(own, base)
    made = own.call("attach takes a network", lambda: attached(adapter, base, tokenizer))
    own.keeps(isinstance(made, PreTrainedModel), "attach gives a network", type(made).__name__)
    own.keeps(made is not base, "attach gives a network of its own, over the base's tensors", "the network given")
    before.stay("attaching")
    learning = trainable(made)
    own.keeps(bool(learning), "something in it can be trained", "no parameter that asks for a gradient")
    bases = {p.untyped_storage().data_ptr() for p in base.parameters()}
    common = [name for name, p in learning.items() if p.untyped_storage().data_ptr() in bases]
    own.keeps(not common, "what is trained is its own", f"the base's {', '.join(common)}")
    began = _logits(own, made)
    own.keeps(began.shape == before.logits.shape, "logits keep their shape", f"{began.shape}, {before.logits.shape}")
    own.keeps(bool(began.isfinite().all()), "logits are finite", "NaN or infinity")
    if begins_as_base is not None:
        far = float((began - before.logits).abs().max())
        promise = f"it begins {'as the base' if begins_as_base else 'with words of its own'}"
        own.keeps((far <= TOLERANCE) == begins_as_base, promise, f"logits that differ by {far:.1e} from the base's")
    _learn(own, made)
    before.stay("training")
    learnt = _logits(own, made)
    own.keeps(not torch.equal(learnt, began), "training changes what it says", "the logits of the beginning")
    second = own.call("attach takes the same base again", lambda: attached(adapter, base, tokenizer))
    names = trainable(second).keys()
    own.keeps(names == learning.keys(), "attached again it has the same parameters", set(names) ^ set(learning))
    own.keeps(torch.equal(_logits(own, made), learnt), "two stand side by side", "another attachment changed the first")
    if isinstance(adapter, KeptAdapter):
        _comes_back(own, adapter, base, made, learnt)
    before.stay("attaching again, saving and loading")


class _Bits:
    """Every tensor of a base, and what it says."""

    def __init__(self, own: Promises, base: PreTrainedModel) -> None:
        self.own, self.base = own, base
        self.tensors = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        self.logits = _logits(own, base)

    def stay(self, what: str) -> None:
        """Raises AssertionError where one of them is another."""
        promise = f"{what} leaves the base bit-equal"
        now = self.base.state_dict()
        names = sorted(now.keys() ^ self.tensors.keys())
        self.own.keeps(not names, promise, f"tensors that came or went: {', '.join(names)}")
        moved = [name for name, tensor in self.tensors.items() if not torch.equal(tensor, now[name])]
        self.own.keeps(not moved, promise, f"other numbers in {', '.join(moved)}")
        self.own.keeps(torch.equal(_logits(self.own, self.base), self.logits), promise, "other logits of the base")


@torch.no_grad()
def _logits(own: Promises, network: PreTrainedModel) -> Tensor:
    """`[1, length, vocabulary]`."""
    network.eval()
    found = own.call("the network reads token ids", lambda: network(input_ids=_ids(network)).logits)
    logits: Tensor = found.float().clone()
    return logits


def _ids(network: PreTrainedModel) -> Tensor:
    embedding: Any = network.get_input_embeddings()
    return (torch.arange(3, 40)[None] % len(embedding.weight)).to(network.device)


def _learn(own: Promises, network: PreTrainedModel) -> None:
    """A few steps down the gradient."""
    learning = list(trainable(network).values())
    optimizer = torch.optim.AdamW(learning, lr=_RATE, weight_decay=0.0)
    network.train()
    ids = _ids(network)
    for _ in range(_STEPS):
        loss = own.call("it gives a loss", lambda: network(input_ids=ids, labels=ids, use_cache=False).loss)
        promise = "a gradient reaches its parameters"
        own.call(promise, loss.backward)
        own.keeps(any(p.grad is not None and bool(p.grad.any()) for p in learning), promise, "none, or zeros only")
        optimizer.step()
        optimizer.zero_grad()
    network.eval()


def _comes_back(
    own: Promises, adapter: KeptAdapter, base: PreTrainedModel, made: PreTrainedModel, learnt: Tensor
) -> None:
    """Settings that JSON can hold, and a folder from which it is loaded onto the base again."""
    told = own.call("model_dump tells its settings", lambda: adapter.model_dump(mode="json"))
    own.call("its settings are JSON", lambda: json.dumps(told))
    if adapter.kind == WHOLE:  # a model by itself, which needs no base
        return
    with tempfile.TemporaryDirectory() as folder:
        own.call("save writes a folder", lambda: adapter.save(made, Path(folder), "base"))
        again = own.call("load reads the folder", lambda: adapter.load(base, Path(folder)))
        far = float((_logits(own, again) - learnt).abs().max())
        own.keeps(far <= TOLERANCE, "what is loaded says what was saved", f"logits that differ by {far:.1e}")
        names = trainable(again).keys()
        own.keeps(names == trainable(made).keys(), "what is loaded can be trained on", f"parameters {set(names)}")
