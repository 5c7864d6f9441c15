"""Streams at the same time: joined, none lost, none mixed, left without a trace, each with its own error."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
import torch

from condition.control.grammar import Choice, Regex
from condition.control.words import Words
from condition.errors import ControlError, ModelError, SharingWarning
from condition.integrations import streams as module
from condition.integrations.langchain import ChatCondition
from condition.integrations.streams import Streams
from condition.integrations.waiting import Ticket
from condition.models.local import LocalModel
from condition.models.writing import Writing
from condition.types import Completion, Sampling
from tests.conftest import TinyModel
from tests.integrations.test_waiting import Slow, asked

SAMPLING = Sampling(max_tokens=6)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Streams of each group that is begun."""
    seen: list[int] = []

    def noted(writer: Any, batch: Any, *given: Any) -> Writing:
        seen.append(len(batch))
        return Writing(writer, batch, *given)

    monkeypatch.setattr(module, "Writing", noted)
    return seen


async def whole(pieces: AsyncIterator[str | Completion]) -> Completion:
    """The Completion, after a look at what came before it."""
    *texts, last = [piece async for piece in pieces]
    assert isinstance(last, Completion)
    assert all(isinstance(text, str) and text for text in texts)
    assert "".join(map(str, texts)) == last.text
    return last


async def all_of(streams: Streams, tickets: list[Ticket]) -> list[Any]:
    return await asyncio.gather(*(whole(streams.read(ticket)) for ticket in tickets), return_exceptions=True)


def alone(model: LocalModel, numbers: range, sampling: Sampling = SAMPLING) -> list[str]:
    return [model.generate([asked(i)], sampling)[0][0].text for i in numbers]


def test_those_that_begin_together_are_written_together(tiny_model: TinyModel, groups: list[int]) -> None:
    model = tiny_model()
    found = asyncio.run(all_of(Streams(), [Ticket(model, [asked(i)], SAMPLING) for i in range(64)]))
    assert [one.text for one in found] == alone(model, range(64))
    assert sum(groups) == 64
    assert len(groups) == 2


def test_a_stream_says_what_generate_says(tiny_model: TinyModel) -> None:
    """Of unlike lengths, by a stop token, a stop text, a control and a seed."""
    model = tiny_model()
    drawn = Sampling(max_tokens=20, temperature=1.0, seed=3, stop=("e", "zz"), n=4)
    for control in (None, Regex("[a-z ]{2,9}"), Words(ban=["in"])):
        prompts = [asked(i) for i in range(6)]
        found = asyncio.run(all_of(Streams(), [Ticket(model, [one], drawn, control) for one in prompts]))
        wanted = [model.generate([one], drawn.model_copy(update={"n": 1}), control=control)[0][0] for one in prompts]
        assert len({len(one.token_ids) for one in wanted}) > 2
        for one, other in zip(found, wanted, strict=True):
            assert one.token_ids == other.token_ids
            assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_what_is_not_alike_is_not_joined(tiny_model: TinyModel, groups: list[int]) -> None:
    one, other, short = tiny_model(), tiny_model(), Sampling(max_tokens=2)
    given = [(one, SAMPLING), (other, SAMPLING), (one, short), (one, SAMPLING)]
    found = asyncio.run(all_of(Streams(), [Ticket(m, [asked(i)], s) for i, (m, s) in enumerate(given)]))
    assert sorted(groups) == [1, 1, 2]
    assert [one.text for one in found] == [m.generate([asked(i)], s)[0][0].text for i, (m, s) in enumerate(given)]


def test_equal_prompts_with_a_seed_are_as_if_alone(tiny_model: TinyModel, groups: list[int]) -> None:
    model, drawn = tiny_model(), Sampling(max_tokens=6, temperature=2.0, seed=1)
    found = asyncio.run(all_of(Streams(), [Ticket(model, [asked(i)], drawn) for i in (0, 0, 1)]))
    assert [one.text for one in found] == [*alone(model, range(1), drawn), *alone(model, range(2), drawn)]
    assert sorted(groups) == [1, 2]


def test_one_that_begins_later_goes_on_beside_the_others(tiny_model: TinyModel, groups: list[int]) -> None:
    model, streams, order = tiny_model(), Streams(), list[str]()

    async def read(name: str, most: int, number: int) -> None:
        await whole(streams.read(Ticket(model, [asked(number)], Sampling(max_tokens=most))))
        order.append(name)

    async def main() -> None:
        long = asyncio.create_task(read("long", 60, 0))
        while not groups:
            await asyncio.sleep(0.001)
        await asyncio.gather(long, read("short", 2, 1))

    asyncio.run(main())
    assert groups == [1, 1]
    assert order == ["short", "long"]


