"""The data that passes between blocks: frozen pydantic values that refuse unknown fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from condition.errors import DataError
from condition.values import Options as Options
from condition.values import Texts as Texts
from condition.values import Value as Value
from condition.values import meant

Role = Literal["system", "user", "assistant", "tool", "text"]


class Message(Value):
    """One turn: who speaks and what. The role `text` marks words that no chat template touches."""

    role: Role
    content: str
    values: tuple[tuple[int, int], ...] = Field(default=(), exclude=True, repr=False)
    """Of `text`: the characters, from and to, that a prompt filled in. A special token's name there is words."""

    def __init__(self, role: Role, content: str, values: tuple[tuple[int, int], ...] = ()) -> None:
        super().__init__(role=role, content=content, values=values)

    def __eq__(self, other: object) -> bool:
        """Messages that say the same are equal, however they were put together."""
        return isinstance(other, Message) and (self.role, self.content) == (other.role, other.content)

    def __hash__(self) -> int:
        return hash((self.role, self.content))


Messages = tuple[Message, ...]


class Example(Value):
    """Inputs of a prompt with the text that should follow. Raises DataError for other types."""

    inputs: Mapping[str, Any]
    target: str
    rationale: str | None = None
    """The reasoning that leads to the target, where it is known."""
    id: str | None = None
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How much it counts in training: one of weight 2 as much as two of weight 1."""

    def __init__(
        self,
        inputs: Mapping[str, Any],
        target: str,
        rationale: str | None = None,
        id: str | None = None,
        weight: float = 1.0,
    ) -> None:
        with meant(type(self), "Example({'question': 'When?'}, 'what should follow')"):
            super().__init__(inputs=inputs, target=target, rationale=rationale, id=id, weight=weight)


class Ranking(Value):
    """Candidates for one prompt, best first. Raises DataError for other types and for fewer than two."""

    inputs: Mapping[str, Any]
    candidates: tuple[str, ...] = Field(min_length=2)
    scores: tuple[float, ...] | None = None
    """How good each is, where that is known. Equal scores are a tie, from which nothing is learned."""
    id: str | None = None

    def __init__(
        self,
        inputs: Mapping[str, Any],
        candidates: Sequence[str],
        scores: Sequence[float] | None = None,
        id: str | None = None,
    ) -> None:
        if isinstance(candidates, str):
            raise DataError(f"the candidates are one string, {candidates!r:.60}: give a list, the best first")
        given = None if scores is None else tuple(scores)
        with meant(type(self), "Ranking({'question': 'When?'}, ['the best', 'a worse one'])"):
            super().__init__(inputs=inputs, candidates=tuple(candidates), scores=given, id=id)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.scores is None:
            return self
        if len(self.scores) != len(self.candidates) or not all(math.isfinite(score) for score in self.scores):
            raise ValueError(f"{len(self.candidates)} candidates need as many scores that are numbers")
        if any(first < second for first, second in pairwise(self.scores)):
            raise ValueError("a score is higher than the one before it: use Ranking.graded(inputs, candidates, scores)")
        return self

    @classmethod
    def pair(cls, inputs: Mapping[str, Any], chosen: str, rejected: str) -> Self:
        """A ranking of two."""
        return cls(inputs, (chosen, rejected))

    @classmethod
    def graded(
        cls, inputs: Mapping[str, Any], candidates: Sequence[str], scores: Sequence[float], id: str | None = None
    ) -> Self:
        """A ranking by scores, given in any order; of equal ones the first stays first."""
        if len(candidates) != len(scores):
            raise DataError(f"{len(candidates)} candidates and {len(scores)} scores: give one for each")
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return cls(inputs, tuple(candidates[i] for i in order), tuple(scores[i] for i in order), id)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Places of every better candidate with every worse one; those of a tie are no pair."""
        places, scores = range(len(self.candidates)), self.scores
        return tuple((i, j) for i in places for j in places[i + 1 :] if scores is None or scores[i] > scores[j])


class Feedback(Value):
    """What somebody thought of one completion. Raises DataError for other types."""

    inputs: Mapping[str, Any]
    completion: str
    said: bool | Annotated[float, Field(allow_inf_nan=False)] | str
    """A thumb (True is up), a grade (higher is better), or words."""
    id: str | None = None

    def __init__(
        self, inputs: Mapping[str, Any], completion: str, said: bool | float | str, id: str | None = None
    ) -> None:
        with meant(type(self), "Feedback({'question': 'When?'}, 'what was said', True)"):
            super().__init__(inputs=inputs, completion=completion, said=said, id=id)


