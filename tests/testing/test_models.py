"""Models and scorers that break a promise are caught: classes that inherit nothing, and LangChain's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from condition.testing import check_model, check_scorer
from condition.types import Completion, Sampling, Score
from tests.testing.conftest import catch


class Echo:
    """A model that says the last message, up to a stop text."""

    name = "echo"
    calls = 0

    def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
        self.calls += 1
        return [[self.said(prompt[-1].content, sampling) for _ in range(sampling.n)] for prompt in prompts]

    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion(min((asked.partition(stop)[0] for stop in sampling.stop), key=len, default=asked))


class Nameless(Echo):
    name = ""


class NeedsOne(Echo):
    def generate(self, prompts: Any, *args: Any, **named: Any) -> Any:
        return super().generate([prompts[0], *prompts[1:]], *args, **named)


class Never(Echo):
    """Says something to nobody too."""

    def generate(self, prompts: Any, *args: Any, **named: Any) -> Any:
        return super().generate(prompts, *args, **named) or [[]]


class Forgetful(Echo):
    def generate(self, prompts: Any, *args: Any, **named: Any) -> Any:
        return super().generate(prompts[:2], *args, **named)


class Turned(Echo):
    def generate(self, prompts: Any, *args: Any, **named: Any) -> Any:
        return super().generate(prompts, *args, **named)[::-1]


class Eating(Echo):
    def generate(self, prompts: Any, *args: Any, **named: Any) -> Any:
        found = super().generate(prompts, *args, **named)
        prompts.clear()
        return found


class Lonely(Echo):
    def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
        return super().generate(prompts, sampling.model_copy(update={"n": 1}))


class Plain(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return asked


class Endless(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion(asked)


class Startled(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("" if sampling.stop else asked)


class Long(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("a", tuple(range(9)))


class TooSure(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("a", (1,), 0.5)


class Unsummed(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("a", (1,), -2.0, logprobs=(-1.0,))


class Counting(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("" if sampling.stop else f"{self.calls}")


class Unseeded(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion(f"{self.calls}") if sampling.temperature else super().said(asked, sampling)


class CutShort(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return super().said(asked, sampling).model_copy(update={"finish_reason": "length"})


class Drawing(Echo):
    """Draws at temperature 0 too, where several are asked for."""

    def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
        found = super().generate(prompts, sampling)
        return [[Completion(f"{i}{one.text}" if i else one.text) for i, one in enumerate(own)] for own in found]


class Uncounted(Echo):
    def said(self, asked: str, sampling: Sampling) -> Any:
        return Completion("a", (1,), -2.0, logprobs=(-1.0, -1.0))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "Model object: it is a model"),
        (Echo, "it is a model"),
        (Nameless(), "name is a text that is not empty"),
        (NeedsOne(), "generate takes an empty list. Seen: IndexError"),
        (Never(), "generate gives [] for no prompts. Seen: 1 for 0 prompts"),
        (Forgetful(), "one list for each prompt. Seen: 2 for 3 prompts"),
        (Turned(), "a prompt among others is answered as alone, in the order given"),
        (Eating(), "it changes nothing of what it is given"),
        (Lonely(), "Sampling(n=3) gives 3 completions for each prompt. Seen: 1 for 3 samples"),
        (Plain(), "a completion is a Completion. Seen: str, "),
        (Endless(), "ends before a stop text, which is cut off"),
        (Startled(), "with a stop text the same is said, up to it"),
        (Long(), "max_tokens=8 is kept. Seen: 9 tokens"),
        (TooSure(), "a log-probability is at most 0. Seen: 0.5"),
        (Unsummed(), "logprob is the sum of logprobs. Seen: -2.0 and a sum of -1.0"),
        (Counting(), "temperature 0 says the same again"),
        (FakeListChatModel(responses=list("ABCDEFG")), "temperature 0 says the same again"),
        (CutShort(), "a stop text gives finish_reason 'stop'. Seen: 'length'"),
        (Drawing(), "at temperature 0 all samples are the greedy one"),
        (Uncounted(), "logprobs has one number a token"),
        (Unseeded(), "a seed draws the same again"),
    ],
)
def test_a_model_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_model, block)


def test_stops_are_looked_at_where_nothing_is_said_twice() -> None:
    catch("ends before a stop text", check_model, Endless(), repeatable=False)
    check_model(Unseeded(), repeatable=False)


def test_a_whole_model() -> None:
    check_model(Echo())


class Scores:
    """A scorer by the length of a text."""

    strict = True

    def score(self, prompts: Any, continuations: Any) -> Any:
        return [self.of(own) for _, own in zip(prompts, continuations, strict=self.strict)]

    def of(self, texts: list[str]) -> Any:
        return [self.one(text) for text in texts]

    def one(self, text: str) -> Any:
        return Score(-float(len(text)), len(text), len(text))


class Lenient(Scores):
    strict = False


class ByPlace(Scores):
    def of(self, texts: list[str]) -> Any:
        return [Score(-float(i) if text else 0.0, 1, len(text)) for i, text in enumerate(texts)]


class Learning(Scores):
    """Scores what it has seen higher."""

    calls = 0

    def of(self, texts: list[str]) -> Any:
        self.calls += 1
        return [Score(-float(len(text)) / self.calls, 1, len(text)) for text in texts]


class Comparing(Scores):
    """A prompt's scores depend on how many prompts there are."""

    def score(self, prompts: Any, continuations: Any) -> Any:
        found = super().score(prompts, continuations)
        return [[Score(s.logprob * len(prompts), s.tokens, s.chars) for s in own] for own in found]


class Several(Scores):
    def score(self, prompts: Any, continuations: Any) -> Any:
        return super().score(prompts, continuations) or None


class FirstOnly(Scores):
    def score(self, prompts: Any, continuations: Any) -> Any:
        return super().score(prompts, continuations)[:1]


class NeverEmpty(Scores):
    def one(self, text: str) -> Any:
        return Score(-float(ord(text[0])), 1, len(text))


class Missing(Scores):
    def of(self, texts: list[str]) -> Any:
        return super().of([text for text in texts if text])


def scoring(one: Callable[[str], Any]) -> Scores:
    scorer = Scores()
    scorer.one = one  # type: ignore[method-assign]
    return scorer


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "Scorer object: it has score. Seen: object without score"),
        (Scores, "it is an object, not its class"),
        (Several(), "score gives [] for no prompts. Seen: NoneType instead of a list"),
        (FirstOnly(), "one list for each prompt. Seen: 1 for 3 prompts"),
        (NeverEmpty(), "score takes every prompt. Seen: IndexError"),
        (Missing(), "one Score for each continuation. Seen: 2 for 3 continuations"),
        (ByPlace(), "in the order of their continuations"),
        (Learning(), "the same is scored alike again"),
        (Comparing(), "a prompt among others is scored as alone, in the order given"),
        (Lenient(), "lists of different length are refused. Seen: no error"),
        (scoring(lambda text: -1.0), "a score is a Score. Seen: float"),
        (scoring(lambda text: Score(float(len(text)), 1, len(text))), "finite and at most 0"),
        (scoring(lambda text: Score(float("-inf"), 1, len(text))), "finite and at most 0"),
        (scoring(lambda text: Score(0.0, 1, 1)), "chars is the length of the continuation"),
        (scoring(lambda text: Score(0.0, 0, len(text))), "a text has tokens"),
        (scoring(lambda text: Score(-1.0, 1, len(text))), "the empty text is certain"),
    ],
)
def test_a_scorer_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_scorer, block)


def test_a_whole_scorer() -> None:
    check_scorer(Scores())
