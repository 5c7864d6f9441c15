"""Supervised fine-tuning beside TRL: the same rows, order, adapter, schedule and threads.

    python tests/benchmarks/sft.py                 the table, about ten minutes
    python tests/benchmarks/sft.py --steps 40 --repeats 3
    python tests/benchmarks/sft.py --prompt-words 8 --answer-words 120 --batch 1     what suits us least
    python tests/benchmarks/sft.py --packing       rows laid end to end on both sides
    python tests/benchmarks/sft.py --methods       every way to tune, beside PEFT's where it has it
    python tests/benchmarks/sft.py --methods ia3 full --kinds fp32 --steps 8

LoRA r 16 alpha 32 on all linear layers of the embedded model, 120-word prompts, 8-word answers, batch 4. Speed is that
of the training loop, each run in a process of its own; for us, laying out the frozen weights is counted too. In
brackets stand the slowest and the fastest run.

Both sides see the same tokens of the same rows. With `--packing` TRL's rows see each other (its attention here knows no
borders), ours do not. TRL does not call AdaLoRA's allocation of ranks, so there it trains without; ours has it.
"""

from __future__ import annotations

import argparse
import json
import math
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
    packing: bool = False


class Method(NamedTuple):
    """A way to tune: our adapter, and what PEFT calls it. `LAST` names its own layers; None where PEFT has none."""

    ours: str
    options: dict[str, Any]
    peft: str | None
    peft_options: dict[str, Any]


LAST = "last layers"
LINEAR = {"target_modules": "all-linear"}
TOKENS = {"num_virtual_tokens": 20}
METHODS = {
    "lora": Method("LoRA", {"rank": 16, "alpha": 32}, "LoraConfig", {"r": 16, "lora_alpha": 32, **LINEAR}),
    "dora": Method(
        "LoRA",
        {"rank": 16, "alpha": 32, "weight_decomposed": True},
        "LoraConfig",
        {"r": 16, "lora_alpha": 32, "use_dora": True, **LINEAR},
    ),
    "adalora": Method("AdaLoRA", {}, "AdaLoraConfig", {"init_r": 12, "target_r": 8, "lora_alpha": 32, **LINEAR}),
    "ia3": Method("IA3", {}, "IA3Config", {}),
    "prompt_tuning": Method("PromptTuning", {"length": 20}, "PromptTuningConfig", TOKENS),
    "p_tuning": Method("PTuning", {"length": 20}, "PromptEncoderConfig", {"encoder_hidden_size": 576, **TOKENS}),
    "prefix_tuning": Method("PrefixTuning", {"length": 20}, "PrefixTuningConfig", TOKENS),
    "full": Method("FullFineTuning", {}, "", {}),
    "last_layers": Method("LastLayers", {"n": 2}, LAST, {}),
    "bottleneck": Method("Bottleneck", {"size": 64}, None, {}),
    "ladder_side": Method("LadderSide", {}, None, {}),
    "mixed": Method("Mixed", {}, None, {}),
}


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


def tokens(tokenizer: Any, size: Size) -> int:
    """Of all rows that are trained on."""
    return sum(len(tokenizer(prompt + answer).input_ids) for prompt, answer in rows(size))


def ours(kind: str, method: str, size: Size) -> dict[str, Any]:
    import condition as cd
    from condition.models.local import LocalModel

    base, made = loaded(), METHODS[method]
    adapter = getattr(cd, made.ours)(**made.options)
    start = base
    if method == "lora":
        start = LocalModel(adapter.attach(base.network), base.tokenizer, source=base.source)
        seeded(start.network)
    settings = cd.Settings(
        batch_size=size.batch,
        max_steps=size.steps,
        learning_rate=2e-4,
        schedule="linear",
        warmup=0.0,
        log_every=1,
        packing=size.packing,
        checkpointing="auto" if kind == "defaults" else False,
        precision="auto" if kind == "defaults" else kind,  # type: ignore[arg-type]  # one of the three names
    )
    data = [cd.Example({"prompt": prompt}, answer) for prompt, answer in rows(size)]
    trainer = cd.SFTTrainer(settings=settings) if start is not base else cd.SFTTrainer(adapter, settings)
    began = time.perf_counter()
    tuned = trainer.fit(start, data, prompt=cd.TextPrompt("{prompt}"))
    assert tuned.contract is not None
    return {
        "whole": time.perf_counter() - began,
        "loop": tuned.contract.metrics["loop_seconds"],
        "losses": tuned.history.series("loss")[1],
        "trained": tuned.contract.metrics["trained_parameters"],
        "tokens": tokens(base.tokenizer, size),
    }


