"""Log-probabilities of candidates under the reference: computed once, kept by what they depend on, shared by all runs.

The reference is the model that is given to `fit`. The tuned one stands on its very tensors, so that no second network
is loaded; and because the reference never changes, one pass before the training is all that is ever needed. What it
gives is kept in `$CONDITION_CACHE/references`, under a hash of the weights, their precision and the tokens of the rows:
another run over the same rows finds it again, whatever its other settings are. All that a log-probability depends on
is part of the hash, so that nobody is given what another model said, and a file whose numbers are not those that were
written is read anew; where a hook or code of somebody's own takes part,
which can't be seen, nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from condition.adapters.fused import fused
from condition.adapters.quantized import parts
from condition.adapters.registry import adapter_of, switches
from condition.errors import ContractError, ModelError
from condition.models.contract import architecture_of, tokenizer_fingerprint, versions
from condition.models.embedded import cache_folder
from condition.models.foreign import is_foreign
from condition.models.local import LocalModel
from condition.prefix_sharing.logprobs import logprobs
from condition.prefix_sharing.probe import shareable
from condition.training.candidates import Candidates

log = logging.getLogger("condition")
PACK_TOKENS = 2048
"""Tokens that go through the reference at once."""
ROUNDING = 1e-3
"""By how much a log-probability may lie above 0, in nats."""


def with_references(rows: Sequence[Candidates], reference: LocalModel, dtype: torch.dtype) -> list[Candidates]:
    """The rows with the log-probability of each token of each completion. Products are computed in `dtype`."""
    file = None
    if not is_foreign(reference.network):
        file = cache_folder() / "references" / f"{_key(rows, reference, dtype)}.safetensors"
    sizes = [len(completion) for row in rows for completion in row.completions]
    values = None if file is None else _kept(file, sum(sizes))
    if values is None:
        values = torch.cat(_measured(rows, reference.network, dtype))
        _check_numbers(values)
        if file is not None:
            _keep(file, values)
    told = iter([tuple(part.tolist()) for part in values.split(sizes)])
    return [replace(row, reference=tuple(next(told) for _ in row.completions)) for row in rows]


def check_reference(model: LocalModel, reference: LocalModel) -> None:
    """Raises ContractError where a reference stands on another base or reads other tokens."""
    ours, theirs = model.source.fingerprint, reference.source.fingerprint
    if (ours and theirs and ours != theirs) or model.network.config.vocab_size != reference.network.config.vocab_size:
        raise ContractError(
            f"the reference stands on another base ({reference.source.name!r}) than the model ({model.source.name!r}): "
            f"give a model tuned from the same base, or leave `reference` out: the model itself is the reference then"
        )
    if tokenizer_fingerprint(model.tokenizer) != tokenizer_fingerprint(reference.tokenizer):
        raise ContractError("the reference has another tokenizer than the model: give one tuned from the same base")


def reference_hash(model: LocalModel) -> str:
    """Hash of what the log-probabilities of given tokens depend on: every weight, the adapter's settings and whether it
    is on, how it computes. `evaluation.fingerprint` is that of what a model answers, with its tokenizer and chat
    template.

    To read the weights costs about a second a gigabyte. A few of each would not do: who edits one row of a matrix has
    another model.
    """
    adapter = adapter_of(model.network)
    told = {
        "architecture": architecture_of(model.network.config),
        "weights": _weights(model.network),
        "adapter": None if adapter is None else adapter.model_dump(mode="json"),
        "switches": switches(model.network),
        "quantization": model.quantization.model_dump(mode="json") if model.quantization else None,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _weights(network: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        for part in parts(tensor):
            digest.update(f"{name}{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _key(rows: Sequence[Candidates], reference: LocalModel, dtype: torch.dtype) -> str:
    """Tokens say all of tokenizer, template and prompt that a log-probability depends on."""
    told = {
        "reference": reference_hash(reference),
        "products": [reference.device.type, str(dtype), versions()],
        "rows": [[row.prompt, row.completions] for row in rows],
    }
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@torch.no_grad()
def _measured(rows: Sequence[Candidates], network: PreTrainedModel, dtype: torch.dtype) -> list[Tensor]:
    """A tensor `[tokens]` for each completion, in the order of the rows."""
    shared, device = shareable(network), network.device
    mixed = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()
    was_training = network.training
    found: list[Tensor] = []
    try:
        network.eval()
        # The very products of the training: before the first step the policy differs from its reference by nothing.
        with (
            mixed,
            fused(network, dtype),
            tqdm(total=len(rows), desc="reference", unit="row", delay=3, leave=False) as progress,
        ):
            for some in _packs(rows):
                sequences = [sequence for row in some for sequence in row.sequences]
                starts = [row.start for row in some for _ in row.completions]
                found += [value.cpu() for value in logprobs(network, sequences, starts, shared=shared)]
                progress.update(len(some))
    finally:
        network.train(was_training)
    return found


def _packs(rows: Sequence[Candidates]) -> Iterator[list[Candidates]]:
    pack: list[Candidates] = []
    size = 0
    for row in rows:
        own = row.start + sum(map(len, row.completions))
        if pack and size + own > PACK_TOKENS:
            yield pack
            pack, size = [], 0
        pack.append(row)
        size += own
    if pack:
        yield pack


def _kept(file: Path, count: int) -> Tensor | None:
    """What an earlier run left; none where there is nothing, half of it or something else."""
    if not file.is_file():
        return None
    with suppress(OSError, SafetensorError), safe_open(file, "pt") as kept:
        told = kept.metadata() or {}
        values: Tensor = kept.get_tensor("logprobs")
        right = bool((values.isfinite() & (values <= ROUNDING)).all())
        if right and values.shape == (count,) and told.get("digest") == _digest(file, values):
            return values
    log.warning("%s is not what was written there, or only half of it: the reference is read again", file)
    return None


def _digest(file: Path, values: Tensor) -> str:
    """Of the numbers and of what they are kept by."""
    return hashlib.sha256(file.stem.encode() + values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _check_numbers(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ModelError("the reference gives log-probabilities that are no numbers: its weights are broken")


def _keep(file: Path, values: Tensor) -> None:
    """All or nothing; where it can't be written the next run computes it again."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(dir=file.parent, prefix=".half-")
        os.close(handle)
        try:
            with suppress(SafetensorError):
                save_file({"logprobs": values.contiguous()}, half, {"digest": _digest(file, values)})
                Path(half).replace(file)
        finally:
            Path(half).unlink(missing_ok=True)
