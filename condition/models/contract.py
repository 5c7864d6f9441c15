"""What a tuned model says of itself, and how that is checked when it is loaded.

Saved with the adapter: which base and tokenizer, which prompt and stop tokens, how it was quantized, on which data and
settings it was trained, what it scored, a hash of every file, and a canary: a short rendered text with its expected
log-probabilities and the size of each layer's change to the hidden state. A wrong base, an edited template or weights
that do not give the canary's numbers are errors, not surprises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from condition.errors import ContractError
from condition.models.canary import Canary
from condition.types import Value

FILE = "condition.json"
RUN = "run.json"
"""What a training folder says of its run, as `FILE` is what a saved model says of itself."""
VERSION = 1
WHOLE_BYTES = 1 << 30  # half a second to a second of hashing
SAMPLE_BYTES = 1 << 20
_BESIDE = frozenset(
    {
        "architectures",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "quantization_config",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""What of a configuration does not change a number, or stands elsewhere in the contract."""


class Source(Value):
    """Where a base comes from."""

    kind: Literal["embedded", "hub", "folder", "gguf", "memory"]
    name: str
    revision: str | None = None
    """The commit, for a hub model."""
    fingerprint: str | None = None
    """Of the weight files, so the same in every precision that they are loaded in."""


class Contract(Value):
    """Everything that a saved model promises."""

    version: int = VERSION
    base: Source
    tokenizer: str
    """Fingerprint of vocabulary, merges and special tokens."""
    chat_template: str
    """Fingerprint of the chat template."""
    stop_tokens: tuple[int, ...]
    prompt: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    dtype: str
    architecture: Mapping[str, Any] = {}
    """What the base computes with beside its weights, by the names of its configuration."""
    adapter: Mapping[str, Any] | None = None
    trainer: str | None = None
    settings: Mapping[str, Any] = {}
    data: str | None = None
    """Hash of the training rows."""
    rows: int | None = None
    metrics: Mapping[str, float] = {}
    history: tuple[Mapping[str, Any], ...] = ()
    canary: Canary | None = None
    files: Mapping[str, str] = {}
    """SHA-256 of each file beside and below this one."""
    versions: Mapping[str, str] = {}

    @property
    def adapter_kind(self) -> str | None:
        return None if self.adapter is None else str(self.adapter.get("kind", "adapter"))


def write_contract(contract: Contract, folder: Path) -> None:
    """Write the contract with the hashes of all files of the folder, sealed by a hash of its own."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: sha256(path) for name, path in found.items() if name != FILE}
    body = contract.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / FILE).write_text(
        json.dumps({"seal": _seal(body), **body}, indent=1, ensure_ascii=False), encoding="utf-8"
    )


def read_contract(folder: Path) -> Contract:
    """The contract of a folder, after its files were checked. Raises ContractError for any that changed."""
    path = folder / FILE
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{path} can't be read ({error}); save the model again") from error
    seal = body.pop("seal", None) if isinstance(body, dict) else None
    if seal != _seal(body):
        raise ContractError(
            f"{path} was edited after it was saved: its seal does not match; save the model again instead of editing it"
        )
    if body.get("version") != VERSION:
        is_newer = isinstance(body.get("version"), int) and body["version"] > VERSION
        raise ContractError(
            f"{path} is of version {body.get('version')}, this library reads {VERSION}: "
            + (
                "upgrade `condition`"
                if is_newer
                else "load it with the `condition` that wrote it, or tune and save again"
            )
        )
    try:
        contract = Contract(**body)
    except ValidationError as error:
        raise ContractError(f"{path} does not hold a contract: {error}") from error
    for name, expected in contract.files.items():
        _check_file(folder / name, expected)
    return contract


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ContractError(f"{path} is missing from the saved model; copy the whole folder, or save again")
    if sha256(path) != expected:
        hint = {
            ".jinja": "the chat template was edited",
            ".safetensors": "the weights are damaged, cut off or exchanged",
        }
        raise ContractError(
            f"{path} changed after it was saved: {hint.get(path.suffix, 'it was edited')}. "
            f"Restore the file, or tune and save again"
        )


def check_base(contract: Contract, base: Source) -> None:
    """Raises ContractError where the weights at hand are not those that the adapter was trained on."""
    wanted = contract.base
    if wanted.fingerprint and base.fingerprint and wanted.fingerprint != base.fingerprint:
        raise ContractError(
            f"this adapter was trained on {wanted.name!r} (weights {wanted.fingerprint[:12]}), but {base.name!r} holds "
            f"other weights ({base.fingerprint[:12]}). Give the right base: load(folder, base=...)"
        )


def architecture_of(config: PreTrainedConfig) -> dict[str, Any]:
    """What of a configuration the numbers depend on: RoPE, activation, norms, sizes."""
    told: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str))
    return {name: value for name, value in told.items() if name not in _BESIDE and not name.startswith("_")}


def check_architecture(contract: Contract, config: PreTrainedConfig) -> None:
    """Raises ContractError where the base computes with other settings than the one that the adapter was trained on.

    Only what both know is compared: another version of transformers may have more settings, or other names.
    """
    trained, here = contract.architecture, architecture_of(config)
    different = [
        f"{name} was {trained[name]!r:.80} and is {here[name]!r:.80}"
        for name in sorted(trained.keys() & here.keys())
        if trained[name] != here[name]
    ]
    if different:
        raise ContractError(
            f"the base {contract.base.name!r} has the right weights and another configuration: "
            f"{'; '.join(different)}. Restore its config.json, or tune and save again"
        )


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of vocabulary, merges and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps({"vocab": tokenizer.get_vocab()})
    specials = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return _content_fingerprint(content, tuple(specials.items()))


@lru_cache(maxsize=2)  # to sort a vocabulary takes a quarter of a second, and each fit, save and load asks
def _content_fingerprint(content: str, specials: tuple[tuple[str, str], ...]) -> str:
    known = json.loads(content)
    for transient in ("padding", "truncation"):  # these change with each call, not with the tokenizer
        known.pop(transient, None)
    known["specials"] = dict(specials)
    return _digest(json.dumps(known, sort_keys=True).encode())


def template_fingerprint(template: str) -> str:
    """Of a chat template."""
    return _digest(template.encode())


def weights_fingerprint(files: Iterable[Path]) -> str | None:
    """Of weight files: of every byte up to a gigabyte, of larger ones their size, ends and samples between.

    None where there are no files.
    """
    digest = hashlib.sha256()
    found = sorted(files)
    for path in found:
        size = path.stat().st_size
        digest.update(str(size).encode())
        if size <= WHOLE_BYTES:
            digest.update(sha256(path).encode())
            continue
        with path.open("rb") as content:
            for place in (0, *range(1 << 20, size, size // 64), size - SAMPLE_BYTES):
                content.seek(place)
                digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest() if found else None


def memory_fingerprint(network: PreTrainedModel) -> str:
    """Of a network that came from no file: some values of each tensor, spread over it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = getattr(tensor, "qdata", tensor).flatten()  # torchao's own, which are not flattened as they are
        digest.update(flat[:: max(1, flat.numel() // 64)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of the libraries that numbers depend on."""
    return {name: version(name) for name in ("condition", "torch", "transformers", "peft", "bitsandbytes")}


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _seal(body: object) -> str:
    return _digest(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