def peer_network(network: Any, method: str, size: Size) -> Any:
    """What TRL trains: PEFT's model, or the network itself with what is trained set free."""
    import peft

    made = METHODS[method]
    if made.peft == LAST:
        network.requires_grad_(False)
        for module in [*network.model.layers[-2:], network.model.norm]:
            module.requires_grad_(True)
    if not made.peft or made.peft == LAST:
        return network
    options = {"total_step": size.steps} if method == "adalora" else {}
    adapted = peft.get_peft_model(
        network, getattr(peft, made.peft)(task_type="CAUSAL_LM", **made.peft_options, **options)
    )
    if method == "lora":
        seeded(adapted)
    return adapted


def trl(kind: str, method: str, size: Size) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    base = loaded()
    base.network.set_attn_implementation("sdpa")
    network = peer_network(base.network, method, size)
    tuned: dict[str, Any] = {} if kind == "defaults" else {"bf16": kind == "bf16", "gradient_checkpointing": False}
    count = tokens(base.tokenizer, size)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            folder,
            per_device_train_batch_size=1 if size.packing else size.batch,  # then a row of TRL's is a batch of ours
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
            packing=size.packing,
            max_length=math.ceil(1.05 * count / size.steps) if size.packing else 1024,
            **tuned,
        )
        data = Dataset.from_list([{"prompt": p, "completion": a} for p, a in rows(size)])
        trainer = SFTTrainer(model=network, args=arguments, train_dataset=data, processing_class=base.tokenizer)
        done = trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {
        "whole": time.perf_counter() - began,
        "loop": done.metrics["train_runtime"],
        "losses": losses,
        "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "tokens": count,
    }


def child(side: str, kind: str, method: str, size: Size) -> None:
    """One side, once; prints what it measured."""
    measured = (ours if side == "ours" else trl)(kind, method, size)
    measured["peak_gb"] = peak_gb()
    print("MEASURED " + json.dumps(measured))


class Failed(Exception):
    """A side came to no end; the last lines that it wrote."""


def run(name: str, size: Size, method: str = "lora") -> dict[str, Any]:
    options = [f"--{field.replace('_', '-')}={value}" for field, value in size._asdict().items() if field != "packing"]
    options += ["--packing"] if size.packing else []
    done = subprocess.run(
        [sys.executable, __file__, "--child", *name.split(), method, *options], capture_output=True, text=True
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise Failed(f"{name}, {method}:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def spread(speeds: list[float]) -> str:
    return f"{median(speeds):.2f} [{min(speeds):.2f}, {max(speeds):.2f}]"


def head(size: Size, repeats: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "trl"))
    return (
        f"{size.steps} steps of {size.batch} rows, prompts of {size.prompt_words} words, answers of "
        f"{size.answer_words}{', packed' if size.packing else ''}, medians of {repeats} runs in turn, "
        f"{THREADS} threads, {versions}\n"
    )


def table(kinds: list[str], size: Size, repeats: int) -> None:
    print(head(size, repeats))
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


def methods(names: list[str], kinds: list[str], size: Size, repeats: int) -> None:
    """A line a method and precision; a peer that fails is named with how it failed."""
    print(head(size, repeats))
    print("| method | precision | trained | TRL + PEFT s/1,000 tokens | ours | ratio | peak GB, TRL / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        for kind in kinds:
            sides = SIDES[kind] if METHODS[name].peft is not None else SIDES[kind][:1]
            results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            failed = ""
            for _ in range(repeats):
                for side in sides:
                    try:
                        results[side].append(run(side, size, name))
                    except Failed as error:
                        if side.startswith("ours"):
                            raise
                        failed = str(error).strip().splitlines()[-1]
            our, peer = results[sides[0]], results[sides[1]] if len(sides) == 2 else []
            costs = [[1000 * r["loop"] / r["tokens"] for r in side] for side in (our, peer)]
            theirs = spread(costs[1]) if peer else failed or "has none"
            ratio = f"{median(costs[1]) / median(costs[0]):.2f}x" if peer else ""
            peaks = [f"{max(r['peak_gb'] for r in side):.1f}" if side else "-" for side in (peer, our)]
            cells = [name, kind, f"{our[0]['trained']:,.0f}", theirs, spread(costs[0]), ratio, " / ".join(peaks)]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prompt-words", type=int, default=120)
    parser.add_argument("--answer-words", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--packing", action="store_true", help="lay rows end to end")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), help="these, or all: a table by method")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "KIND", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = Size(options.steps, options.batch, options.prompt_words, options.answer_words, options.packing)
    if options.child:
        child(*options.child, size)
    elif options.methods is not None:
        methods(options.methods or list(METHODS), options.kinds, size, options.repeats)
    else:
        table(options.kinds, size, options.repeats)


if __name__ == "__main__":
    main()
