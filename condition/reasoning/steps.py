"""Reasoning over many problems at once: each is a program that says what it would ask next.

    def twice(model, messages):                            # a program: reads as if there were one problem
        first, = yield from ask(model, [messages])
        second, = yield from ask(model, [reply(messages, first[0].text, "Are you sure?")])
        return Answer(second[0].text)

    run([twice(model, messages) for messages in problems])  # two calls of the model, whatever the number of problems

`run` lets every program come to its next question, asks all these questions in one call of the model (one for each
sampling that is asked for), and hands the replies back. A question that fails is an error of its own problem.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from condition.errors import (
    BudgetError,
    ConditionError,
    ContractError,
    ControlError,
    Interrupted,
    ModelError,
    SettingsError,
    UnfinishedError,
)
from condition.protocols import Chain, Model
from condition.types import Answer, Completion, Messages, Sampling, Usage

T = TypeVar("T")
_EVERYBODYS = (SettingsError, ContractError, ControlError)
"""Errors of the call, not of a prompt in it."""


class Ask(NamedTuple):
    """One prompt for a model; the reply is a list of `sampling.n` completions, fewer where a budget cut it."""

    model: Model
    messages: Messages
    sampling: Sampling
    fixed: bool = False
    """True for what only reads off a result: it stays greedy where the rest is sampled."""

    @property
    def calls(self) -> int:
        """Completions that are asked for."""
        return self.sampling.n

    def of(self, n: int) -> Ask:
        """The same with n samples."""
        return self._replace(sampling=self.sampling.model_copy(update={"n": n}))


class Consult(NamedTuple):
    """Inputs for a chain that is not made of steps; the reply is an Answer."""

    chain: Chain
    inputs: Mapping[str, Any]

    @property
    def calls(self) -> int:
        """One, whatever the chain does."""
        return 1


Request = Ask | Consult
Program = Generator[Sequence[Request], Sequence[Any], T]
"""Yields what it asks, is sent one reply or error for each, returns its result. A ConditionError ends it only."""


class Outcome(NamedTuple, Generic[T]):
    """Where a program stands: at its next questions, or at its end."""

    asks: Sequence[Request] | None = None
    result: T | None = None
    error: ConditionError | None = None

    def value(self) -> T:
        """The result; raises the error that the program ended with."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # it ended without an error


def ask(
    model: Model, prompts: Sequence[Messages], sampling: Sampling = Sampling(), *, fixed: bool = False
) -> Program[list[list[Completion]]]:
    """Completions for each prompt. Raises the error of the first prompt that has none."""
    replies = yield _asks(model, prompts, sampling, fixed)
    for found in replies:
        if isinstance(found, Exception):
            raise found
    return list(replies)


def tried(
    model: Model, names: Sequence[str], prompts: Sequence[Messages], sampling: Sampling = Sampling()
) -> Program[tuple[list[tuple[str, Completion]], str | None]]:
    """A completion of each prompt that has one, beside its name; and the first error of the others."""
    replies = yield _asks(model, prompts, sampling)
    failed = next((str(found) for found in replies if isinstance(found, ConditionError)), None)
    return [(name, found[0]) for name, found in zip(names, replies, strict=True) if isinstance(found, list)], failed


def _asks(model: Model, prompts: Sequence[Messages], sampling: Sampling, fixed: bool = False) -> list[Ask]:
    if not isinstance(sampling, Sampling):
        raise SettingsError(f"sampling={sampling!r:.60}: give Sampling(max_tokens=64), say")
    return [Ask(model, messages, sampling, fixed) for messages in prompts]


def advanced(program: Program[T], replies: Sequence[Any] | None) -> Outcome[T]:
    """The program with its replies, at its next questions or its end. Questions that are none are answered here."""
    try:
        asks = next(program) if replies is None else program.send(replies)
        while not asks:
            asks = program.send([])
    except StopIteration as end:
        return Outcome(result=end.value)
    except ConditionError as error:
        return Outcome(error=error)
    return Outcome(asks=asks)


def together(programs: Iterable[Program[T]]) -> Program[list[T | ConditionError]]:
    """Several programs as one that asks their questions together. A program that fails leaves its error.

    Equal questions are asked once, with as many samples: a prompt that 16 programs sample is computed once.
    """
    running = list(programs)
    outcomes = [advanced(program, None) for program in running]
    while live := [i for i, outcome in enumerate(outcomes) if outcome.asks is not None]:
        questions = [outcomes[i].asks or () for i in live]
        replies = yield from _merged([request for asks in questions for request in asks])
        rest = iter(replies)
        for i, asks in zip(live, questions, strict=True):
            outcomes[i] = advanced(running[i], [next(rest) for _ in asks])
    return [outcome.error or outcome.value() for outcome in outcomes]


