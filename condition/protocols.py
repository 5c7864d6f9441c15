"""Every interface of the library on one page. Nothing has to be inherited: what fits, works.

`/` leaves the first name to the implementer, so that a LangChain `RunnableLambda` *is* a `Chain`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from condition.types import Answer, Completion, Example, Messages, Sampling, Score, Verdict

if TYPE_CHECKING:
    from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

ModelT = TypeVar("ModelT")
Row_contra = TypeVar("Row_contra", contravariant=True)


@runtime_checkable
class Control(Protocol):
    """A limit on what may come next."""

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> LogitsProcessor: ...


@runtime_checkable
class RowProcessor(Protocol):
    """A LogitsProcessor that keeps track of its rows by itself, as those of our own controls do.

    `begin` says what ends each row, whether a space that is not its own stands before it, and the most tokens.
    `keep` says which rows go on, so that finished ones need not be computed; one that stands twice goes on once.
    """

    def begin(self, stops: Sequence[Collection[int]], spaced: Sequence[bool], most: int) -> None: ...

    def keep(self, rows: Sequence[int]) -> None: ...


@runtime_checkable
class Model(Protocol):
    """Anything that writes."""

    @property
    def name(self) -> str: ...

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]: ...


@runtime_checkable
class Scorer(Protocol):
    """Tells how likely a continuation is."""

    def score(self, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]], /) -> list[list[Score]]: ...


@runtime_checkable
class Prompt(Protocol):
    """Inputs to messages."""

    @property
    def variables(self) -> frozenset[str]: ...

    def format(self, **inputs: object) -> Messages: ...


@runtime_checkable
class Selector(Protocol):
    """Chooses which examples to show."""

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]: ...


@runtime_checkable
class Adapter(Protocol):
    """Numbers added to a frozen network."""

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel: ...


@runtime_checkable
class Trainer(Protocol[ModelT, Row_contra]):
    """Rows to a conditioned model."""

    def fit(
        self,
        model: ModelT,
        rows: Iterable[Row_contra],
        /,
        *,
        prompt: Prompt,
        validation: Iterable[Row_contra] | None = None,
    ) -> ModelT: ...


@runtime_checkable
class Chain(Protocol):
    """Several calls to one answer. Our own are LangChain Runnables."""

    def invoke(self, inputs: Mapping[str, Any], /) -> Answer: ...

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]: ...


@runtime_checkable
class Metric(Protocol):
    """Measures one prediction against its target."""

    def __call__(self, prediction: str, target: Any, /) -> Mapping[str, float]: ...


@runtime_checkable
class Verifier(Protocol):
    """Scores candidate answers to a question; higher is better."""

    def __call__(self, question: str, candidates: Sequence[str], /) -> list[float]: ...


@runtime_checkable
class Moderator(Protocol):
    """Says whether a text may pass."""

    def __call__(self, text: str, /) -> Verdict: ...


@runtime_checkable
class Filter(Protocol):
    """Says whether an example may be used."""

    def __call__(self, example: Example, /) -> bool: ...
