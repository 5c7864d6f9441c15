"""Many samples of one prompt, and many questions behind one header, beside transformers' `generate` and LangChain.

    python tests/benchmarks/sampling.py
    python tests/benchmarks/sampling.py --cases 16 64 header --dtypes fp32 bf16

A case is a number of samples of 48 tokens behind one prompt of 286 tokens, at temperature 0.7, or `header`: 32
questions behind a few-shot header of some 650 tokens, one greedy answer of 48 tokens each. `pipeline` compares 16
samples with `HuggingFacePipeline.batch`; it needs `pip install --no-deps langchain-huggingface`. The embedded model;
neither side stops early. Each run is a process of its own; the reading of prompts is counted on both sides, and what
was loaded is warm: the first call of each process is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from statistics import median
from typing import Any

from _base import base as loaded
from _base import peak_gb

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

QUESTION = (
    "Question: Tom has 3 apples and buys 5 more, then gives 2 away. How many apples does he have? Think step by step.\n"
)
SHOT = (
    "Question: A farm sells {} eggs a day. How many eggs does it sell in {} days?\nAnswer: {} times {} is {} eggs.\n\n"
)
TOKENS = 48


def prompts(case: str) -> tuple[list[str], int]:
    """The prompts of a case and how many samples each gets."""
    if case == "header":
        shots = "".join(SHOT.format(i, i + 2, i, i + 2, i * (i + 2)) for i in range(3, 18))
        questions = [
            f"Question: A mill grinds {i} sacks a day. How many does it grind in {i % 7 + 2} days?" for i in range(32)
        ]
        return [shots + question for question in questions], 1
    return [QUESTION * 8], 16 if case == "pipeline" else int(case)


def child(side: str, dtype: str, case: str) -> None:
    """One side, once; prints what it measured."""
    import torch

    import condition as cd
    from condition.adapters.packed import PackedProducts
    from condition.prefix_sharing.decode import Decoder
    from condition.prefix_sharing.memory import store
    from condition.prefix_sharing.probe import shareable

    base = loaded(dtype=dtype)
    network = base.network
    texts, samples = prompts(case)
    asked = [list(base.render(text).ids) for text in texts]
    heat = 0.0 if case == "header" else 0.7
    sampling = cd.Sampling(max_tokens=TOKENS, temperature=heat, n=samples, seed=0)
    options = {
        "max_new_tokens": TOKENS,
        "min_new_tokens": TOKENS,
        "do_sample": heat > 0,
        "pad_token_id": 0,
        **({"temperature": heat, "top_k": 0} if heat else {}),
    }

    def ours() -> int:
        assert shareable(network)
        with PackedProducts(network):
            decoder = Decoder(network, store(network, asked), asked, sampling, [()] * len(asked))
            drawn = len(decoder.step())
            while not decoder.done:
                decoder.read()
                drawn += len(decoder.step())
        return drawn

    def generate() -> int:
        longest = max(map(len, asked))
        ids = torch.tensor([[0] * (longest - len(own)) + own for own in asked], device=base.device)
        mask = torch.tensor([[0] * (longest - len(own)) + [1] * len(own) for own in asked], device=base.device)
        rows = network.generate(ids, attention_mask=mask, num_return_sequences=samples, **options)
        return len(rows) * (rows.shape[1] - longest)

    def langchain() -> int:
        from langchain_huggingface import HuggingFacePipeline
        from transformers import pipeline

        made = pipeline("text-generation", model=network, tokenizer=base.tokenizer, return_full_text=False, **options)
        text = base.tokenizer.decode(asked[0])
        return len(HuggingFacePipeline(pipeline=made).batch([text] * samples)) * TOKENS

    if side != "ours":
        network.set_attn_implementation("sdpa")
    write = {"ours": ours, "theirs": langchain if case == "pipeline" else generate}[side]
    write()
    began = time.perf_counter()
    drawn = write()
    seconds = time.perf_counter() - began
    assert drawn == samples * len(asked) * TOKENS
    peak = peak_gb()
    print("MEASURED " + json.dumps({"speed": drawn / seconds, "peak_gb": peak, "prompt": len(asked[0])}))


def run(side: str, dtype: str, case: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", side, dtype, case]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise SystemExit(f"{side} {dtype} {case} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["1", "16", "64", "header"])
    parser.add_argument("--dtypes", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "DTYPE", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"{TOKENS} tokens a sample, medians of {options.repeats} runs in turn, {THREADS} threads, {versions}\n")
    print("| precision | case | peer tokens/s | ours tokens/s | ratio | peak GB, peer / ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for dtype in options.dtypes:
        for case in options.cases:
            found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
            for _ in range(options.repeats):
                for side, runs in found.items():
                    runs.append(run(side, dtype, case))
            speed = {side: median(r["speed"] for r in runs) for side, runs in found.items()}
            memory = {side: max(r["peak_gb"] for r in runs) for side, runs in found.items()}
            cells = [
                dtype,
                case,
                f"{speed['theirs']:.1f}",
                f"{speed['ours']:.1f}",
                f"{speed['ours'] / speed['theirs']:.2f}x",
                f"{memory['theirs']:.1f} / {memory['ours']:.1f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
