"""Packed trees on a GPU: through `flex_attention` and its block mask, through blocks, and the plain path.

    python tests/benchmarks/attention_cuda.py
    python tests/benchmarks/attention_cuda.py --sizes 135m --cases dpo few-shot
    python tests/benchmarks/attention_cuda.py --device cpu --sizes tiny --shrink 16   # does it run at all

Random weights of a Llama's shape in bf16. Log-probabilities of all branches (`fw`), and these with the gradients of all
weights but the embedding and the head (`fw+bw`). Tokens are those of the plain rows for all three, so that the ratios
are those of the seconds. The plain path reads at most so many tokens at once; the trees are read whole.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).resolve().parents[2])

from condition.errors import SharingWarning  # noqa: E402
from condition.prefix_sharing import flex  # noqa: E402
from condition.prefix_sharing.layout import Packed, pack  # noqa: E402
from condition.prefix_sharing.logprobs import packed_logprobs, plain_logprobs  # noqa: E402
from condition.prefix_sharing.probe import shareable  # noqa: E402

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 2, "width": 64, "heads": 4, "shared": 2, "inner": 128, "words": 512},
    "135m": {"layers": 30, "width": 576, "heads": 9, "shared": 3, "inner": 1536, "words": 49_152},
    "1b": {"layers": 16, "width": 2048, "heads": 32, "shared": 8, "inner": 8192, "words": 128_256},
}
CASES = {  # prompts, tokens of each, branches of each, tokens of a branch
    "dpo-short": (4, 160, 2, 53),
    "dpo": (8, 512, 2, 64),
    "dpo-long": (4, 2048, 4, 256),
    "few-shot": (1, 2048, 64, 32),
    "deep": (1, 512, 0, 128),  # five times each branch forks in two
    **{f"row-{n}": (1, n // 2, 4, n // 8) for n in (512, 1024, 2048, 4096)},  # from which length on it pays
}
PATHS = ("plain", "blocks", "flex")
PLAIN_TOKENS = 16_384
SECONDS = 0.25
"""Of one figure, after the first run; longer ones are run twice, and those of many seconds once."""
Batch = tuple[list[list[int]], list[int]]


def network_of(size: str, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    s = SIZES[size]
    torch.manual_seed(0)
    with torch.device(device):
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=s["words"],
                hidden_size=s["width"],
                intermediate_size=s["inner"],
                num_hidden_layers=s["layers"],
                num_attention_heads=s["heads"],
                num_key_value_heads=s["shared"],
                max_position_embeddings=8192,
                tie_word_embeddings=True,
            )
        )
    network = network.to(torch.bfloat16).eval()
    network.get_input_embeddings().requires_grad_(False)
    return network


def batch_of(case: str, words: int, shrink: int) -> Batch:
    prompts, length, branches, own = CASES[case]
    numbers = torch.Generator().manual_seed(0)

    def drawn(tokens: int) -> list[int]:
        return torch.randint(3, words, (max(2, tokens // shrink),), generator=numbers).tolist()

    sequences: list[list[int]] = []
    starts: list[int] = []
    for _ in range(prompts):
        prompt = drawn(length)
        if branches:
            rows = [prompt + drawn(own) for _ in range(branches)]
        else:
            rows = [prompt]
            for _ in range(5):
                rows = [row + drawn(own) for row in rows for _ in range(2)]
        sequences += rows
        starts += [len(row) - max(2, own // shrink) for row in rows]
    return sequences, starts


def parts(batch: Batch) -> list[Batch]:
    """Rows for the plain path, so many that it fits."""
    sequences, starts = batch
    number = max(1, PLAIN_TOKENS // max(map(len, sequences)))
    return [(sequences[i : i + number], starts[i : i + number]) for i in range(0, len(sequences), number)]


def values(network: Any, path: str, batch: Batch, packed: Packed, *, learn: bool = False) -> torch.Tensor:
    """Log-probabilities `[scored]`; with `learn` their sum's gradients are left in the weights."""
    flex.FORCED = path == "flex"
    found = []
    with torch.set_grad_enabled(learn):
        for part in parts(batch) if path == "plain" else [batch]:
            value = torch.cat(plain_logprobs(network, *part)) if path == "plain" else packed_logprobs(network, packed)
            if learn:
                value.sum().backward()
            found.append(value.detach())
    return torch.cat(found)


def measured(run: Callable[[], Any], device: str) -> tuple[float, float] | None:
    """Seconds and peak GB; nothing where it does not fit."""

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        began = wait()
        run()
        seconds = wait() - began
        if seconds < 10 * SECONDS:
            began = wait()
            run()
            seconds = wait() - began
            times = min(10, int(SECONDS / max(1e-4, seconds)))
            if times:
                began = wait()
                for _ in range(times):
                    run()
                seconds = (wait() - began) / times
    except torch.OutOfMemoryError:
        return None
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")


