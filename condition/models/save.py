"""Saving a model with its contract, all or nothing, to a folder or to the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi

from condition.adapters.attach import trainable
from condition.adapters.full import WHOLE
from condition.adapters.quiet import no_weight_bars
from condition.adapters.registry import adapter_of, save_adapter, told_of
from condition.adapters.reward_head import save_head, without_head
from condition.errors import ModelError
from condition.models.canary import sing
from condition.models.card import write_card
from condition.models.completion import stop_tokens
from condition.models.contract import (
    Contract,
    architecture_of,
    template_fingerprint,
    tokenizer_fingerprint,
    versions,
    write_contract,
)
from condition.models.hub import check_name, uploading
from condition.models.place import is_same, replaced
from condition.prompts.saved import prompt_to_json
from condition.types import Message

if TYPE_CHECKING:
    from condition.models.local import LocalModel


def save(model: LocalModel, folder: Path, name: str | None = None) -> None:
    """Write a model to a folder, all or nothing, with a card under a name, that of the folder if not given.

    Raises ModelError where it can't be written, holds something else, or is the base that the model needs.
    """
    _check_base_stays(model, folder)
    if model.quantization is not None and not model.quantization.saves and adapter_of(model.network) is None:
        raise ModelError(
            f"a base in {model.quantization.name} is not saved: keep the base, and load it with the same quantization"
        )
    with replaced(folder, _size(model)) as half, no_weight_bars():
        with without_head(model.network):
            if adapter_of(model.network) is not None:
                save_adapter(model.network, half, model.source.name)
            else:
                model.network.save_pretrained(half)
        save_head(model.network, half)
        model.tokenizer.save_pretrained(half)
        contract = contract_of(model)
        write_contract(contract, half)
        write_card(contract, half, folder, name or folder.name)  # behind the hashes: people may edit it


def _size(model: LocalModel) -> int | None:
    """Bytes of the weights that are written; None where they are packed, so that nobody knows ahead."""
    if adapter_of(model.network) is not None:
        return sum(p.nbytes for p in trainable(model.network).values())
    return None if model.quantization is not None else sum(p.nbytes for p in model.network.parameters())


def _check_base_stays(model: LocalModel, folder: Path) -> None:
    """Raises ModelError where an adapter would take the place of its own base."""
    adapter = adapter_of(model.network)
    if adapter is None or adapter.kind == WHOLE or model.source.kind != "folder":
        return
    if is_same(model.source.name, folder):
        raise ModelError(
            f"{folder} holds the base that this adapter needs, and saving there would lose it: choose another folder, "
            "or save a model that needs no base, model.merge().save_pretrained(...)"
        )


def push(model: LocalModel, repo: str, private: bool) -> str:
    """Upload a saved model to the hub; gives its address. Raises ModelError where that fails."""
    check_name(repo)
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model", repo)
        with uploading(repo):
            api.create_repo(repo, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo, folder_path=Path(folder) / "model"))


def contract_of(model: LocalModel, **trained: Any) -> Contract:
    """The contract of a model as it is now; `trained` is what a trainer knows of it beside that."""
    known = model.contract.model_dump() if model.contract else {}
    adapter = adapter_of(model.network)
    if adapter is not None:  # also where it came from a plain PEFT folder
        known.setdefault("adapter", told_of(adapter))
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
            "architecture": architecture_of(model.network.config),
            "history": tuple(model.history),
            "canary": sing(model.network, model.renderer, precision(model)),
            "versions": versions(),
        }
    )


def precision(model: LocalModel) -> str:
    """What the weights are stored in: float32, bfloat16, float16, int8, nf4, intx3 …"""
    if model.quantization is not None:
        return model.quantization.name
    return str(model.network.dtype).removeprefix("torch.")
