"""Many samples of one prompt beside transformers' `generate`: the same prompt, number, lengths and threads.

    python tests/benchmarks/sampling.py
    python tests/benchmarks/sampling.py --samples 1 16 64 --dtypes fp32

48 tokens a sample behind a prompt of 286 tokens, at temperature 0.7, on the embedded model. Neither side stops early.
Each run is a process of its own; the reading of the prompt is counted on both sides, and what was loaded is warm.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from statistics import median
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

QUESTION = (
    "Question: Tom has 3 apples and buys 5 more, then gives 2 away. How many apples does he have? Think step by step.\n"
)
TOKENS = 48


def child(side: str, dtype: str, samples: int) -> None:
    """One side, once; prints what it measured."""
    import torch

    import condition as cd
    from condition.adapters.packed import PackedProducts
    from condition.prefix_sharing.decode import Decoder
    from condition.prefix_sharing.memory import store
    from condition.prefix_sharing.probe import shareable

    base = cd.load(dtype=dtype)
    network = base.network
    ids = list(base.render(QUESTION * 8).ids)
    sampling = cd.Sampling(max_tokens=TOKENS, temperature=0.7, n=samples, seed=0)

    def ours() -> int:
        assert shareable(network)
        with PackedProducts(network):
            decoder = Decoder(network, store(network, [ids]), [ids], sampling, [()])
            drawn = len(decoder.step())
            while not decoder.done:
                decoder.read()
                drawn += len(decoder.step())
        return drawn

    def theirs() -> int:
        rows = network.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=True,
            temperature=0.7,
            top_k=0,
            num_return_sequences=samples,
            pad_token_id=0,
        )
        return samples * (rows.shape[1] - len(ids))

    if side == "theirs":
        network.set_attn_implementation("sdpa")
    write = ours if side == "ours" else theirs
    write()
    began = time.perf_counter()
    drawn = write()
    seconds = time.perf_counter() - began
    assert drawn == samples * TOKENS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("MEASURED " + json.dumps({"speed": drawn / seconds, "peak_gb": peak, "prompt": len(ids)}))


def run(side: str, dtype: str, samples: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", side, dtype, str(samples)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise SystemExit(f"{side} {dtype} {samples} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--dtypes", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "DTYPE", "SAMPLES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, dtype, samples = options.child
        child(side, dtype, int(samples))
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"{TOKENS} tokens a sample, medians of {options.repeats} runs in turn, {THREADS} threads, {versions}\n")
    print("| precision | samples | `generate` tokens/s | ours tokens/s | ratio | peak GB, `generate` / ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for dtype in options.dtypes:
        for samples in options.samples:
            found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
            for _ in range(options.repeats):
                for side, runs in found.items():
                    runs.append(run(side, dtype, samples))
            speed = {side: median(r["speed"] for r in runs) for side, runs in found.items()}
            memory = {side: max(r["peak_gb"] for r in runs) for side, runs in found.items()}
            cells = [
                dtype,
                str(samples),
                f"{speed['theirs']:.1f}",
                f"{speed['ours']:.1f}",
                f"{speed['ours'] / speed['theirs']:.2f}x",
                f"{memory['theirs']:.1f} / {memory['ours']:.1f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