def compiling(size: str, dtype: torch.dtype, learns: bool, device: str) -> None:
    s = SIZES[size]
    heads, sizes = (s["heads"], s["shared"]), (s["width"] // s["heads"],) * 2
    began = time.perf_counter()
    with torch.set_grad_enabled(learns):
        worst = flex.trial(torch.device(device), dtype, heads, sizes, learns)
    kind = f"{size} {dtype} {'fw+bw' if learns else 'fw'}"
    print(f"compiled for {kind}: {time.perf_counter() - began:.1f} s; differs by {worst:.1e} of the norm", flush=True)


def gradients(network: Any) -> torch.Tensor:
    """All of them `[weights]`, which are then forgotten."""
    found = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    network.zero_grad(set_to_none=True)
    return found


def apart(network: Any, batch: Batch, packed: Packed) -> str:
    plain = values(network, "plain", batch, packed)
    blocks, sparse = (values(network, path, batch, packed) for path in ("blocks", "flex"))
    return f"{float((blocks - plain).abs().max()):.1e} / {float((sparse - plain).abs().max()):.1e}"


def line(name: str, kind: str, tokens: int, row: int, found: dict[str, tuple[float, float] | None]) -> str:
    cells = [name, kind, f"{tokens:,}", f"{row:,}"]
    cells += ["-" if found.get(path) is None else f"{tokens / found[path][0]:,.0f}" for path in PATHS]  # type: ignore[index]
    for one, other in (("blocks", "plain"), ("flex", "plain"), ("flex", "blocks")):
        a, b = found.get(one), found.get(other)
        cells.append("-" if a is None or b is None else f"{b[0] / a[0]:.2f}x")
    cells.append(" / ".join("-" if found.get(path) is None else f"{found[path][1]:.1f}" for path in PATHS))  # type: ignore[index]
    return f"| {' | '.join(cells)} |"


def measure(size: str, cases: list[str], device: str, shrink: int) -> None:
    network = network_of(size, device)
    flex.FORCED = False  # the comparison is of short rows, for which nothing is compiled
    assert shareable(network), "packed trees do not give this network's numbers"
    kinds = [("fw", False), ("fw+bw", True)]
    for _, learn in kinds[: 2 if device == "cuda" else 1]:
        compiling(size, torch.bfloat16, learn, device)
    titles = "case | pass | plain tokens | row tokens | plain tokens/s | blocks | flex | blocks/plain | flex/plain"
    print(f"\n| {size}: {titles} | flex/blocks | peak GB, plain / blocks / flex |\n{'| --- ' * 11}|", flush=True)
    batches = {case: batch_of(case, SIZES[size]["words"], shrink) for case in cases}
    packs = {case: pack(*batch) for case, batch in batches.items()}
    for case, batch in batches.items():
        tokens = sum(map(len, batch[0]))
        for kind, learn in kinds:
            found = {}
            for path in PATHS:
                if case.startswith("row-") and (path == "plain" or (not learn and device == "cuda")):
                    continue  # these are for blocks beside flex in training
                if learn and path == "flex" and device != "cuda":
                    continue  # it has no backward pass there

                def run(path: str = path, learn: bool = learn, case: str = case, batch: Batch = batch) -> None:
                    values(network, path, batch, packs[case], learn=learn)
                    network.zero_grad(set_to_none=True)

                found[path] = measured(run, device)
            if found:
                print(line(case, kind, tokens, packs[case].ids.shape[1], found), flush=True)
    print(f"\n| {size}: largest difference, blocks / flex from plain | bf16 | fp32 |\n{'| --- ' * 3}|", flush=True)
    batches = {case: batch for case, batch in batches.items() if not case.startswith("row-")}
    half = {case: apart(network, batch, packs[case]) for case, batch in batches.items()}
    if device == "cuda" and "dpo" in cases:
        values(network, "blocks", batches["dpo"], packs["dpo"], learn=True)
        blocks = gradients(network)
        values(network, "flex", batches["dpo"], packs["dpo"], learn=True)
        sparse = gradients(network)
        share = float((sparse - blocks).norm() / blocks.norm())
        note = f"gradients of dpo, bf16, flex from blocks: {share:.1e} of the norm"
        del blocks, sparse
    else:
        note = ""
    full = copy.deepcopy(network).float()
    flex.FORCED = False
    assert shareable(full)
    for case, batch in batches.items():
        small = sum(map(len, batch[0])) * sum(p.numel() for p in full.parameters()) < 6e13  # in fp32: seconds each
        print(f"| {case} | {half[case]} | {apart(full, batch, packs[case]) if small else '-'} |", flush=True)
    print(f"\n{note}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["135m", "1b"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shrink", type=int, default=1, help="divides all lengths")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    warnings.simplefilter("error", SharingWarning)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}; rows from {flex.SHORTEST} tokens on go through flex", flush=True)
    began = time.perf_counter()
    for size in options.sizes:
        measure(size, options.cases, options.device, options.shrink)
        print(f"{time.perf_counter() - began:.0f} s so far\n", flush=True)
        if options.device == "cuda":
            torch.cuda.empty_cache()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(f"{graphs} graphs compiled")


if __name__ == "__main__":
    main()
