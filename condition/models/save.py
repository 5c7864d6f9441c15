"""Saving a model with its contract: written beside the target and moved into place, so that nothing is half-written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi

from condition.adapters.lora import lora_of, save_lora
from condition.adapters.quiet import no_weight_bars
from condition.errors import ModelError
from condition.models.canary import sing
from condition.models.completion import stop_tokens
from condition.models.contract import (
    FILE,
    Contract,
    template_fingerprint,
    tokenizer_fingerprint,
    versions,
    write_contract,
)
from condition.models.hub import uploading
from condition.prompts.saved import prompt_to_json
from condition.types import Message

if TYPE_CHECKING:
    from condition.models.local import LocalModel


def save(model: LocalModel, folder: Path) -> None:
    """Write a model to a folder, all or nothing.

    Raises ModelError where it can't be written or holds something else.
    """
    with replaced(folder) as half, no_weight_bars():
        if lora_of(model.network) is not None:
            save_lora(model.network, half, model.source.name)
        else:
            model.network.save_pretrained(half)
        model.tokenizer.save_pretrained(half)
        write_contract(contract_of(model), half)


def push(model: LocalModel, repo: str, private: bool) -> str:
    """Upload a saved model to the hub; gives its address. Raises ModelError where that fails."""
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        with uploading(repo):
            api.create_repo(repo, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo, folder_path=Path(folder) / "model"))


def contract_of(model: LocalModel, **trained: Any) -> Contract:
    """The contract of a model as it is now; `trained` is what a trainer knows of it beside that."""
    known = model.contract.model_dump() if model.contract else {}
    adapter = lora_of(model.network)
    if adapter is not None:  # also where it came from a plain PEFT folder
        known.setdefault("adapter", adapter.model_dump(mode="json"))
    return Contract(
        **{
            **known,
            **trained,
            "base": model.source,
            "tokenizer": tokenizer_fingerprint(model.tokenizer),
            "chat_template": template_fingerprint(model.renderer.chat_template),
            "stop_tokens": stop_tokens(model.renderer, (Message("user", "x"),)),
            "prompt": None if model.prompt is None else prompt_to_json(model.prompt),
            "quantization": model.quantization.model_dump() if model.quantization else None,
            "dtype": precision(model),
            "history": tuple(model.history),
            "canary": sing(model.network, model.renderer, precision(model)),
            "versions": versions(),
        }
    )


def precision(model: LocalModel) -> str:
    """What the weights are stored in: float32, bfloat16, float16, int8, nf4 or fp4."""
    if model.quantization is not None:
        return str(model.quantization.kind)
    return str(model.network.dtype).removeprefix("torch.")


def check_writable(folder: Path) -> None:
    """Raises ModelError where a folder can't be made or written, before any work is done."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ModelError(f"can't write to {folder}: {error}. Choose another folder") from error


def check_free(folder: Path) -> None:
    """Raises ModelError where a model could not be saved to a folder."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file()):
        raise ModelError(f"{folder} holds something that is not a saved model; choose another folder")
    check_writable(folder)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes the target's place when all is well, and vanishes when not.

    What others have put beside a saved model stays there.
    """
    folder = folder.resolve()
    check_free(folder)
    half = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        yield half
        for path in (half, *half.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # some writers leave files that only their owner may read
        if folder.exists():
            _exchange(folder, half)
        else:
            half.rename(folder)
    except Exception as error:
        # A full disk comes as an error of whichever library was writing, safetensors' and tokenizers' among them.
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        free = shutil.disk_usage(folder.parent).free // 1_000_000 if folder.parent.is_dir() else 0
        raise ModelError(f"can't save to {folder}: {error} ({free:,} MB are free there)") from error
    finally:
        if half is not None:
            shutil.rmtree(half, ignore_errors=True)


def _exchange(folder: Path, new: Path) -> None:
    """Put a new folder in the place of a saved one."""
    kept: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        ours = {FILE, *json.loads((folder / FILE).read_text(encoding="utf-8"))["files"]}
        kept = [path.name for path in folder.iterdir() if path.name not in {name.partition("/")[0] for name in ours}]
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-")) / "was"
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    for name in kept:
        if not (folder / name).exists():
            (old / name).rename(folder / name)
    shutil.rmtree(old.parent)
