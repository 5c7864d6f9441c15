"""What joining saves: requests through `ainvoke`, `abatch` and `astream` that wait at once, beside the same in turn.

    python tests/benchmarks/joined.py
    python tests/benchmarks/joined.py --requests 64 --tokens 16

A tiny random network and the embedded model, greedy, one short question a request, each with the same system message.
All go through LangChain. Seconds, processor time, which the ratio is of, and the memory that a way added to the peak of
those before it, in one process.
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


async def in_turn(llm: Any, inputs: list[Any]) -> list[str]:
    return [str((await llm.ainvoke(one)).content) for one in inputs]


async def ainvoke(llm: Any, inputs: list[Any]) -> list[str]:
    return [str(answer.content) for answer in await asyncio.gather(*map(llm.ainvoke, inputs))]


async def abatch(llm: Any, inputs: list[Any]) -> list[str]:
    return [str(answer.content) for answer in await llm.abatch(inputs)]


async def astream(llm: Any, inputs: list[Any]) -> list[str]:
    async def said(one: Any) -> str:
        return "".join([str(chunk.content) async for chunk in llm.astream(one)])

    return list(await asyncio.gather(*map(said, inputs)))


def measured(ask: Any, llm: Any, inputs: list[Any]) -> tuple[float, float, float, list[str]]:
    """Seconds, seconds of processor time, megabytes added to the peak, and the answers."""
    before, began, worked = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    said = asyncio.run(ask(llm, inputs))
    seconds, busy = time.perf_counter() - began, time.process_time() - worked
    return seconds, busy, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()

    import condition as cd

    print("| model | way | seconds | of processor time | ratio | MB more | equal answers |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for make in (tiny, cd.load):
        llm = cd.ChatCondition(make(), max_tokens=options.tokens)
        inputs = questions(options.requests)
        asyncio.run(ainvoke(llm, inputs[:2]))  # weights are packed and kernels chosen
        wanted, first = list[str](), 0.0
        for ask in (in_turn, ainvoke, abatch, astream):
            seconds, busy, more, said = measured(ask, llm, inputs)
            if ask is in_turn:
                wanted, first = said, busy
            same = sum(one == other for one, other in zip(said, wanted, strict=True))
            print(
                f"| {llm.model.name} | {ask.__name__} | {seconds:.1f} | {busy:.1f} | {first / busy:.1f}x | {more:.0f} "
                f"| {same} of {options.requests} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
