"""The network that the speed tables are taken on, and the memory that a run took.

    python tests/benchmarks/_base.py FOLDER          a Llama of 3 billion random weights with the embedded tokenizer
    BENCH_MODEL=FOLDER BENCH_QUANTIZATION=nf4 python tests/benchmarks/sft.py --kinds bf16

Without BENCH_MODEL it is the embedded model. Weights drawn at random are enough for speed and memory.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import condition as cd

SHAPE = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""Llama 3.2 3B's, but for the vocabulary."""


def base(**options: Any) -> cd.LocalModel:
    """What `BENCH_MODEL` and `BENCH_QUANTIZATION` name."""
    import condition as cd

    kind = os.environ.get("BENCH_QUANTIZATION")
    quantization = cd.Quantization(kind=kind) if kind else None  # type: ignore[arg-type]  # checked there
    return cd.load(os.environ.get("BENCH_MODEL"), quantization=quantization, **options)


def peak_gb() -> float:
    """The most memory that was held: the GPU's where there is one, else the process's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def write(folder: Path) -> None:
    """A random Llama in bf16; the processor would draw numbers for minutes, so a GPU does where there is one."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    import condition as cd

    tokenizer = cd.load(device="cpu").tokenizer
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), **special, **SHAPE)  # type: ignore[arg-type]  # a dict of both
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
