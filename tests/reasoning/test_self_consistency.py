from __future__ import annotations

import math
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

import condition as cd
from condition.errors import ModelError, SettingsError
from condition.models.embedded import converted, embedded_file
from condition.prompts.parse import last_number
from condition.prompts.template import ChatPrompt
from condition.reasoning.best_of import BestOf
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Reasoner
from condition.reasoning.cot import ChainOfThought, ZeroShotCoT
from condition.reasoning.decompose import LeastToMost
from condition.reasoning.self_consistency import SelfConsistency, rounds
from condition.types import Answer, Completion, Sampling
from tests.models.test_served import client, serving

if TYPE_CHECKING:
    from pathlib import Path

    from condition.models.local import LocalModel
    from tests.conftest import TinyModel
    from tests.reasoning.conftest import Oracle as OracleT


def first_majority(values: list[str]) -> str:
    votes = Counter(values)
    return max(votes, key=lambda value: votes[value])  # a Counter keeps the order of coming


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=24))
def test_it_is_the_exact_majority(oracle: type[OracleT], values: list[str]) -> None:
    said = [f"I think. The answer is {value}." for value in values]
    whole = SelfConsistency(ChainOfThought(oracle(lambda t: said), "{q}"), len(values), early=False).invoke("x")
    early = SelfConsistency(ChainOfThought(oracle(lambda t: said), "{q}"), len(values)).invoke("x")
    assert whole.text == early.text == first_majority(values)
    assert whole.score == pytest.approx(values.count(whole.text) / len(values))
    assert len(early.candidates) <= len(whole.candidates) == len(values)


def test_rounds_draw_everything_once() -> None:
    for samples in range(1, 70):
        sizes = list(rounds(samples))
        assert sum(sizes) == samples
        assert sizes[0] == samples // 2 + 1


def test_it_stops_when_the_vote_is_decided(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["7"])
    answer = SelfConsistency(ChainOfThought(model, "{q}"), 16).invoke("x")
    assert (answer.text, answer.score, len(answer.candidates)) == ("7", 1.0, 9)
    assert (model.calls, len(model.prompts), model.samplings[0].n) == (1, 1, 9)


def test_many_problems_are_one_call_a_round(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["7"] if "easy" in text else ["1", "2"])
    questions = [{"q": f"easy {i}"} for i in range(10)] + [{"q": f"hard {i}"} for i in range(10)]
    answers = SelfConsistency(ChainOfThought(model, "{q}"), 16).batch(questions)
    assert [a.score for a in answers] == [1.0] * 10 + [0.5] * 10
    assert [s.n for s in model.samplings] == [9, 4, 2, 1]
    assert [len(asked) for asked in model.asked] == [20, 10, 10, 10]
    assert answers[19].usage.output_tokens == 16


def test_a_greedy_chain_is_sampled_and_a_seed_counts_on(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["1", "2"])
    SelfConsistency(ChainOfThought(model, "{q}"), 6, temperature=0.5, seed=40).invoke("x")
    assert [s.temperature for s in model.samplings] == [0.5] * 3
    assert [s.seed for s in model.samplings] == [40, 44, 45]
    warm = oracle(lambda text: ["1"])
    SelfConsistency(ChainOfThought(warm, "{q}", sampling=Sampling(temperature=1.3)), 2).invoke("x")
    assert [(s.temperature, s.seed) for s in warm.samplings] == [(1.3, None)]


def test_reading_off_an_answer_stays_greedy(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: "7" if "Therefore" in text else ["so 7", "or 7"])
    answer = SelfConsistency(ZeroShotCoT(model), 4, early=False).invoke("x")
    assert [(s.temperature, s.n) for s in model.samplings] == [(0.7, 4), (0.0, 1)]
    assert [len(asked) for asked in model.asked] == [1, 2]  # equal thoughts are read once
    assert [c.text for c in answer.candidates] == ["so 7", "or 7", "so 7", "or 7"]


def test_what_has_no_answer_does_not_vote(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["no idea", "it is 8", "none", "8 it is", "9"])
    answer = SelfConsistency(ChainOfThought(model, "{q}"), 5, parse=last_number, early=False).invoke("x")
    assert (answer.parsed, answer.score, answer.error) == (8.0, pytest.approx(2 / 3), None)
    assert answer.reasoning == "it is 8"
    assert [c.text for c in answer.candidates] == ["no idea", "it is 8", "none", "8 it is", "9"]
    silent = SelfConsistency(ChainOfThought(oracle(lambda text: "none"), "{q}"), 5, parse=last_number)
    failed = silent.invoke("x")
    assert (failed.text, [c.text for c in failed.candidates]) == ("", ["none"] * 5)
    assert "it has no number" in str(failed.error)


