"""Finding a model on the hub or in its cache on this machine, and saying what to do where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten

from huggingface_hub import HfApi, get_token, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._validators import validate_repo_id

from condition.errors import ModelError
from condition.models.contract import FILE, Source, weights_fingerprint

TIMEOUT_SECONDS = 5.0
_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"
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


def check_repo(repo: str) -> None:
    """Raises ModelError, without asking anybody, for what can't be pushed to: a name that is none, or no token."""
    check_name(repo)
    if get_token() is None:
        raise ModelError(f"can't push to {repo!r}: there is no token here. {_LOG_IN}")


def check_name(repo: str) -> None:
    """Raises ModelError for what is no name of a repository."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        said = str(error).strip().rstrip(".")
        raise ModelError(f"{repo!r} is no name of a repository: {said}. Give one such as 'me/qa-lora'") from error


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
        raise ModelError(f"can't push to {repo!r}: {str(error).strip().rstrip('.')}. {_advice(error)}") from error


def _advice(error: BaseException) -> str:
    """What to do where an upload failed."""
    causes = list(_chain(error))
    answers = [c.response for c in causes if isinstance(c, HfHubHTTPError)]
    if any(isinstance(c, LocalTokenNotFoundError) for c in causes):
        return _LOG_IN
    if any(answer is not None and answer.status_code in (401, 403) for answer in answers):
        return f"{_LOG_IN}; the token needs the right to write there"
    if not answers and any(isinstance(c, OfflineModeIsEnabled) or _is_of_the_network(c) for c in causes):
        return "The hub can't be reached from here: use save_pretrained, and push where it can"
    return "Use save_pretrained, and push again later"


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
