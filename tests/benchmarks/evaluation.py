"""Few-shot multiple choice beside lm-evaluation-harness: the same network, contexts and continuations.

    python tests/benchmarks/evaluation.py                        24 questions, about ten minutes
    python tests/benchmarks/evaluation.py --questions 2 6 24     how the ratio grows with questions
    python tests/benchmarks/evaluation.py --questions 96 --ours  one side alone

Five examples before each question, 60 words and four options of 6 words each, on the embedded model in fp32. `letters`
scores " A" to " D", `texts` the options themselves. Ours is the whole of `evaluate`, prompts and intervals included;
theirs is `HFLM(batch_size=4).loglikelihood` on contexts that are ready. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from statistics import median
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = "the licence of this program lets you run study share and change it for any purpose as long as".split()  # noqa: SIM905
SHOTS = 5
KINDS = ("letters", "texts")


def task_of(kind: str, questions: int) -> Any:
    """The task, with as many rows."""
    from condition.evaluation import tasks

    numbers = random.Random(0)

    def row() -> dict[str, Any]:
        question, *choices = (" ".join(numbers.choices(WORDS, k=k)) for k in (60, 6, 6, 6, 6))
        return {"question": question, "choices": choices, "answer": numbers.randrange(4)}

    shots = [row() for _ in range(SHOTS)]
    rows = [row() for _ in range(questions)]
    task = tasks.multiple_choice(rows, shots=shots, letters=True)
    if kind == "letters":
        return task
    scored = [
        one._replace(choices=tuple(given["choices"]), target=given["choices"][given["answer"]])
        for one, given in zip(task.rows, rows, strict=True)
    ]
    return tasks.Task("texts", scored, measure=_right, prompt=task.prompt)


def _right(row: Any, reply: Any) -> dict[str, float]:
    return {"accuracy": float(reply.text == row.target)}


def ours(kind: str, questions: int) -> dict[str, Any]:
    import torch

    import condition as cd
    from condition.evaluation import scored

    torch.set_num_threads(int(THREADS))
    base = cd.load(dtype="float32")
    base.score(["warm up"], [["once", "twice"]])  # the probe of exactness, once a model
    task = task_of(kind, questions)
    kept: list[Any] = []
    whole = scored.scores_of

    def seen(*given: Any) -> Any:
        kept.extend(found := whole(*given))
        return found

    import condition.evaluation.subjects as subjects

    subjects.scores_of = seen
    began = time.perf_counter()
    cd.evaluate(base, task)
    seconds = time.perf_counter() - began
    messages = task.prompt.format(**task.rows[0].inputs)
    return {
        "seconds": seconds,
        "scores": [score.logprob for row in kept for score in row],
        "context": len(base.render(messages).ids),
    }


def peer(kind: str, questions: int) -> dict[str, Any]:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    import condition as cd

    torch.set_num_threads(int(THREADS))
    base = cd.load(dtype="float32")
    base.network.set_attn_implementation("sdpa")
    lm = HFLM(pretrained=base.network, tokenizer=base.tokenizer, batch_size=4, device="cpu")
    task = task_of(kind, questions)
    pairs = [(task.prompt.format(**row.inputs)[0].content, f" {choice}") for row in task.rows for choice in row.choices]
    lm.loglikelihood([Instance("loglikelihood", {}, ("warm", " up"), 0)], disable_tqdm=True)
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    began = time.perf_counter()
    found = lm.loglikelihood(asked, disable_tqdm=True)
    return {"seconds": time.perf_counter() - began, "scores": [score for score, _ in found]}


def run(side: str, kind: str, questions: int) -> dict[str, Any]:
    """One side, once, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", side, kind, str(questions)], capture_output=True, text=True
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("MEASURED ")]
    if not found:
        raise SystemExit(f"{side} {kind} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(found[0].removeprefix("MEASURED ")))


def table(kinds: list[str], counts: list[int], repeats: int, alone: bool) -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm-eval"))
    print(f"medians of {repeats} runs in turn, {THREADS} threads, fp32, {versions}\n")
    print(
        "| choices | questions | context tokens | HFLM s | ours s | ratio | peak GB, HFLM / ours | differ by at most |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in kinds:
        for count in counts:
            mine, theirs = [], []
            for _ in range(repeats):
                mine.append(run("ours", kind, count))
                theirs += [] if alone else [run("peer", kind, count)]
            seconds = median(r["seconds"] for r in mine)
            row = f"| {kind} | {count} | {mine[0]['context']} |"
            if alone:
                print(f"{row} | {seconds:.2f} | | {mine[0]['peak_gb']:.2f} | |", flush=True)
                continue
            slow = median(r["seconds"] for r in theirs)
            apart = max(abs(a - b) for a, b in zip(mine[0]["scores"], theirs[0]["scores"], strict=True))
            peaks = f"{theirs[0]['peak_gb']:.2f} / {mine[0]['peak_gb']:.2f}"
            print(f"{row} {slow:.1f} | {seconds:.2f} | {slow / seconds:.1f}x | {peaks} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--questions", type=int, nargs="+", default=[24])
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments.add_argument("--repeats", type=int, default=1)
    arguments.add_argument("--ours", action="store_true", help="without the peer")
    arguments.add_argument("--child", nargs=3, metavar=("SIDE", "KIND", "QUESTIONS"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child:
        side, kind, count = given.child
        measured = (ours if side == "ours" else peer)(kind, int(count))
        measured["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print("MEASURED " + json.dumps(measured))
    else:
        table(given.kinds, given.questions, given.repeats, given.ours)
