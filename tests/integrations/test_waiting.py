"""Requests that wait together: none lost, none mixed, errors and cancellations their own."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor

from condition.errors import ModelError
from condition.integrations.langchain import ChatCondition
from condition.integrations.llm import ConditionLLM
from condition.integrations.streams import STREAMS
from condition.integrations.waiting import DESK, Desk, Ticket
from condition.models import generate as generate_module
from condition.models.local import LocalModel
from condition.types import Completion, Message, Messages, Sampling
from tests.conftest import TinyModel

SAMPLING = Sampling(max_tokens=5)


def asked(number: int) -> Messages:
    return (Message("user", f"What is {number}? " + "Blue. " * (number % 5)),)


def texts(found: list[list[Completion]]) -> list[str]:
    return [own[0].text for own in found]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts of each call of a model."""
    seen: list[int] = []
    generate = LocalModel.generate

    def counted(self: LocalModel, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(prompts))
        return generate(self, prompts, *args, **kwargs)

    monkeypatch.setattr(LocalModel, "generate", counted)
    return seen


async def ask_all(desk: Desk, tickets: list[Ticket]) -> list[list[list[Completion]]]:
    return list(await asyncio.gather(*(desk.ask_async(ticket) for ticket in tickets)))


def test_64_at_once_are_written_in_two_calls_as_if_alone(tiny_model: TinyModel, calls: list[int]) -> None:
    model = tiny_model()
    alone = [texts(model.generate([asked(i)], SAMPLING)) for i in range(64)]
    calls.clear()
    found = asyncio.run(ask_all(Desk(), [Ticket(model, [asked(i)], SAMPLING) for i in range(64)]))
    assert [texts(one) for one in found] == alone
    assert calls == [generate_module.BATCH_ROWS] * 2


def test_threads_and_an_event_loop_together(tiny_model: TinyModel) -> None:
    model, desk = tiny_model(), Desk()
    alone = [texts(model.generate([asked(i)], SAMPLING)) for i in range(24)]
    with ThreadPoolExecutor(12) as pool:
        threads = [pool.submit(desk.ask, Ticket(model, [asked(i)], SAMPLING)) for i in range(12)]
        found = asyncio.run(ask_all(desk, [Ticket(model, [asked(i)], SAMPLING) for i in range(12, 24)]))
        assert [texts(one.result()) for one in threads] + [texts(one) for one in found] == alone


def test_what_is_not_alike_is_not_joined(tiny_model: TinyModel, calls: list[int]) -> None:
    one, other = tiny_model(), tiny_model()
    short = Sampling(max_tokens=2)
    tickets = [
        Ticket(model, [asked(i)], sampling)
        for i, (model, sampling) in enumerate([(one, SAMPLING), (other, SAMPLING), (one, short), (one, SAMPLING)])
    ]
    asyncio.run(ask_all(Desk(), tickets))
    assert sorted(calls) == [1, 1, 2]


def test_a_seed_gives_what_it_gives_alone(tiny_model: TinyModel, calls: list[int]) -> None:
    """In one call equal prompts would get samples of their own."""
    model, sampling = tiny_model(), Sampling(max_tokens=5, temperature=2.0, seed=1)
    prompts = [asked(0), asked(0), asked(1)]
    alone = [texts(model.generate([prompt], sampling)) for prompt in prompts]
    calls.clear()
    found = asyncio.run(ask_all(Desk(), [Ticket(model, [prompt], sampling) for prompt in prompts]))
    assert [texts(one) for one in found] == alone
    assert sorted(calls) == [1, 2]


def test_an_error_is_its_own(tiny_model: TinyModel) -> None:
    async def main() -> list[Any]:
        tickets = [Ticket(model, [prompt], SAMPLING) for prompt in (asked(0), long, asked(1))]
        return await asyncio.gather(*map(desk.ask_async, tickets), return_exceptions=True)

    model, desk, long = tiny_model(), Desk(), (Message("user", "word " * 600),)
    good, bad, other = asyncio.run(main())
    assert isinstance(bad, ModelError)
    assert str(bad).startswith("the prompt has")  # where it stands in the joined call is nothing to its own caller
    assert [texts(good), texts(other)] == [texts(model.generate([asked(i)], SAMPLING)) for i in range(2)]


