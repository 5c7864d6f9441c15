"""Bases: where one is, by the name that `load` was given, and its network and tokenizer as they are read.

source, folder = find_base("org/model", None)
network, tokenizer = read_base(source, folder, None, "auto", torch.device("cpu"), False)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.quiet import no_weight_bars
from condition.errors import ModelError
from condition.models.contract import FILE, RUN, Source, weights_fingerprint
from condition.models.device import resolve_dtype
from condition.models.embedded import NAME, converted, embedded_file
from condition.models.hub import explained, meant, on_hub
from condition.models.place import here
from condition.models.quantize import Quantization, differentiable, tell_of_widths

VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")


def find_base(name: str | Path | None, revision: str | None) -> tuple[Source, str]:
    """Where a base is, and what transformers is to read. Raises ModelError where there is none."""
    if name is None:
        folder = converted(embedded_file())
        return Source(kind="embedded", name=NAME, fingerprint=files_fingerprint(folder)), str(folder)
    path = here(name)
    if str(name).endswith(".gguf"):
        if path is None or not path.is_file():
            raise ModelError(f"{name}: no such file{meant(str(name))}")
        return Source(kind="gguf", name=str(path.resolve()), fingerprint=weights_fingerprint([path])), str(
            converted(path)
        )
    if path is not None and path.is_dir():
        if not (path / "config.json").is_file():
            if any((folder / RUN).is_file() for folder in (path, path.resolve().parent)):
                raise ModelError(
                    f"{path} is a training folder: call the same fit again, which goes on or gives the finished "
                    f"model, then save_pretrained"
                )
            held = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
            raise ModelError(f"{path} holds no model: no config.json and no {FILE} (it holds {held})")
        return Source(kind="folder", name=str(path.resolve()), fingerprint=files_fingerprint(path)), str(path)
    if str(name) == NAME:
        return find_base(None, None)
    return on_hub(str(name), revision), str(name)


def read_base(
    source: Source,
    folder: str,
    quantization: Quantization | None,
    dtype: str | torch.dtype,
    device: torch.device,
    trust: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network and tokenizer, in the asked precision, on the asked device."""
    options: dict[str, Any] = {"trust_remote_code": trust}
    if source.kind == "hub":
        options["revision"] = source.revision
    weights: dict[str, Any] = {"dtype": resolve_dtype(dtype, device), "use_safetensors": True}
    config = None if quantization is None else quantization.config(device)
    if config is not None:
        weights |= {"quantization_config": config, "device_map": {"": device}}
    with readable(folder), explained(folder, source.revision), no_weight_bars():
        tokenizer = _tokenizer(folder, **options)
        network = AutoModelForCausalLM.from_pretrained(folder, **options, **weights)
    differentiable(network)
    tell_of_widths(network)
    if config is not None:
        return network, tokenizer
    network = cast(Any, network).to(device)
    if quantization is not None:
        quantization.apply(network)
    return network, tokenizer


def _tokenizer(folder: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder. Raises ModelError where its files are missing."""
    missing = f"{folder} holds no tokenizer files (tokenizer.json …): copy them beside the weights"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:
        if Path(folder).is_dir() and not any(any(Path(folder).glob(name)) for name in VOCABULARIES):
            raise ModelError(missing) from error
        raise
    if len(tokenizer.get_vocab()) <= len(tokenizer.added_tokens_decoder):
        raise ModelError(missing)  # for some families transformers makes one that knows no words
    return tokenizer


@contextmanager
def readable(folder: str) -> Iterator[None]:
    """Raises ModelError, which names the folder, for whatever reading it raises."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: can't be loaded as a causal language model: {error}") from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":
            raise ModelError(f"{folder}: a safetensors file is damaged or cut off: {error}") from error
        raise


def files_fingerprint(folder: Path) -> str | None:
    """Of the weights of a folder; none where it has no safetensors."""
    return weights_fingerprint(folder.glob("*.safetensors"))
