"""Where a base is, by its name, and what is said where none is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condition.errors import ModelError
from condition.models.bases import files_fingerprint, find_base, read_base, readable


def test_a_folder_is_known_by_its_place_and_its_weights(tiny_folder: Path) -> None:
    source, place = find_base(tiny_folder, None)
    assert (source.kind, source.name, place) == ("folder", str(tiny_folder.resolve()), str(tiny_folder))
    assert source.fingerprint == files_fingerprint(tiny_folder)
    network, tokenizer = read_base(source, place, None, "float32", torch.device("cpu"), False)
    assert network.dtype == torch.float32
    assert len(tokenizer) <= network.config.vocab_size


def test_a_folder_without_weights_has_no_fingerprint(tmp_path: Path) -> None:
    assert files_fingerprint(tmp_path) is None


def test_a_gguf_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.gguf: no such file"):
        find_base(tmp_path / "model.gguf", None)


def test_what_reading_raises_names_the_folder() -> None:
    with (
        pytest.raises(ModelError, match=r"^here: can't be loaded as a causal language model: no such tensor"),
        readable("here"),
    ):
        raise ValueError("no such tensor")
    with pytest.raises(ZeroDivisionError), readable("here"):
        raise ZeroDivisionError
