"""Chains joined by names: each reads inputs and what others made, and makes one value of its own name.

    facts = ChainOfThought(model, "What is known about {person}?", parse=str.strip)
    poem = ChainOfThought(model, "Write two lines from these facts:\\n{facts}", parse=str.strip)
    Sequence({"facts": facts, "poem": poem}).invoke({"person": "Ada Lovelace"})          # the answer of the last
    Parallel({"short": short, "long": long}).invoke({"person": "Ada"}).parsed["long"]    # both at once

A name that nobody makes, or that nobody reads, is found when the chains are joined.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, final

from condition.errors import ConditionError, SettingsError
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.direct import Direct, as_steps
from condition.reasoning.steps import Program, together
from condition.types import Answer, Completion


@final
class Sequence(Reasoner):
    """Chains one after the other; each may read the inputs and the texts of all before it. The last one answers.

    `inputs` are the names that will be given: with them, a name that is neither given nor made is an error, and
    without them it is an input. A value that nobody reads, or that hides an input, is an error in any case.
    Raises SettingsError when the chains do not join. The Answer has what each chain made as reasoning, and the texts by
    name in `parsed`. A chain that fails ends the problem.
    """

    def __init__(
        self, chains: Mapping[str, Any], *, inputs: Iterable[str] | None = None, budget: Budget | None = None
    ) -> None:
        self.chains = _chains(chains)
        self.budget = budget
        self._variables = _joined(self.chains, None if inputs is None else frozenset(inputs))

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        values: dict[str, Any] = dict(inputs)
        made: dict[str, Answer] = {}
        for name, chain in self.chains.items():
            try:
                made[name] = yield from chain.within(values)
            except ConditionError as failed:
                made[name] = Answer("", error=str(failed))
            if made[name].error is not None:
                break
            values.update({name: made[name].text} | (made[name].parsed if isinstance(chain, Parallel) else {}))
        last = made[name]
        text = last.text if name == list(self.chains)[-1] else ""
        error = None if last.error is None else f"{name}: {last.error}"
        return _told(made).model_copy(update={"text": text, "score": last.score, "error": error})


@final
class Parallel(Reasoner):
    """Chains side by side on the same inputs: each step of all of them is asked together.

    The Answer's text has each chain's text behind its name, a line each, and `parsed` the texts by name. In a Sequence
    later chains may read any of them. A chain that fails has no text, and `error` says why.
    """

    def __init__(
        self, chains: Mapping[str, Any], *, inputs: Iterable[str] | None = None, budget: Budget | None = None
    ) -> None:
        self.chains = _chains(chains)
        self.budget = budget
        self._variables = frozenset[str]().union(*(chain.variables for chain in self.chains.values()))
        if inputs is not None:
            for name, chain in self.chains.items():
                _check_reads(name, chain, frozenset(inputs))

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        ends = yield from together(chain.within(inputs) for chain in self.chains.values())
        made = {
            name: end if isinstance(end, Answer) else Answer("", error=str(end))
            for name, end in zip(self.chains, ends, strict=True)
        }
        text = "\n".join(f"{name}: {answer.text}" for name, answer in made.items() if answer.error is None)
        errors = [f"{name}: {answer.error}" for name, answer in made.items() if answer.error is not None]
        return _told(made).model_copy(update={"text": text, "error": "; ".join(errors) or None})


def _chains(chains: Mapping[str, Any]) -> dict[str, Reasoner]:
    if not isinstance(chains, Mapping) or not chains:
        raise SettingsError(f'{chains!r:.60}: give the chains by name, e.g. {{"facts": chain, "answer": chain}}')
    steps = {name: as_steps(chain) for name, chain in chains.items()}
    for name, chain in steps.items():
        if isinstance(chain, Direct) and not chain.is_known:
            raise SettingsError(
                f"nobody says which inputs {name!r} reads: give Direct(chain, [their names]), from "
                "condition.reasoning.direct"
            )
    return steps


def _joined(chains: Mapping[str, Reasoner], given: frozenset[str] | None) -> frozenset[str]:
    """The inputs of a sequence. Raises SettingsError for names that do not fit together."""
    makes = {name: frozenset({name, *(c.chains if isinstance(c, Parallel) else ())}) for name, c in chains.items()}
    names = list(chains)
    free: set[str] = set()
    made: set[str] = set(given or ())
    for place, name in enumerate(names):
        reads = chains[name].variables
        later = frozenset[str]().union(*(makes[other] for other in names[place:]))
        if early := sorted(reads & later - made):
            raise SettingsError(f"{name!r} reads {early[0]!r}, which is made only later: put that chain before it")
        if given is not None:
            _check_reads(name, chains[name], made)
        if twice := sorted(makes[name] & (made | free)):
            raise SettingsError(f"{twice[0]!r} is the name of an input or of another chain already: give another")
        free |= reads - (made - (given or frozenset()))
        made |= makes[name]
        after = frozenset[str]().union(*(chains[other].variables for other in names[place + 1 :]))
        if names[place + 1 :] and not makes[name] & after:
            near = get_close_matches(name, sorted(after - made), n=1)
            hint = (
                f"did you mean it where {near[0]!r} is read?" if near else "leave it out, or let a later chain read it"
            )
            raise SettingsError(f"nobody reads {name!r}; {hint}")
    return frozenset(free)


def _check_reads(name: str, chain: Reasoner, there: Collection[str]) -> None:
    if missing := sorted(chain.variables - set(there)):
        near = get_close_matches(missing[0], sorted(there), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, sorted(there)))}"
        raise SettingsError(f"{name!r} reads {missing[0]!r}, which nobody gives or makes; {hint}")


def _told(made: Mapping[str, Answer]) -> Answer:
    """What each chain made, as reasoning, values and candidates."""
    lines = [f"{name}: {answer.reasoning or answer.text}" for name, answer in made.items()]
    paths: list[Completion] = [completion for answer in made.values() for completion in answer.candidates]
    texts = {name: answer.text for name, answer in made.items()}
    return Answer("", reasoning="\n\n".join(lines), candidates=tuple(paths), parsed=texts)