def _as_stops(value: object) -> object:
    if not isinstance(value, Iterable):
        raise ValueError('give a text or several, such as ["\\n"]')
    return (value,) if isinstance(value, str) else tuple(value)


class Sampling(Options):
    """How to draw from a model. Temperature 0 is greedy. What does not fit is a SettingsError."""

    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 keeps every token."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    n: int = Field(default=1, ge=1)
    """Samples for each prompt."""
    stop: Annotated[Sequence[str], BeforeValidator(_as_stops)] = ()
    """Texts that end a completion, or one; they are cut off. Kept as a tuple."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _stops_are_texts(self) -> Self:
        if any(not stop for stop in self.stop):
            raise ValueError("an empty stop text would end every completion at once: leave it out")
        return self


class Usage(Value):
    """What a call cost, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    computed_tokens: int = 0
    """Tokens that went through the network."""
    saved_tokens: int = 0
    """Tokens that sharing a prefix did not compute again."""
    seconds: float = 0.0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class Completion(Value):
    """One continuation of a prompt."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    """Sum over `token_ids`, natural log, under the model's own distribution at temperature 1."""
    finish_reason: Literal["stop", "length", "control"] = "stop"
    usage: Usage | None = None
    logprobs: tuple[float, ...] = ()
    """Of each of `token_ids`, where they are known."""

    def __init__(
        self,
        text: str,
        token_ids: tuple[int, ...] = (),
        logprob: float | None = None,
        finish_reason: Literal["stop", "length", "control"] = "stop",
        usage: Usage | None = None,
        logprobs: tuple[float, ...] = (),
    ) -> None:
        super().__init__(
            text=text,
            token_ids=token_ids,
            logprob=logprob,
            finish_reason=finish_reason,
            usage=usage,
            logprobs=logprobs,
        )


class Score(Value):
    """How likely a continuation is."""

    logprob: float
    """Sum over the continuation's tokens, natural log."""
    tokens: int
    chars: int

    def __init__(self, logprob: float, tokens: int, chars: int) -> None:
        super().__init__(logprob=logprob, tokens=tokens, chars=chars)


class Answer(Value):
    """What a chain or a prompted model says, with how it got there."""

    text: str
    reasoning: str | None = None
    score: float | None = None
    candidates: tuple[Completion, ...] = ()
    usage: Usage = Usage()
    parsed: Any = None
    """What the prompt's `parse` made of the text, where it has one."""
    error: str | None = None
    """Why there is no answer, or only what was found until then: unparsable, refused, over budget."""

    def __init__(
        self,
        text: str,
        reasoning: str | None = None,
        score: float | None = None,
        candidates: Sequence[Completion] = (),
        usage: Usage = Usage(),
        parsed: Any = None,
        error: str | None = None,
    ) -> None:
        super().__init__(
            text=text,
            reasoning=reasoning,
            score=score,
            candidates=tuple(candidates),
            usage=usage,
            parsed=parsed,
            error=error,
        )

    def __str__(self) -> str:
        return self.text


class Verdict(Value):
    """What a moderator says of a text."""

    allowed: bool
    categories: tuple[str, ...] = ()
    reason: str | None = None

    def __init__(self, allowed: bool, categories: Sequence[str] = (), reason: str | None = None) -> None:
        named = (categories,) if isinstance(categories, str) else tuple(categories)
        super().__init__(allowed=allowed, categories=named, reason=reason)


class Span(NamedTuple):
    """Tokens `start` to `stop` (exclusive) of a rendering and who wrote them.

    The role is a message's role, `template` for what the chat template adds, or `stop` for the token that ends a turn.
    """

    role: str
    start: int
    stop: int


class Rendered(Value):
    """Messages as the model reads them. `ids`, and `labels` where a target is given, have one entry a token."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    labels: tuple[int, ...]
    """The token where it is trained, -100 elsewhere."""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens before the first trained one: what serving sends."""
        first = next((i for i, label in enumerate(self.labels) if label != -100), len(self.ids))
        return self.ids[:first]