def test_values_that_can_not_be_counted_vote(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["nan", "1", "nan"])
    answer = SelfConsistency(ChainOfThought(model, "{q}", parse=float), 3, early=False).invoke("x")
    assert (answer.text, answer.score, answer.error) == ("nan", pytest.approx(2 / 3), None)


def test_a_vote_of_few_says_that_most_failed(oracle: type[OracleT]) -> None:
    class One:
        name = "one"

        def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
            return [[Completion("7")] for _ in prompts]

    answer = SelfConsistency(ChainOfThought(One(), "{q}"), 8).invoke("x")
    assert answer.text == "7"
    assert "7 of 8 samples failed: one gave 1 completions where n=5 were asked for" in str(answer.error)


@pytest.mark.parametrize(("failing", "is_told"), [(1, False), (2, True), (3, True)])
def test_half_of_the_samples_that_could_not_be_asked_are_told(failing: int, is_told: bool) -> None:
    class Refused(Reasoner):
        drawn = 0
        variables = frozenset({"q"})  # type: ignore[assignment]

        def steps(self, inputs: Any, /) -> Any:
            self.drawn += 1
            if self.drawn <= failing:
                raise ModelError("refused")
            yield []
            return Answer("7")

    answer = SelfConsistency(Refused(), 4, early=False).invoke("x")
    assert answer.text == "7"
    assert (answer.error == f"{failing} of 4 samples failed: refused") is is_told


def test_likelihood_can_weigh(oracle: type[OracleT]) -> None:
    likely, unlikely = Completion("7", (1, 2), -0.2), Completion("8", (1, 2), -6.0)
    model = oracle(lambda text: [unlikely, unlikely, likely])
    assert SelfConsistency(ChainOfThought(model, "{q}"), 3, early=False).invoke("x").text == "8"
    answer = SelfConsistency(ChainOfThought(model, "{q}"), 3, weighted=True).invoke("x")
    assert answer.text == "7"
    assert answer.score == pytest.approx(math.exp(-0.1) / (math.exp(-0.1) + 2 * math.exp(-3.0)))
    mute = oracle(lambda text: Completion("7"))
    assert "weighted=True needs" in str(
        SelfConsistency(ChainOfThought(mute, "{q}"), 3, weighted=True).invoke("x").error
    )


def test_weighted_and_early_is_weighted_and_whole(oracle: type[OracleT]) -> None:
    chance = random.Random(0)
    for _ in range(50):
        drawn = [Completion(chance.choice("12"), (1,), -chance.random()) for _ in range(9)]
        made = [
            SelfConsistency(ChainOfThought(oracle(lambda t, d=drawn: d), "{q}"), 9, weighted=True, early=early)  # type: ignore[misc]
            for early in (True, False)
        ]
        assert made[0].invoke("x").text == made[1].invoke("x").text


def test_a_budget_ends_the_drawing_with_what_there_is(oracle: type[OracleT]) -> None:
    model = oracle(lambda text: ["1", "2", "2"])
    answer = SelfConsistency(ChainOfThought(model, "{q}"), 16, budget=Budget(calls=11)).invoke("x")
    assert (answer.text, len(answer.candidates)) == ("2", 11)
    assert "all calls are spent" in str(answer.error)
    assert [s.n for s in model.samplings] == [9, 2]


def in_two(text: str) -> Any:
    """A plan of one easier question, then answers that differ."""
    return ["one"] if "Which easier" in text else ["1", "2", "2"]


@pytest.mark.parametrize("early", [True, False])
def test_a_budget_that_is_spent_within_a_sample_is_told(oracle: type[OracleT], early: bool) -> None:
    """A chain that makes an answer of what it has hid it: a vote of few passed for that of all."""
    model = oracle(in_two)
    whole = SelfConsistency(LeastToMost(model), 4, early=early).invoke("x")
    assert whole.error is None
    needed = sum(sampling.n * len(asked) for asked, sampling in zip(model.asked, model.samplings, strict=True))
    for calls in range(1, needed):
        cut = SelfConsistency(LeastToMost(oracle(in_two)), 4, early=early, budget=Budget(calls=calls)).invoke("x")
        assert "over budget" in str(cut.error), calls
        best = BestOf(LeastToMost(oracle(in_two)), lambda q, c: [1.0] * len(c), 4, budget=Budget(calls=calls))
        assert early or "over budget" in str(best.invoke("x").error), calls