def test_nobody_has_to_read_for_others_to_go_on(tiny_model: TinyModel) -> None:
    model, streams = tiny_model(), Streams()

    async def main() -> list[str]:
        slow, quick = (streams.read(Ticket(model, [asked(i)], SAMPLING)) for i in range(2))
        async with aclosing(slow):
            began = asyncio.create_task(anext(slow))
            said = await whole(quick)
            first = await began
            rest = [piece async for piece in slow]
        return [said.text, "".join([str(first), *map(str, rest[:-1])])]

    assert asyncio.run(main()) == alone(model, range(2))[::-1]


def test_without_room_a_stream_waits_and_lets_the_oldest_go_on(tiny_model: TinyModel, groups: list[int]) -> None:
    model, streams = tiny_model(), Streams()
    model.memory_bytes = 1
    most = 0

    async def watched() -> list[Any]:
        nonlocal most
        work = asyncio.create_task(all_of(streams, [Ticket(model, [asked(i)], SAMPLING) for i in range(5)]))
        while not work.done():
            most = max(most, len(streams._groups))
            await asyncio.sleep(0)
        return await work

    found = asyncio.run(watched())
    assert [one.text for one in found] == alone(model, range(5))
    assert groups == [1] * 5
    assert most == 1


def test_room_is_made_also_where_the_oldest_has_no_reader(tiny_model: TinyModel) -> None:
    model, streams = tiny_model(), Streams()
    model.memory_bytes = 1

    async def main() -> Completion:
        idle = streams.read(Ticket(model, [asked(0)], Sampling(max_tokens=30)))
        await anext(idle)  # and no more: whoever holds it does something else
        return await asyncio.wait_for(whole(streams.read(Ticket(model, [asked(1)], SAMPLING))), 30)

    assert asyncio.run(main()).text == alone(model, range(2))[1]


def test_one_that_is_left_is_written_no_further(tiny_model: TinyModel, groups: list[int]) -> None:
    """By a task that is cancelled, or a loop that ends early; the others say what they would have said."""
    model, streams = tiny_model(), Streams()
    long = Sampling(max_tokens=80)
    steps: list[int] = []
    step = Writing.step

    def counted(self: Writing) -> Any:
        found = step(self)
        steps.append(len(found))
        return found

    async def early(number: int) -> None:
        async with aclosing(streams.read(Ticket(model, [asked(number)], long))) as pieces:
            await anext(pieces)

    async def main() -> Completion:
        tasks = [asyncio.create_task(whole(streams.read(Ticket(model, [asked(i)], long)))) for i in range(3)]
        ended = asyncio.create_task(early(3))
        while len(steps) < 3:
            await asyncio.sleep(0.001)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.wait([*tasks[:2], ended])
        return await tasks[2]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Writing, "step", counted)
        found = asyncio.run(main())
    assert groups == [4]
    assert steps[0] == 4
    assert steps[-1] == 1
    assert found.text == alone(model, range(2, 3), long)[0]
    assert streams._groups == []
    assert streams._waiting == []


def test_one_that_is_left_before_it_begins_is_never_written(tiny_model: TinyModel, groups: list[int]) -> None:
    model, streams = tiny_model(), Streams()

    async def main() -> Completion:
        kept, left = (asyncio.create_task(whole(streams.read(Ticket(model, [asked(i)], SAMPLING)))) for i in range(2))
        await asyncio.sleep(0)
        left.cancel()
        return await kept

    assert asyncio.run(main()).text == alone(model, range(1))[0]
    assert groups == [1]


def test_errors_are_their_own(tiny_model: TinyModel) -> None:
    """One that needs more tokens than it may say fails before the first token; the others go on without it."""
    model, streams = tiny_model(max_position_embeddings=128), Streams()
    long = (asked(0)[0].model_copy(update={"content": "word " * 200}),)
    tickets = [Ticket(model, [prompt], SAMPLING) for prompt in (asked(0), long, asked(1))]
    good, bad, other = asyncio.run(all_of(streams, tickets))
    assert isinstance(bad, ModelError)
    assert str(bad).startswith("the prompt has")
    assert [good.text, other.text] == alone(model, range(2))


