"""Direct preference optimisation beside TRL: the same pairs, order, adapter, schedule and threads.

    python tests/benchmarks/dpo.py                            the table
    python tests/benchmarks/dpo.py --shapes words --steps 6 --precisions fp32   one row of it

LoRA r 16 alpha 32 on all linear layers of the embedded model, batch 4. Neither side computes activations again.
References are counted on both sides: ours are always computed ahead, TRL's with each batch, or ahead where a row says
so. bf16 is autocast on both sides. Each run is a process of its own with an empty folder for references, and times the
whole call: what has to be imported is imported before. PRO with K = 4 is beside itself without
sharing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from statistics import median
from typing import Any, NamedTuple

from _base import base as loaded
from _base import peak_gb

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = "the licence of this program lets you run study share and change it for any purpose".split()  # noqa: SIM905
BATCH = 4


class Shape(NamedTuple):
    """Words of a prompt and of each candidate, candidates, epochs, and whether TRL computes references ahead."""

    prompt: int
    completion: int
    candidates: int = 2
    epochs: int = 1
    ahead: bool = False


SHAPES = {
    "words": Shape(120, 40),
    "ahead": Shape(120, 40, epochs=3, ahead=True),
    "long": Shape(512, 64),
    "short": Shape(64, 256),
    "pro": Shape(128, 64, candidates=4),
}


def rows(shape: Shape, count: int) -> list[tuple[str, list[str]]]:
    """Prompts and candidates drawn from a few words."""
    numbers = random.Random(0)
    return [
        (
            " ".join(numbers.choices(WORDS, k=shape.prompt)),
            [" " + " ".join(numbers.choices(WORDS, k=shape.completion)) for _ in range(shape.candidates)],
        )
        for _ in range(count)
    ]


def ours(shape: Shape, precision: Any, steps: int, shared: bool) -> dict[str, Any]:
    import peft.tuners.lora  # noqa: F401
    import transformers.trainer  # noqa: F401

    import condition as cd
    from condition.training import engine  # noqa: F401

    if not shared:
        from condition.training import fit

        fit.shareable = lambda network: False
    base = loaded()
    settings = cd.Settings(
        batch_size=BATCH,
        epochs=shape.epochs,
        schedule="linear",
        warmup=0.0,
        log_every=1,
        precision=precision,
        checkpointing=False,
    )
    data = [cd.Ranking({"prompt": p}, tuple(c)) for p, c in rows(shape, steps * BATCH)]
    trainer: Any = cd.DPOTrainer(settings=settings) if shape.candidates == 2 else cd.PROTrainer(settings=settings)
    began = time.perf_counter()
    tuned = trainer.fit(base, data, prompt=cd.TextPrompt("{prompt}"))
    return {"seconds": time.perf_counter() - began, "losses": tuned.history.series("loss")[1]}


def trl(shape: Shape, precision: str, steps: int) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import DPOConfig, DPOTrainer

    base = loaded()
    base.network.set_attn_implementation("sdpa")
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    network = get_peft_model(base.network, config)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=shape.epochs,
            learning_rate=2e-4,
            weight_decay=0.0,
            seed=0,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            bf16=precision == "bf16",
            gradient_checkpointing=False,
            max_length=None,
            precompute_ref_log_probs=shape.ahead,
        )
        data = Dataset.from_list(
            [{"prompt": p, "chosen": c[0], "rejected": c[1]} for p, c in rows(shape, steps * BATCH)]
        )
        trainer = DPOTrainer(model=network, args=arguments, train_dataset=data, processing_class=base.tokenizer)
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"seconds": time.perf_counter() - began, "losses": losses}


def run(side: str, name: str, precision: str, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        # References only: the embedded model stays where it is.
        environment = {**os.environ, "CONDITION_REFERENCES": folder}
        command = [sys.executable, __file__, "--child", side, name, precision, "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise SystemExit(f"{side} {name} {precision} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def child(side: str, name: str, precision: str, steps: int) -> None:
    """One side, once; prints what it measured."""
    from pathlib import Path

    from condition.training import references

    folder = Path(os.environ["CONDITION_REFERENCES"])
    references.cache_folder = lambda: folder
    shape = SHAPES[name]
    measured = trl(shape, precision, steps) if side == "trl" else ours(shape, precision, steps, shared=side == "ours")
    measured["peak_gb"] = peak_gb()
    print("MEASURED " + json.dumps(measured))


def table(names: list[str], precisions: list[str], steps: int, repeats: int) -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "trl"))
    print(f"{steps} steps of {BATCH} rows, medians of {repeats} runs in turn, {THREADS} threads, {versions}\n")
    print("| what | precision | peer | peer rows/s | ours rows/s | ratio | peak GB, peer / ours | first losses |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, precision in ((name, precision) for name in names for precision in precisions):
        shape = SHAPES[name]
        peer_side = "trl" if shape.candidates == 2 else "unshared"
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in ("ours", peer_side)}
        for _ in range(repeats):
            for side, results in found.items():
                results.append(run(side, name, precision, steps))
        count = steps * BATCH * shape.epochs
        our, peer = (median(count / r["seconds"] for r in found[side]) for side in ("ours", peer_side))
        memory = " / ".join(f"{max(r['peak_gb'] for r in found[side]):.1f}" for side in (peer_side, "ours"))
        first = " / ".join(f"{found[side][0]['losses'][0]:.4f}" for side in (peer_side, "ours"))
        cells = [
            f"{name} {tuple(shape)}",
            precision,
            peer_side,
            f"{peer:.2f}",
            f"{our:.2f}",
            f"{our / peer:.2f}x",
            memory,
            first,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "SHAPE", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.steps)
    else:
        table(options.shapes, options.precisions, options.steps, options.repeats)


if __name__ == "__main__":
    main()