def test_any_chain_can_vote(oracle: type[OracleT]) -> None:
    turns = iter("5677777777777777")
    chain = RunnableLambda(lambda inputs: Answer(next(turns)))
    answer = SelfConsistency(chain, 16, early=False).invoke({"q": "x"})
    assert (answer.text, answer.score) == ("7", 14 / 16)
    with pytest.raises(SettingsError, match="is no chain"):
        SelfConsistency("{q}")
    with pytest.raises(SettingsError, match="samples=0"):
        SelfConsistency(chain, 0)
    with pytest.raises(SettingsError, match="temperature"):
        SelfConsistency(chain, temperature=-1)
    for kind in (SelfConsistency, lambda *given, **more: BestOf(given[0], lambda q, c: [1.0], **more)):
        with pytest.raises(SettingsError, match="seed"):
            kind(chain, seed="x")


def test_a_model_behind_its_prompt_is_sampled(tiny_model: TinyModel) -> None:
    model = tiny_model().with_prompt(ChatPrompt([("user", "{q}")], parse=len))
    answer = SelfConsistency(model, 4, early=False, temperature=5.0, seed=1).invoke({"q": "When?"})
    assert len({c.text for c in answer.candidates}) > 1
    assert isinstance(answer.parsed, int)


CAPITAL = "What is the capital of {country}? Give the name only."
ROWS = [{"country": "France"}, {"country": "Japan"}]


def capital(text: str) -> str | None:
    named = re.search(r"capital of \w+ is (\w+)", text)
    return named and named[1]


@pytest.mark.real
def test_on_the_embedded_model(embedded: LocalModel) -> None:
    chain = ChainOfThought(
        embedded,
        CAPITAL,
        parse=capital,
        sampling=Sampling(max_tokens=12, temperature=0.7),
    )
    voted = SelfConsistency(chain, 5, seed=0)
    rows = [{"country": country} for country in ("France", "Italy", "Japan")]
    answers = voted.batch(rows)
    assert [a.text for a in answers] == ["Paris", "Rome", "Tokyo"]
    assert all(a.error is None and (a.score or 0) > 0.5 for a in answers)
    assert all(a.usage.saved_tokens > 0 for a in answers)  # samples share their prompt
    piped = RunnableLambda(lambda name: {"country": name}) | voted | RunnableLambda(lambda answer: answer.parsed)
    assert piped.invoke("Japan") == "Tokyo"


def tuned(embedded: LocalModel) -> LocalModel:
    rows = [cd.Example({"country": "Italy"}, "The capital of Italy is Rome.")]
    settings = cd.Settings(max_steps=1, batch_size=1, precision="fp32")
    trainer = cd.SFTTrainer(adapter=cd.LoRA(rank=2), settings=settings)
    return trainer.fit(embedded, rows, prompt=cd.ChatPrompt([("user", CAPITAL)]))


@pytest.mark.real
@pytest.mark.parametrize("kind", ["embedded", "tuned", "served"])
def test_three_models_vote_alike(kind: str, embedded: LocalModel, tmp_path: Path) -> None:
    if kind == "served":
        folder = converted(embedded_file())
        with serving(folder, tmp_path / "log") as (url, _):
            check(client(url, folder))
    else:
        check(embedded if kind == "embedded" else tuned(embedded))


def check(model: Any) -> None:
    sampling = cd.Sampling(max_tokens=12, temperature=0.7)
    chain = SelfConsistency(cd.ChainOfThought(model, CAPITAL, parse=capital, sampling=sampling), 3, seed=0)
    answers = chain.batch(ROWS)
    assert [type(answer) for answer in answers] == [cd.Answer, cd.Answer]
    assert [answer.text for answer in answers] == ["Paris", "Tokyo"]
    for answer in answers:
        assert answer.error is None
        assert 0 < (answer.score or 0) <= 1
        assert answer.usage.output_tokens > 0
        assert 2 <= len(answer.candidates) <= 3
