"""Supervised fine-tuning beside TRL: the same rows, order, adapter, schedule and threads.

    python tests/benchmarks/sft.py                 the table, about ten minutes
    python tests/benchmarks/sft.py --steps 40 --repeats 3
    python tests/benchmarks/sft.py --prompt-words 8 --answer-words 120 --batch 1     what suits us least

LoRA r 16 alpha 32 on all linear layers of the embedded model, 120-word prompts, 8-word answers, batch 4. Speed is that
of the training loop, each run in a process of its own; for us, laying out the frozen weights is counted too. In
brackets stand the slowest and the fastest run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from statistics import median
from typing import Any, NamedTuple

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = "the licence of this program lets you run study share and change it for any purpose".split()  # noqa: SIM905
SIDES = {
    "fp32": ("ours fp32", "trl fp32"),
    "bf16": ("ours bf16", "trl bf16"),
    "defaults": ("ours defaults", "trl defaults"),
}


class Size(NamedTuple):
    """What is trained on."""

    steps: int
    batch: int
    prompt_words: int
    answer_words: int


def rows(size: Size) -> list[tuple[str, str]]:
    """Prompts and answers drawn from a few words."""
    numbers, lengths = random.Random(0), (size.prompt_words, size.answer_words)
    texts = [" ".join(numbers.choices(WORDS, k=k)) for _ in range(size.steps * size.batch) for k in lengths]
    return [(prompt, " " + answer) for prompt, answer in zip(texts[::2], texts[1::2], strict=True)]


def seeded(network: Any) -> None:
    """The same adapter on both sides: values from a seed, in the order of the layers."""
    import torch

    numbers = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_A" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=numbers) * 0.02)


def ours(kind: str, size: Size) -> dict[str, Any]:
    import condition as cd
    from condition.models.local import LocalModel

    base = cd.load()
    adapted = cd.LoRA(rank=16, alpha=32).attach(base.network)
    seeded(adapted)
    start = LocalModel(adapted, base.tokenizer, source=base.source)
    settings = cd.Settings(
        batch_size=size.batch,
        max_steps=size.steps,
        learning_rate=2e-4,
        schedule="linear",
        warmup=0.0,
        log_every=1,
        precision="auto" if kind == "defaults" else kind,  # type: ignore[arg-type]  # one of the three names
    )
    data = [cd.Example({"prompt": prompt}, answer) for prompt, answer in rows(size)]
    began = time.perf_counter()
    tuned = cd.SFTTrainer(settings=settings).fit(start, data, prompt=cd.TextPrompt("{prompt}"))
    assert tuned.contract is not None
    return {
        "whole": time.perf_counter() - began,
        "loop": tuned.contract.metrics["loop_seconds"],
        "losses": tuned.history.series("loss")[1],
    }


def trl(kind: str, size: Size) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    import condition as cd

    base = cd.load()
    base.network.set_attn_implementation("sdpa")
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    network = get_peft_model(base.network, config)
    seeded(network)
    tuned: dict[str, Any] = {} if kind == "defaults" else {"bf16": kind == "bf16", "gradient_checkpointing": False}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            folder,
            per_device_train_batch_size=size.batch,
            max_steps=size.steps,
            learning_rate=2e-4,
            weight_decay=0.0,
            seed=0,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            completion_only_loss=True,
            disable_tqdm=True,
            **tuned,
        )
        data = Dataset.from_list([{"prompt": p, "completion": a} for p, a in rows(size)])
        trainer = SFTTrainer(model=network, args=arguments, train_dataset=data, processing_class=base.tokenizer)
        done = trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"whole": time.perf_counter() - began, "loop": done.metrics["train_runtime"], "losses": losses}


def child(side: str, kind: str, size: Size) -> None:
    """One side, once; prints what it measured."""
    measured = (ours if side == "ours" else trl)(kind, size)
    measured["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("MEASURED " + json.dumps(measured))


def run(name: str, size: Size) -> dict[str, Any]:
    options = [f"--{field.replace('_', '-')}={value}" for field, value in size._asdict().items()]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *name.split(), *options], capture_output=True, text=True
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def spread(speeds: list[float]) -> str:
    return f"{median(speeds):.2f} [{min(speeds):.2f}, {max(speeds):.2f}]"


def table(kinds: list[str], size: Size, repeats: int) -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "trl"))
    print(
        f"{size.steps} steps of {size.batch} rows, prompts of {size.prompt_words} words, answers of "
        f"{size.answer_words}, medians of {repeats} runs in turn, {THREADS} threads, {versions}\n"
    )
    print("| precision | TRL rows/s | ours rows/s | ratio | whole call | peak GB, TRL / ours | losses differ by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in kinds:
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES[kind]}
        for _ in range(repeats):
            for name in SIDES[kind]:
                results[name].append(run(name, size))
        our, peer = (results[name] for name in SIDES[kind])
        speeds = [[size.steps * size.batch / r["loop"] for r in side] for side in (our, peer)]
        whole = median(r["whole"] for r in peer) / median(r["whole"] for r in our)
        apart = max(abs(a - b) for a, b in zip(our[0]["losses"], peer[0]["losses"], strict=True))
        memory = f"{max(r['peak_gb'] for r in peer):.1f} / {max(r['peak_gb'] for r in our):.1f}"
        ratio = f"{median(speeds[0]) / median(speeds[1]):.2f}x"
        cells = [kind, spread(speeds[1]), spread(speeds[0]), ratio, f"{whole:.2f}x", memory, f"{apart:.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prompt-words", type=int, default=120)
    parser.add_argument("--answer-words", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = Size(options.steps, options.batch, options.prompt_words, options.answer_words)
    if options.child:
        child(*options.child, size)
    else:
        table(options.kinds, size, options.repeats)


if __name__ == "__main__":
    main()
