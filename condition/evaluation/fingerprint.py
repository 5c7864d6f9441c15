"""What answers depend on, as a hash: two models with one fingerprint say the same to the same messages.

Every byte of every weight counts, so that no edit goes unseen; so do scales of adapters, the tokenizer, the chat
template, the precision, the kind of device and the versions of the libraries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from inspect import isroutine
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from condition.adapters.quantized import is_state, named_parts, named_scales
from condition.errors import SettingsError
from condition.models.contract import architecture_of, template_fingerprint, tokenizer_fingerprint, versions
from condition.models.foreign import LIBRARIES, home_of, hooks_of, is_foreign
from condition.models.local import LocalModel
from condition.types import Sampling

_PLAIN = (bool, int, float, str, type(None))


def fingerprint(model: object) -> str | None:
    """Of a local model, without its prompt; None where what answers depend on can't be seen: a hook, a function in the
    place of another, or another kind of model.

    Half a second a gigabyte.
    """
    if not isinstance(model, LocalModel) or is_foreign(model.network):
        return None
    if any(isroutine(one) and home_of(one) not in LIBRARIES for part in (model, model.tokenizer) for one in _own(part)):
        return None
    content = hashlib.sha256()
    generation = getattr(model.network, "generation_config", None)
    told = {
        "architecture": architecture_of(model.network.config),
        "generation": generation.to_dict() if generation is not None else None,
        "tokenizer": tokenizer_fingerprint(model.tokenizer),
        "template": template_fingerprint(str(model.tokenizer.chat_template or "")),
        "device": model.device.type,
        "versions": versions(),
    }
    content.update(json.dumps(told, sort_keys=True, default=str).encode())
    for name, value in _parts(model.network):
        content.update(f"\0{name}\0".encode())
        content.update(_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
    return content.hexdigest()


def subject_hash(model: object, sampling: Sampling, key: str | None, *, scored: bool = False) -> str | None:
    """Of what a model's answers depend on beside what it is asked; None where that is not known, so that nothing may be
    kept. Raises SettingsError for a key that is no text."""
    if key is not None and (not isinstance(key, str) or not key):
        raise SettingsError(f"key={key!r:.60}: name the subject with a text, such as 'votes of 16, second version'")
    own = fingerprint(model) if key is None else None
    if key is None and own is None:
        return None
    told = {
        "key": key,
        "model": own,
        "sampling": sampling.model_dump(mode="json"),
        "set": sorted(sampling.model_fields_set),  # a model elsewhere is sent that only
        "scored": scored,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _parts(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Kinds of modules, their tensors and their plain settings, such as the scale of an adapter."""
    yield from network.named_parameters()
    yield from network.named_buffers()
    for name, module in network.named_modules():
        hooks = [getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks_of(module)]
        yield name, f"{type(module).__qualname__} {hooks}"
        for own, value in sorted(vars(module).items()):
            if own in ("training", "_parameters", "_buffers", "_modules") or "_hooks" in own:  # numbered as they came
                continue
            if isinstance(value, BaseModel):  # the adapter's settings
                yield f"{name}.{own}", repr(value)
            elif isinstance(value, Tensor):
                yield f"{name}.{own}", value
            elif is_state(value):
                yield from ((f"{name}.{own}{part}", inner) for part, inner in named_parts(value))
            elif _plain(value):
                yield f"{name}.{own}", value
        for own, parameter in module.named_parameters(recurse=False):
            yield from ((f"{name}.{own}{part}", scales) for part, scales in named_scales(parameter, module))


def _plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_plain(k) and _plain(v) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value)) and not isinstance(value, set | frozenset)  # sets have no order to rely on
    return isinstance(value, _PLAIN)


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    header = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return header + flat.view(torch.uint8).numpy().tobytes() if flat.numel() else header


def _own(part: object) -> list[Any]:
    return list(vars(part).values()) if hasattr(part, "__dict__") else []
