"""A tree of thoughts over many problems at once, beside the very same prompts one by one. The embedded model.

    python tests/benchmarks/reasoning.py
    python tests/benchmarks/reasoning.py --problems 4 --breadth 2 --depth 1 --tokens 16

Both sides are warm: what was loaded and asked first is not timed. What the model says is not looked at.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

THINGS = ("a bridge", "a garden", "a kite", "a chair", "a soup", "a song", "a map", "a boat", "a lamp", "a wall")


class Recorded:
    """A model that keeps what it was asked."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name = model.name
        self.asked: list[tuple[Any, Any]] = []
        self.calls = 0

    def generate(self, prompts: Sequence[Any], sampling: Any = None, *, control: Any = None) -> Any:
        self.calls += 1
        self.asked += [(prompt, sampling) for prompt in prompts]
        return self.model.generate(prompts, sampling, control=control)


def tree(given: argparse.Namespace) -> None:
    import condition as cd

    model = Recorded(cd.load())
    sampling = cd.Sampling(max_tokens=given.tokens, temperature=0.0)
    search = cd.TreeOfThoughts(model, breadth=given.breadth, depth=given.depth, thoughts=3, sampling=sampling)
    questions = [f"What are the steps to make {thing}?" for thing in THINGS[: given.problems]]
    search.invoke(questions[0])
    model.asked.clear()
    model.calls = 0
    began = time.perf_counter()
    answers = search.batch(questions)
    together = time.perf_counter() - began
    asked = list(model.asked)
    began = time.perf_counter()
    for prompt, sampling in asked:
        model.model.generate([prompt], sampling)
    apart = time.perf_counter() - began
    failed = sum(answer.error is not None for answer in answers)
    print(f"tree: {len(asked)} prompts in {model.calls} calls, {failed} of {len(answers)} problems without an answer")
    print(f"together {together:.1f} s, one by one {apart:.1f} s: {apart / together:.1f}x ({THREADS} threads)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=10, choices=range(1, len(THINGS) + 1))
    parser.add_argument("--breadth", type=int, default=3)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    tree(parser.parse_args())


if __name__ == "__main__":
    main()
