"""What joining saves: requests through `ainvoke` that wait at once, beside the same ones in turn.

    python tests/benchmarks/joined.py
    python tests/benchmarks/joined.py --requests 64 --tokens 16

A tiny random network and the embedded model, greedy, one short question a request, each with the same system message.
Both sides go through LangChain. Seconds and the most memory that a side added, in one process, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path[0] = str(Path(__file__).resolve().parents[2])


def tiny() -> Any:
    from condition.models.contract import Source
    from condition.models.local import LocalModel
    from tests.conftest import _tiny, _tiny_tokenizer

    return LocalModel(_tiny("llama"), _tiny_tokenizer(), source=Source(kind="memory", name="tiny random Llama"))


def questions(number: int) -> list[Any]:
    return [[("system", "Answer in one short sentence."), ("user", f"Name {i} rivers.")] for i in range(number)]


async def joined(llm: Any, inputs: list[Any]) -> list[str]:
    return [str(answer.content) for answer in await asyncio.gather(*map(llm.ainvoke, inputs))]


async def in_turn(llm: Any, inputs: list[Any]) -> list[str]:
    return [str((await llm.ainvoke(one)).content) for one in inputs]


def measured(ask: Any, llm: Any, inputs: list[Any]) -> tuple[float, float, list[str]]:
    """Seconds, megabytes added to the peak, and the answers."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    said = asyncio.run(ask(llm, inputs))
    seconds = time.perf_counter() - began
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()

    import condition as cd

    print("| model | in turn, s | at once, s | ratio | MB more in turn / at once | equal answers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for make in (tiny, cd.load):
        llm = cd.ChatCondition(make(), max_tokens=options.tokens)
        inputs = questions(options.requests)
        asyncio.run(joined(llm, inputs[:2]))  # weights are packed and kernels chosen
        alone, more, wanted = measured(in_turn, llm, inputs)
        together, most, said = measured(joined, llm, inputs)
        same = sum(one == other for one, other in zip(said, wanted, strict=True))
        print(
            f"| {llm.model.name} | {alone:.1f} | {together:.1f} | {alone / together:.1f}x | {more:.0f} / {most:.0f} "
            f"| {same} of {options.requests} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
