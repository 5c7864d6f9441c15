"""Finding a model on the hub or in its cache on this machine, and saying what to do where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from condition.errors import ModelError
from condition.models.contract import FILE, Source, weights_fingerprint

TIMEOUT_SECONDS = 5.0
TUNED = (FILE, "adapter_config.json")
"""A repository that holds one of these is a tuned model."""


def on_hub(name: str, revision: str | None) -> Source:
    """A model's source, asked of the hub unless its cache has it. Raises ModelError where there is none."""
    with explained(name, revision):
        if cached(name, revision) is None:
            HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
    return Source(kind="hub", name=name, revision=revision)


def tuned_on_hub(name: str, revision: str | None) -> Path | None:
    """The folder of a pushed model or PEFT adapter, brought into the hub's cache; none where the name is a base.

    Raises ModelError where the hub has no such name or can't be asked.
    """
    with explained(name, revision):
        for file in TUNED:
            found = try_to_load_from_cache(name, file, revision=revision)
            if isinstance(found, str):
                return Path(found).parent
        if cached(name, revision) is not None:
            return None
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
        if not any(file.rfilename in TUNED for file in info.siblings or ()):
            return None
        return Path(snapshot_download(name, revision=revision))  # by its name, so that the cache knows it


def pinned(source: Source) -> Source:
    """The source with its commit and the fingerprint of its weights, once they are in the cache."""
    folder = cached(source.name, source.revision)
    if folder is None:
        return source
    fingerprint = weights_fingerprint(folder.glob("*.safetensors"))
    return source.model_copy(update={"revision": folder.name, "fingerprint": fingerprint})


def cached(name: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache that holds a model, so that no network is needed."""
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and any(folder.glob("*.safetensors")) else None


@contextmanager
def explained(name: str, revision: str | None) -> Iterator[None]:
    """Errors of the hub, also below those of transformers, as a ModelError that says what to do."""
    try:
        yield
    except Exception as error:
        for cause in _chain(error):
            said = _said(name, revision, cause)
            if said is not None:
                raise ModelError(said) from error
        raise


@contextmanager
def uploading(repo: str) -> Iterator[None]:
    """As `explained`, for a model on its way to the hub."""
    try:
        yield
    except Exception as error:
        if not any(
            isinstance(c, HfHubHTTPError | OSError | ValueError) or _is_of_the_network(c) for c in _chain(error)
        ):
            raise
        raise ModelError(
            f"can't push to {repo!r}: {error}. Log in with `hf auth login`, or set HF_TOKEN; "
            f"without a network, use save_pretrained"
        ) from error


def meant(name: str) -> str:
    """The model's folder or file here whose name comes nearest to a mistyped one, as a question; empty for none."""
    path = Path(name)
    try:
        beside = [p.name for p in path.expanduser().parent.iterdir() if p.is_dir() or p.suffix == ".gguf"]
    except (OSError, ValueError, RuntimeError):
        return ""
    near = get_close_matches(path.name, beside, n=1)
    return f" (did you mean {str(path.with_name(near[0]))!r}?)" if near else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _said(name: str, revision: str | None, error: BaseException) -> str | None:
    if isinstance(error, GatedRepoError):
        return (
            f"{name!r} is gated: accept its terms on huggingface.co/{name}, then log in "
            f"with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name!r} has no revision {revision!r}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return (
            f"{name!r} is no folder here{meant(name)}; no model {name!r} on the hub, or it is private: check the name; "
            f"for a private one log in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, HFValidationError):
        return f"{name!r} is no folder here{meant(name)} and no hub id (a hub id looks like org/model)"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError) or _is_of_the_network(error):
        return (
            f"{name!r} is no folder here{meant(name)}, not in the hub's cache, and the hub can't be reached "
            f"({type(error).__name__}: {shorten(str(error), 120, placeholder=' …')}). "
            f"Offline you can load() the embedded model, a folder, or a .gguf file; "
            f"or copy the model's folder to this machine"
        )
    if isinstance(error, HfHubHTTPError):
        return f"the hub refused {name!r}: {error}. If it needs a token: `hf auth login` or HF_TOKEN"
    return None


def _is_of_the_network(error: BaseException) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or (
        bool(modules & {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})
        and not isinstance(error, HfHubHTTPError)
    )