def test_where_a_group_fails_each_is_tried_alone(tiny_model: TinyModel, groups: list[int]) -> None:
    model = tiny_model()
    impossible = Words(require=["Constantinople"])
    found = asyncio.run(all_of(Streams(), [Ticket(model, [asked(i)], SAMPLING, impossible) for i in range(3)]))
    assert all(isinstance(error, ControlError) and "raise max_tokens" in str(error) for error in found)
    assert groups == [3, 1, 1, 1]


def test_a_network_without_numbers_is_an_error_of_each(tiny_model: TinyModel) -> None:
    model = tiny_model()
    alone(model, range(1))
    model.network.get_output_embeddings().weight.data.fill_(float("nan"))
    found = asyncio.run(all_of(Streams(), [Ticket(model, [asked(i)], SAMPLING) for i in range(3)]))
    assert all(isinstance(error, ModelError) and "NaN" in str(error) for error in found)


class Breaks:
    """A Control of somebody's that fails at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def processor(self, tokenizer: Any, /) -> Any:
        slow, calls = Slow(), 0
        slow.go_on.set()
        inner = slow.processor(tokenizer)

        def limit(input_ids: Any, scores: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > self.at:
                raise RuntimeError("no idea")
            return inner(input_ids, scores)

        return limit


@pytest.mark.parametrize("at", [0, 2])
def test_a_control_of_anybody_touches_no_other(tiny_model: TinyModel, groups: list[int], at: int) -> None:
    model, control = tiny_model(), Breaks(at)
    tickets = [Ticket(model, [asked(i)], SAMPLING, control) for i in range(2)]
    found = asyncio.run(all_of(Streams(), [*tickets, Ticket(model, [asked(2)], SAMPLING)]))
    assert [str(error) for error in found[:2]] == ["no idea"] * 2
    assert found[2].text == alone(model, range(2, 3))[0]
    assert groups == [1, 1, 1]


@pytest.mark.filterwarnings("ignore::condition.errors.SharingWarning")
def test_a_network_that_can_not_share_is_written_by_itself(tiny_model: TinyModel, groups: list[int]) -> None:
    model, plain = tiny_model(), tiny_model()
    plain.network.set_attn_implementation("eager")
    found = asyncio.run(all_of(Streams(), [Ticket(plain, [asked(i)], SAMPLING) for i in range(3)]))
    assert [one.text for one in found] == alone(model, range(3))
    assert groups == []
    with pytest.warns(SharingWarning):
        asyncio.run(all_of(Streams(), [Ticket(eager(tiny_model), [asked(0)], SAMPLING)]))


def eager(tiny_model: TinyModel) -> LocalModel:
    model = tiny_model()
    model.network.set_attn_implementation("eager")
    return model


def test_nothing_stays_in_memory(tiny_model: TinyModel) -> None:
    model, streams = tiny_model(), Streams()

    def tensors() -> int:
        asyncio.run(all_of(streams, [Ticket(model, [asked(i)], SAMPLING) for i in range(16)]))
        streams._thread.submit(int).result()  # what came before has been let go
        gc.collect()
        return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())

    tensors()
    assert tensors() == tensors()


def test_in_langchain_they_are_joined(tiny_model: TinyModel, groups: list[int]) -> None:
    llm = ChatCondition(tiny_model(), max_tokens=6)

    async def said(number: int) -> str:
        return "".join([str(chunk.content) async for chunk in llm.astream(f"What is {number}?")])

    async def main() -> list[str]:
        return list(await asyncio.gather(*(said(i) for i in range(12))))

    assert asyncio.run(main()) == [str(llm.invoke(f"What is {i}?").content) for i in range(12)]
    assert groups == [12]


@pytest.mark.parametrize("choose", [lambda llm: llm, lambda llm: llm.bind(control=Choice(["yes", "no"]))])
def test_a_chunk_tells_what_invoke_tells(tiny_model: TinyModel, choose: Callable[[Any], Any]) -> None:
    llm = choose(ChatCondition(tiny_model(), max_tokens=6, logprobs=True))

    async def main() -> Any:
        total = None
        async for chunk in llm.astream("What is 1?"):
            total = chunk if total is None else total + chunk
        return total

    streamed, invoked = asyncio.run(main()), llm.invoke("What is 1?")
    assert streamed.content == invoked.content
    assert streamed.usage_metadata == invoked.usage_metadata
    told, wanted = streamed.response_metadata, invoked.response_metadata
    assert told["finish_reason"] == wanted["finish_reason"]
    assert [one["token_id"] for one in told["logprobs"]["content"]] == [
        one["token_id"] for one in wanted["logprobs"]["content"]
    ]