class Slow:
    """A Control that allows all; it tells when the network is at work, and may wait or be interrupted there."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.steps, self.interrupt = threading.Event(), threading.Event(), 0, False

    def processor(self, tokenizer: Any, /) -> LogitsProcessor:
        outer = self

        class Watch(LogitsProcessor):
            def __call__(self, input_ids: Any, scores: Any) -> Any:
                outer.steps += 1
                outer.begun.set()
                if outer.interrupt:
                    outer.interrupt = False
                    raise KeyboardInterrupt
                outer.go_on.wait(10)
                return scores

        return Watch()


def test_a_cancelled_request_frees_its_place(tiny_model: TinyModel, calls: list[int]) -> None:
    async def main() -> str:
        first = asyncio.create_task(desk.ask_async(Ticket(model, [asked(0)], Sampling(max_tokens=400), slow)))
        await asyncio.to_thread(slow.begun.wait, 10)
        waiting = [asyncio.create_task(desk.ask_async(Ticket(model, [asked(i)], SAMPLING))) for i in range(1, 4)]
        await asyncio.sleep(0)
        for task in (first, waiting[1]):
            task.cancel()
        await asyncio.wait([first, waiting[1]])
        slow.go_on.set()
        return "".join(texts(await waiting[0]) + texts(await waiting[2]))

    model, desk, slow = tiny_model(), Desk(), Slow()
    said = asyncio.run(main())
    assert slow.steps < 5  # of 400: its row was let go
    assert calls == [1, 2]  # the waiting one that was cancelled was never written
    assert said == "".join(texts(model.generate([asked(1), asked(3)], SAMPLING)))


def test_ctrl_c_in_one_thread_loses_no_other(tiny_model: TinyModel) -> None:
    model, desk, slow = tiny_model(), Desk(), Slow()
    slow.interrupt = True
    slow.go_on.set()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(desk.ask, Ticket(model, [asked(i)], SAMPLING, slow)) for i in range(4)]
        errors = [one.exception(30) for one in asking]
    assert sum(isinstance(error, KeyboardInterrupt) for error in errors) == 1
    alone = [texts(model.generate([asked(i)], SAMPLING)) for i in range(4)]
    for one, error, said in zip(asking, errors, alone, strict=True):
        assert error is not None or texts(one.result()) == said


WAYS = ("ainvoke", "abatch", "astream")
MODELS = (ChatCondition, ConditionLLM)


async def said(llm: Any, way: str, inputs: list[Any]) -> list[str]:
    """Texts of requests that all wait at once: each by itself, in eights, or piece by piece."""
    if way == "ainvoke":
        found = await asyncio.gather(*(llm.ainvoke(one) for one in inputs))
    elif way == "abatch":
        parts = await asyncio.gather(*(llm.abatch(inputs[i : i + 8]) for i in range(0, len(inputs), 8)))
        found = [answer for part in parts for answer in part]
    else:
        found = await asyncio.gather(*(streamed(llm, one) for one in inputs))
    return [str(getattr(answer, "content", answer)) for answer in found]


async def streamed(llm: Any, given: Any) -> str:
    return "".join([str(getattr(piece, "content", piece)) async for piece in llm.astream(given)])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_64_at_once_through_langchain_end_as_if_alone(tiny_model: TinyModel, kind: Any, way: str) -> None:
    llm = kind(tiny_model(), max_tokens=5, temperature=1.0, seed=1)
    inputs = [f"What is {i}? " + "Blue. " * (i % 5) for i in range(64)]
    alone = [str(getattr(answer, "content", answer)) for answer in map(llm.invoke, inputs)]
    assert len(set(alone)) == 64
    assert asyncio.run(said(llm, way, inputs)) == alone


@pytest.mark.parametrize("way", WAYS)
def test_each_of_many_has_its_own_error(tiny_model: TinyModel, way: str) -> None:
    llm = ConditionLLM(tiny_model(), max_tokens=5)
    inputs = ["What is 1?", "word " * 600, "What is 2?", ""]

    async def main() -> list[Any]:
        if way == "abatch":
            return await llm.abatch(inputs, return_exceptions=True)  # type: ignore[arg-type]
        return await asyncio.gather(*(said(llm, way, [one]) for one in inputs), return_exceptions=True)

    good, long, other, empty = asyncio.run(main())
    assert "".join([*good, *other]) == llm.invoke("What is 1?") + llm.invoke("What is 2?")
    assert isinstance(long, ModelError)
    assert "shorten it" in str(long)
    assert isinstance(empty, ModelError)
    assert "is empty" in str(empty)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_cancelled_request_frees_its_place_in_langchain(tiny_model: TinyModel, kind: Any, way: str) -> None:
    llm, slow = kind(tiny_model(), max_tokens=400), Slow()
    limited = llm.bind(control=slow)

    async def main() -> list[str]:
        task = asyncio.create_task(said(limited, way, ["What is 1?", "What is 2?"]))
        await asyncio.to_thread(slow.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        slow.go_on.set()
        return await said(llm.bind(max_tokens=5), way, ["What is 3?"])

    [answer] = asyncio.run(main())
    assert answer == str(getattr(found := llm.invoke("What is 3?", max_tokens=5), "content", found))
    assert slow.steps < 9  # of 400, or 800 in turn: nobody waits for them


@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_batch_begins_nothing_more(tiny_model: TinyModel, way: str) -> None:
    """What would have been written in its turn is not written any more."""
    slow = Slow()
    limited = ConditionLLM(tiny_model(), max_tokens=400).bind(control=slow)

    async def main() -> None:
        if way == "abatch":
            work: Any = limited.abatch(["What is 1?"] * 4, {"max_concurrency": 1}, return_exceptions=True)
        else:
            work = said(limited, way, ["What is 1?"] * 4)
        task = asyncio.create_task(work)
        await asyncio.to_thread(slow.begun.wait, 10)
        task.cancel()
        slow.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert slow.steps < 20  # of 1,600


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_flat(tiny_model: TinyModel, way: str) -> None:
    llm = ConditionLLM(tiny_model(), max_tokens=2)

    def taken() -> tuple[int, int]:
        """Bytes of Python's, and tensors."""
        assert len(asyncio.run(said(llm, way, [f"What is {i}?" for i in range(64)]))) == 64
        for thread in (DESK._writer, STREAMS._thread):
            thread.submit(int).result()  # what came before has been let go
        gc.collect()
        tensors = sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())
        return tracemalloc.get_traced_memory()[0], tensors

    tracemalloc.start()
    try:
        taken()
        first = taken()
        taken()
        last = taken()
    finally:
        tracemalloc.stop()
    assert last[0] - first[0] < 50_000  # of 128 requests: less than four hundred bytes each
    assert last[1] == first[1]
