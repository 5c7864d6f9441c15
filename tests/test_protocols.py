"""Classes that inherit nothing fit the Protocols, and classes that lack a part do not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from condition import protocols
from condition.protocols import (
    Adapter,
    Chain,
    Control,
    Filter,
    Metric,
    Model,
    Moderator,
    Prompt,
    RowProcessor,
    Scorer,
    Selector,
    Trainer,
    Verifier,
)
from condition.types import Answer, Completion, Example, Message, Messages, Sampling, Score, Verdict


class Parrot:
    name = "parrot"

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        return [[Completion(p[-1].content)] for p in prompts]

    def score(self, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]], /) -> list[list[Score]]:
        return [[Score(0.0, 1, len(c)) for c in cs] for cs in continuations]


class Greeting:
    variables = frozenset({"who"})

    def format(self, **inputs: object) -> Messages:
        return (Message("user", f"Hello {inputs['who']}"),)


class First:
    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        return self.examples[:k]


class Nothing:
    def attach(self, network: Any, /) -> Any:
        return network

    def processor(self, tokenizer: Any, /) -> Any:
        return None

    def fit(
        self, model: str, rows: Iterable[Example], /, *, prompt: Prompt, validation: Iterable[Example] | None = None
    ) -> str:
        return model


class Rows:
    def begin(self, stops: Sequence[Collection[int]], spaced: Sequence[bool], most: int) -> None:
        pass

    def keep(self, rows: Sequence[int]) -> None:
        pass


class Echo:
    def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
        return Answer(str(inputs))

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        return [self.invoke(i) for i in inputs]


def length(prediction: str, target: Any, /) -> Mapping[str, float]:
    return {"length": float(len(prediction))}


def longest(question: str, candidates: Sequence[str], /) -> list[float]:
    return [float(len(c)) for c in candidates]


def polite(text: str, /) -> Verdict:
    return Verdict("damn" not in text)


def short(example: Example, /) -> bool:
    return len(example.target) < 9


# Assigned, so that mypy checks the signatures and not only the names.
model: Model = Parrot()
scorer: Scorer = Parrot()
prompt: Prompt = Greeting()
selector: Selector = First([])
adapter: Adapter = Nothing()
control: Control = Nothing()
rows: RowProcessor = Rows()
trainer: Trainer[str, Example] = Nothing()
chain: Chain = Echo()
metric: Metric = length
verifier: Verifier = longest
moderator: Moderator = polite
keep: Filter = short

FITTING = [
    (Model, model),
    (Scorer, scorer),
    (Prompt, prompt),
    (Selector, selector),
    (Adapter, adapter),
    (Control, control),
    (RowProcessor, rows),
    (Trainer, trainer),
    (Chain, chain),
    (Chain, RunnableLambda(lambda inputs: Answer(str(inputs)))),
    (Metric, metric),
    (Verifier, verifier),
    (Moderator, moderator),
    (Filter, keep),
]


@pytest.mark.parametrize(("protocol", "implementer"), FITTING)
def test_what_fits_works(protocol: type, implementer: object) -> None:
    assert isinstance(implementer, protocol)


@pytest.mark.parametrize("protocol", dict.fromkeys(p for p, _ in FITTING))
def test_what_lacks_the_parts_does_not_fit(protocol: type) -> None:
    assert not isinstance(object(), protocol)


def test_every_protocol_is_in_the_table() -> None:
    public = {
        p for p in vars(protocols).values() if getattr(p, "_is_protocol", False) and p.__module__ == protocols.__name__
    }
    assert public == {p for p, _ in FITTING}
