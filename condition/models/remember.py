"""Beginnings of prompts that are kept: read once, used by every later call whose prompts begin alike.

    with model.remember([Message("system", rules), *shots]) as kept:     # or until kept.forget()
        model.generate(questions_behind_the_same_shots)
        kept.save("shots.safetensors")                                   # later: model.recall("shots.safetensors")

What is kept are keys and values of tokens, so the answers are those of the whole prompt. A prompt uses as much of it as
it begins with, token by token: one that begins otherwise is simply read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final
from weakref import WeakKeyDictionary, ref

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from condition.errors import ContractError, ModelError
from condition.models.contract import memory_fingerprint
from condition.models.render import TURNS
from condition.prefix_sharing import past
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.past import Past
from condition.prefix_sharing.probe import shareable

WORTH_USING = 16
"""Tokens that a prompt has to begin with alike."""
_FORMAT = "condition-prefix-1"


@final
class Remembered:
    """A beginning that a network keeps in memory until `forget`, or the end of a `with` block."""

    def __init__(self, network: PreTrainedModel, kept: Past, fingerprint: str) -> None:
        self._network = ref(network)  # a network is not kept alive by what it keeps
        self._past, self._fingerprint = kept, fingerprint
        _KEPT.setdefault(network, []).append(self)

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens that are kept."""
        return self._past.ids

    @property
    def bytes(self) -> int:
        """What keys and values take in memory."""
        return sum(x.numel() * x.element_size() for x in (self._past.keys, self._past.values))

    def forget(self) -> None:
        """Free the memory; later calls read the beginning again."""
        network = self._network()
        own = [] if network is None else _KEPT.get(network, [])
        if self in own:
            own.remove(self)

    def save(self, file: str | Path) -> None:
        """Write keys and values as safetensors. Raises ModelError where the file can't be written."""
        tensors = {
            "ids": torch.tensor(self.ids),
            "keys": self._past.keys.contiguous(),
            "values": self._past.values.contiguous(),
        }
        told = {"format": _FORMAT, "network": self._fingerprint, "content": _digest(tensors)}
        try:
            save_file(tensors, file, told)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"can't write {file} ({error}); give a file in a folder that can be written") from error

    def __enter__(self) -> Remembered:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def __repr__(self) -> str:
        return f"Remembered({len(self.ids):,} tokens, {self.bytes / 1e6:.1f} MB)"


def remember(network: PreTrainedModel, ids: Sequence[int], context: int) -> Remembered:
    """Keep a beginning. Raises ModelError where there is nothing to keep, where nothing could follow it in the context,
    and where the network can't share prefixes."""
    if not ids:
        raise ModelError("there is nothing to remember: the beginning has no tokens")
    if len(ids) >= context:
        raise ModelError(f"the beginning has {len(ids):,} tokens and the model's context {context:,}; shorten it")
    _check_shareable(network)
    with TURNS:
        return Remembered(network, past.remember(network, ids), memory_fingerprint(network))


def recall(network: PreTrainedModel, file: str | Path) -> Remembered:
    """Take up what `save` has written.

    Raises ContractError for another network's and for one that was changed, ModelError for no such file.
    """
    _check_shareable(network)
    fingerprint = memory_fingerprint(network)
    try:
        with safe_open(file, framework="pt", device=str(network.device)) as content:
            metadata = content.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ModelError(f"{file} holds no remembered beginning; remember(...).save(file) writes one")
            if metadata.get("network") != fingerprint:
                raise ContractError(
                    f"{file} was kept by another network: its weights, adapter or precision differ. "
                    "Read the beginning again with model.remember(messages)"
                )
            tensors = {name: content.get_tensor(name) for name in ("ids", "keys", "values")}
            if metadata.get("content") != _digest(tensors):
                raise ContractError(
                    f"{file} is not as it was written: its tokens, keys or values differ. "
                    "Read the beginning again with model.remember(messages)"
                )
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {file}") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} can't be read ({error}): it is damaged or no safetensors file") from error
    return Remembered(network, Past(tuple(tensors["ids"].tolist()), tensors["keys"], tensors["values"]), fingerprint)


def kept(network: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Past | None:
    """What is remembered of the common beginning of some prompts, the longest there is.

    Raises ModelError where the network's weights have changed since.
    """
    own: list[Remembered] = [*_KEPT.get(network, ())]  # another thread may forget one meanwhile
    if not own:
        return None
    shared = [min(common_prefix(one.ids, prompt) for prompt in prompts) for one in own]
    best = max(range(len(own)), key=shared.__getitem__)
    if shared[best] < WORTH_USING:
        return None
    if own[best]._fingerprint != memory_fingerprint(network):
        raise ModelError(
            "the network's weights have changed since this beginning was remembered: forget() it and remember it again"
        )
    return own[best]._past.first(shared[best])


def _check_shareable(network: PreTrainedModel) -> None:
    if not shareable(network):
        raise ModelError(
            f"{type(network).__name__} can't share prefixes (see the warning), so it can't keep one: "
            "leave remember() out, the answers are the same"
        )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Tells tokens with their keys and values from others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_KEPT: WeakKeyDictionary[PreTrainedModel, list[Remembered]] = WeakKeyDictionary()
