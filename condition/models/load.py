"""Loading: the embedded model, a hub id, a folder, a .gguf file, or a folder that we saved."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from condition.adapters.full import WHOLE
from condition.adapters.quiet import no_weight_bars
from condition.adapters.registry import adapter_of, load_adapter
from condition.adapters.reward_head import FILE as REWARD_HEAD
from condition.adapters.reward_head import load_head
from condition.errors import ContractError, ModelError, SettingsError
from condition.models.arguments import check_options
from condition.models.bases import files_fingerprint, find_base, read_base, readable
from condition.models.canary import listen
from condition.models.completion import stop_tokens
from condition.models.contract import (
    FILE,
    Contract,
    Source,
    check_architecture,
    check_base,
    read_contract,
    template_fingerprint,
    tokenizer_fingerprint,
)
from condition.models.device import resolve_device
from condition.models.embedded import NAME
from condition.models.history import History
from condition.models.hub import pinned, tuned_on_hub
from condition.models.local import LocalModel
from condition.models.place import check_not_cut_off, here, is_same
from condition.models.quantize import Quantization
from condition.models.render import Renderer
from condition.models.save import precision
from condition.prompts.saved import prompt_of
from condition.types import Message

log = logging.getLogger("condition")


def load(
    name_or_path: str | Path | None = None,
    *,
    quantization: Quantization | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    base: str | Path | LocalModel | None = None,
) -> LocalModel:
    """A model to write, score and tune with.

    Nothing: the embedded SmolLM2-135M-Instruct, offline. A hub id, a folder, a .gguf file. A folder saved by us, here
    or pushed to the hub: its adapter on its base, checked against its contract; `base` names the base anew where it
    has moved.

    Raises ModelError where nothing can be loaded, and says what would work; ContractError where a saved model does
    not match its base, its template or its own numbers.
    """
    _check_name(name_or_path)
    if quantization is not None:
        asked = {"kind": quantization}, {"bits": quantization}, {"bits": 8, "kind": quantization}, {"kind": "nf4"}
        check_options(quantization, Quantization, "quantization", *asked)
    place = resolve_device(device)
    if isinstance(base, LocalModel) and (quantization is not None or dtype != "auto" or device != "auto"):
        raise SettingsError(
            "base is a loaded model: its quantization, dtype and device are as they are; leave them out"
        )
    path = here(name_or_path)
    if path is None and name_or_path is not None:
        check_not_cut_off(name_or_path)
    if path is not None and path.is_file() and path.suffix != ".gguf":
        raise ModelError(f"{path} is a file, not a model: give a folder, a hub id or a .gguf file")
    if path is not None and revision is not None:
        raise SettingsError(f"revision={revision!r} is of a hub model, and {path} is on this machine: leave it out")
    if path is None and name_or_path is not None and str(name_or_path) != NAME and Path(name_or_path).suffix != ".gguf":
        path = tuned_on_hub(str(name_or_path), revision)
    if path is not None and (path / FILE).is_file():
        return _beside(base, _saved(path, quantization, dtype, place, trust_remote_code, base))
    if path is not None and (path / "adapter_config.json").is_file():
        return _beside(base, _plain_adapter(path, quantization, dtype, place, trust_remote_code, base))
    if base is not None:
        raise SettingsError(
            f"base= goes with the folder of a tuned model, and {name_or_path} is a base itself: leave it out"
        )
    source, folder = find_base(name_or_path, revision)
    network, tokenizer = read_base(source, folder, quantization, dtype, place, trust_remote_code)
    source = pinned(source) if source.kind == "hub" else source
    return LocalModel(network, tokenizer, source=source, quantization=quantization)


def _beside(base: object, tuned: LocalModel) -> LocalModel:
    tuned.memory_bytes = getattr(base, "memory_bytes", tuned.memory_bytes)
    return tuned


def _check_name(name: object) -> None:
    if isinstance(name, LocalModel):
        raise ModelError(f"{name!r} is loaded already: use it as it is")
    if name is not None and not isinstance(name, str | PathLike):
        raise ModelError(f"load takes a hub id, a folder or a .gguf file, not {name!r:.80}")
    if name is not None and not str(name).strip():
        raise ModelError(
            f"load({name!r}) names no model: give a hub id, a folder or a .gguf file, or nothing at all "
            f"for the embedded model"
        )


def _saved(
    folder: Path,
    quantization: Quantization | None,
    dtype: str | torch.dtype,
    device: torch.device,
    trust: bool,
    base: str | Path | LocalModel | None,
) -> LocalModel:
    """An adapter on its base, or a whole model, with its contract checked."""
    contract = read_contract(folder)
    if quantization is None and contract.quantization is not None:
        quantization = Quantization(**contract.quantization)
    if contract.adapter is not None and contract.adapter_kind != WHOLE:
        if base is None and contract.base.kind == "folder":
            _check_other(folder, contract.base.name)
        under = base if isinstance(base, LocalModel) else _base_of(contract, base, quantization, dtype, device, trust)
        if adapter_of(under.network) is not None:
            raise ModelError(f"{under.name} is tuned already: give the bare base, load(folder, base=...)")
        check_base(contract, under.source)
        check_architecture(contract, under.network.config)
        source, quantization = under.source, under.quantization
        network = _adapted(under.network, folder, contract.adapter)
    else:
        if base is not None:
            raise SettingsError(
                f"{folder} holds all of its weights and goes on no base: load it by itself, without base="
            )
        source = Source(kind="folder", name=str(folder.resolve()), fingerprint=files_fingerprint(folder))
        network, _ = read_base(source, str(folder), quantization, dtype, device, trust)
    with readable(str(folder)):
        if contract.files and REWARD_HEAD not in contract.files and (folder / REWARD_HEAD).exists():
            raise ContractError(f"{folder} was saved without {REWARD_HEAD}, which was put there later: take it out")
        load_head(network, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    model = LocalModel(
        network,
        tokenizer,
        source=source,
        quantization=quantization,
        prompt=prompt_of(contract.prompt),
        contract=contract,
        history=History(contract.history),
    )
    _check_text(contract, model.renderer)
    if contract.canary is not None:
        listen(contract.canary, model.network, model.renderer, precision(model))
    _tell_rounding(contract, folder, precision(model))
    return model


def _tell_rounding(contract: Contract, folder: Path, stands: str) -> None:
    """Say where an adapter that has learned beside rounded weights stands on others."""
    bits = contract.settings.get("quantization_aware")
    if bits is not None and stands != f"intx{bits}":
        log.warning(
            "%s was trained for a base in %s bits (quantization_aware), and stands on one in %s: "
            "load(folder, quantization=Quantization(bits=%s, kind='intx')) is what it has learned",
            folder,
            bits,
            stands,
            bits,
        )


def _base_of(
    contract: Contract,
    base: str | Path | None,
    quantization: Quantization | None,
    dtype: str | torch.dtype,
    device: torch.device,
    trust: bool,
) -> LocalModel:
    wanted = contract.base
    if base is None and wanted.kind == "memory":
        raise ContractError(
            f"the base {wanted.name!r} was made in memory and has no file: give it with load(folder, base=model)"
        )
    name = base if base is not None else None if wanted.kind == "embedded" else wanted.name
    if name is not None and base is None and wanted.kind in ("folder", "gguf") and not Path(name).exists():
        raise ContractError(f"the base was at {name}, which is gone: give its new place with load(folder, base=...)")
    return load(
        name,
        quantization=quantization,
        dtype=dtype,
        device=device,
        revision=None if base else wanted.revision,
        trust_remote_code=trust,
    )


def _check_other(folder: Path, base: str) -> None:
    """Raises ContractError for an adapter that names its own folder as its base."""
    if is_same(base, folder):
        raise ContractError(
            f"{folder} names itself as its base, and holds an adapter alone: the base was moved away or written over. "
            "Give its place with load(folder, base=...)"
        )


def _adapted(network: PreTrainedModel, folder: Path, told: Mapping[str, Any] | None) -> PreTrainedModel:
    with readable(str(folder)), no_weight_bars():
        return load_adapter(network, folder, told)


def _check_text(contract: Contract, renderer: Renderer) -> None:
    if tokenizer_fingerprint(renderer.tokenizer) != contract.tokenizer:
        raise ContractError(
            "the tokenizer is not the one that the model was trained with; use the folder as it was saved"
        )
    if template_fingerprint(renderer.chat_template) != contract.chat_template:
        raise ContractError(
            "the chat template is not the one that the model was trained with; use the folder as it was saved"
        )
    stops = stop_tokens(renderer, (Message("user", "x"),))
    if stops != contract.stop_tokens:
        raise ContractError(
            f"the model was trained to stop at tokens {contract.stop_tokens}, but this version of the library would "
            f"stop at {stops}: load it with the one that saved it ({contract.versions.get('condition')}), or tune again"
        )


def _plain_adapter(
    folder: Path,
    quantization: Quantization | None,
    dtype: str | torch.dtype,
    device: torch.device,
    trust: bool,
    base: str | Path | LocalModel | None,
) -> LocalModel:
    """A PEFT folder without a contract: loaded, but nothing about it can be checked."""
    log.warning("%s has no contract (%s): base, template and numbers were not checked", folder, FILE)
    with readable(str(folder)):
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    name = base if base is not None else saved.get("base_model_name_or_path")
    if base is None and name:
        _check_other(folder, str(name))
    if not name:
        raise ModelError(f"{folder} does not say which base it belongs to: load(folder, base=...)")
    under = (
        name
        if isinstance(name, LocalModel)
        else load(name, quantization=quantization, dtype=dtype, device=device, trust_remote_code=trust)
    )
    return LocalModel(
        _adapted(under.network, folder, None), under.tokenizer, source=under.source, quantization=under.quantization
    )