def _merged(requests: Sequence[Request]) -> Program[list[Any]]:
    """Replies to requests of which equal ones are asked as samples of one; equal greedy ones share one completion."""
    places: dict[Any, list[int]] = {}
    for place, request in enumerate(requests):
        same = (id(request.model), *request[1:]) if isinstance(request, Ask) else place
        places.setdefault(same, []).append(place)
    firsts = [requests[found[0]] for found in places.values()]
    joined = [
        first.of(first.calls * len(found)) if isinstance(first, Ask) and not _greedy(first) else first
        for first, found in zip(firsts, places.values(), strict=True)
    ]
    replies = yield joined
    apart: dict[int, Any] = {}
    for first, found, reply in zip(firsts, places.values(), replies, strict=True):
        for turn, place in enumerate(found):
            apart[place] = reply
            if isinstance(first, Ask) and not _greedy(first) and not isinstance(reply, Exception):
                apart[place] = reply[turn * first.calls : (turn + 1) * first.calls] or _cut()
    return [apart[place] for place in range(len(requests))]


def _greedy(request: Ask) -> bool:
    return request.sampling.temperature == 0 and "temperature" in request.sampling.model_fields_set


def _cut() -> BudgetError:
    return BudgetError("over budget: all calls are spent; give the chain a larger Budget, or use what it found")


class Ended(NamedTuple, Generic[T]):
    """What became of one problem, and what it cost."""

    result: T | ConditionError
    usage: Usage


def run(programs: Sequence[Program[T]]) -> list[Ended[T]]:
    """Every program's end, in order.

    Raises `Interrupted` on Ctrl-C, with the results of the programs that had ended by then.
    """
    outcomes: dict[int, Outcome[T]] = {}
    usages = [Usage() for _ in programs]
    try:
        outcomes.update((i, advanced(program, None)) for i, program in enumerate(programs))
        while live := [i for i, outcome in outcomes.items() if outcome.asks is not None]:
            questions = [outcomes[i].asks or () for i in live]
            replies = iter(answered([request for asks in questions for request in asks]))
            for i, asks in zip(live, questions, strict=True):
                own = [next(replies) for _ in asks]
                usages[i] = sum(map(usage_of, own), usages[i])
                outcomes[i] = advanced(programs[i], own)
    except KeyboardInterrupt:  # in a parser or a verifier too, which may take longer than the model
        done = {i: outcome.result for i, outcome in outcomes.items() if outcome.asks is None}
        raise Interrupted({i: result for i, result in done.items() if result is not None}, len(programs)) from None
    return [Ended(outcome.error or outcome.value(), usages[i]) for i, outcome in outcomes.items()]


def answered(requests: Sequence[Request]) -> list[Any]:
    """A reply or a ConditionError to each: one call for each model and sampling, and one for each chain."""
    groups: dict[Any, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(_group(request), []).append(place)
    replies: dict[int, Any] = {}
    for places in groups.values():
        replies.update(zip(places, _asked([requests[place] for place in places]), strict=True))
    return [replies[place] for place in range(len(requests))]


def _group(request: Request) -> Any:
    if isinstance(request, Consult):
        return id(request.chain)
    # what was set counts too: a model elsewhere is sent that only
    return id(request.model), request.sampling, frozenset(request.sampling.model_fields_set)


def _asked(requests: Sequence[Request]) -> list[Any]:
    """Replies to requests of one kind. A call that fails is halved until the prompts that it fails for stand alone."""
    try:
        return _call(requests)
    except UnfinishedError as error:
        failed = {place: _ours(why) for place, why in error.failed.items()}
        return [error.finished.get(i) or failed.get(i, error) for i in range(len(requests))]
    except _EVERYBODYS:
        raise
    except Exception as error:  # a model is somebody else's code: whatever it raises, other problems go on
        if len(requests) == 1:
            return [_ours(error)]
        middle = len(requests) // 2
        return [*_asked(requests[:middle]), *_asked(requests[middle:])]


def _call(requests: Sequence[Request]) -> list[Any]:
    first = requests[0]
    if isinstance(first, Consult):
        found: list[Any] = list(first.chain.batch([r.inputs for r in requests if isinstance(r, Consult)]))
        who = type(first.chain).__name__
    else:
        written = first.model.generate([r.messages for r in requests if isinstance(r, Ask)], first.sampling)
        who = first.model.name
        found = [_whole(list(completions), first.sampling.n, who) for completions in written]
    if len(found) != len(requests):
        raise ModelError(f"{who} gave {len(found)} replies to {len(requests)} prompts")
    return found


def _whole(completions: list[Completion], n: int, who: str) -> list[Completion] | ModelError:
    """The completions of a prompt; an error where they are none, or fewer than were asked for."""
    if other := next((type(one).__name__ for one in completions if not isinstance(one, Completion)), None):
        return ModelError(
            f"{who} gave {other} among its completions: let generate() give a list of them for each prompt"
        )
    if len(completions) >= n:
        return completions
    return ModelError(f"{who} gave {len(completions)} completions where n={n} were asked for: let generate() heed n")


def _ours(error: Exception) -> ConditionError:
    return error if isinstance(error, ConditionError) else ModelError(f"{type(error).__name__}: {error}")


def usage_of(reply: Any) -> Usage:
    """What a reply cost."""
    if isinstance(reply, Answer):
        return reply.usage
    if not isinstance(reply, list):
        return Usage()
    return sum((completion.usage for completion in reply if completion.usage), Usage())
