from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from condition.errors import BudgetError, DataError, Interrupted, ModelError, SettingsError
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.selectors import RandomSelector
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Prompt
from condition.reasoning.budget import Budget
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.optimise import optimise
from condition.reasoning.self_consistency import SelfConsistency
from condition.types import Example, Message

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

ROWS = [Example({"word": f"word{i}"}, f"WORD{i}", id=str(i)) for i in range(24)]
ASK = ChatPrompt([("user", "{word}")])


def exact(prediction: str, target: str) -> dict[str, float]:
    return {"length": float(len(prediction)), "exact": float(prediction == target)}


def shouts(text: str) -> Any:
    """In capitals where it is told so, or an example from 5 to 9 shows it and the word has no 1; else as it is."""
    if "What was the instruction?" in text:
        return ["Say it back.", "Shout {loudly}.", ' "Say it back." ', "Instruction: Whisper."]
    *before, asked = text.split("\n")
    if "Shout" in text:
        return asked.upper()
    is_shown = any(line[4:] in "56789" for line in before if "WORD" in line)
    return asked.upper() if is_shown and "1" not in asked else asked


def without_words(prompt: Prompt) -> list[str]:
    return [m.content for m in prompt.format(word="x")]


def test_the_instruction_that_helps_is_found(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    found = optimise(ASK, ROWS, exact, model=model, instructions=["Be {word}."], proposals=4, sets=0)
    assert [trial.instruction for trial in found.trials] == [
        None,
        "Be {word}.",
        "Say it back.",
        "Shout {loudly}.",
        "Whisper.",
    ]
    assert (found.best, found.error) == (3, None)
    assert [trial.held for trial in found.trials] == [0, 0, 0, 1, None]  # Whisper was behind on the others already
    assert [trial.searched for trial in found.trials] == [0, 0, 0, 1, 0]
    assert found.prompt.format(word="{x}") == (Message("system", "Shout {loudly}."), Message("user", "{x}"))
    table = str(found).splitlines()
    assert [line[0] for line in table[1:]] == [" ", " ", " ", "*", " "]
    assert "1.000   1.000" in table[4]


def test_one_call_a_measure_for_all_rows(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    found = optimise(ASK, ROWS, exact, model=model, proposals=2, sets=1, k=2)
    # as given: searched and held; the writer; two instructions and one set: searched, and held where not behind
    assert found.usage.output_tokens == sum(len(str(said).split()) for said in shouted(model))
    assert [len(asked) for asked in model.asked][:3] == [12, 12, 1]
    assert model.samplings[2].n == 2


def shouted(model: Any) -> list[str]:
    """What it said, once more."""
    heard: list[str] = []
    for prompts, sampling in zip(model.asked, model.samplings, strict=True):
        for messages in prompts:
            told = shouts("\n".join(m.content for m in messages))
            heard += [told] if isinstance(told, str) else told[: sampling.n]
    return heard


def test_examples_that_help_are_found_and_none_is_shown_to_itself(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    found = optimise(ASK, ROWS, exact, model=model, proposals=0, sets=30, k=2, seed=2)
    best = found.trials[found.best]
    assert any(e.target[4:] in "56789" for e in best.examples)
    assert best.held is not None
    assert best.held > 0
    assert best.held == max(trial.held or 0 for trial in found.trials)
    for text in model.prompts:
        *before, asked = text.split("\n")
        assert asked not in before


def test_rows_are_on_one_side_only(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    twice = [*ROWS, *(Example(dict(row.inputs), row.target) for row in ROWS)]
    optimise(ASK, twice, exact, model=model, proposals=0, sets=0)
    asked = Counter(prompt for prompts in model.asked for messages in prompts for prompt in [messages[-1].content])
    searched = {m[-1].content for m in model.asked[0]}
    held = {m[-1].content for m in model.asked[1]}
    assert not searched & held
    assert asked.total() == len(model.asked[0]) + len(model.asked[1])
    own = optimise(ASK, ROWS, exact, model=oracle(shouts), proposals=0, sets=0, held=[*ROWS[:4], *ROWS[:1]])
    assert own.trials[0].held == 0


def test_nothing_better_is_the_prompt_as_it_was(oracle: type[Oracle]) -> None:
    found = optimise(ASK, ROWS, exact, model=oracle(lambda text: "no"), proposals=0, sets=3)
    assert found.prompt is ASK
    assert (found.best, len(found.trials)) == (0, 4)


def test_the_budget_is_exact_and_the_best_so_far_comes_back(oracle: type[Oracle]) -> None:
    whole = oracle(shouts)
    optimise(ASK, ROWS, exact, model=whole, instructions=["Shout."], proposals=3, sets=4)
    needed = spent(whole)
    for calls in range(24, needed + 1, 7):
        model = oracle(shouts)
        found = optimise(
            ASK, ROWS, exact, model=model, instructions=["Shout."], proposals=3, sets=4, budget=Budget(calls=calls)
        )
        assert spent(model) == calls
        assert (found.error is None) == (calls == needed)
        assert (found.best == 1) == (calls >= 24 + 24)  # a trial that is cut does not count
        assert all(trial.searched in (0, 1) for trial in found.trials)
    with pytest.raises(BudgetError, match="23 of 23 calls are spent"):
        optimise(ASK, ROWS, exact, model=oracle(shouts), budget=Budget(calls=23))


def spent(model: Any) -> int:
    return sum(len(asked) * sampling.n for asked, sampling in zip(model.asked, model.samplings, strict=True))


def test_a_chain_that_makes_do_with_less_is_not_measured_so(oracle: type[Oracle]) -> None:
    """Self-consistency answers from the samples that a budget leaves: that is no measure of the prompt."""
    model = oracle(shouts)
    found = optimise(
        ASK,
        ROWS[:4],
        exact,
        chain=lambda prompt: SelfConsistency(ChainOfThought(model, prompt, parse=str.strip), 3, early=False),
        instructions=["Shout."],
        proposals=0,
        sets=0,
        budget=Budget(calls=4 * 3 + 4 * 3 - 1),
    )
    assert spent(model) == 23
    assert len(found.trials) == 1
    assert "over budget" in str(found.error)


def test_any_chain_is_searched(oracle: type[Oracle]) -> None:
    class Foreign:
        def __init__(self, prompt: Prompt) -> None:
            self.prompt = prompt

        def invoke(self, inputs: Any) -> str:
            return str(shouts("\n".join(m.content for m in self.prompt.format(**inputs))))

        def batch(self, inputs: list[Any]) -> Any:
            return [self.invoke(one) for one in inputs]

    found = optimise(ASK, ROWS, exact, chain=Foreign, instructions=["Shout."], proposals=0, sets=0)  # type: ignore[arg-type]
    assert found.best == 1


def test_a_few_shot_prompt_keeps_what_is_not_searched(oracle: type[Oracle]) -> None:
    worked = [Example(row.inputs, row.target, "It is loud.", row.id) for row in ROWS]
    base = FewShotPrompt(ASK, worked[:2], rationale="{rationale} {target}", instruction="Say it.", separator="|")
    found = optimise(base, worked, exact, model=oracle(shouts), instructions=["Shout."], proposals=0, sets=1, k=1)
    told, shown = found.trials[1].prompt, found.trials[2].prompt
    assert without_words(told) == ["Shout.", "word0", "It is loud. WORD0", "word1", "It is loud. WORD1", "x"]
    assert len(without_words(shown)) == 4
    assert without_words(shown)[0] == "Shout."
    assert without_words(shown)[2].startswith("It is loud. WORD")


def test_text_prompts_stay_text(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    found = optimise(TextPrompt("{word}"), ROWS, exact, model=model, proposals=4, sets=0)
    assert found.prompt.format(word="{x}")[0] == Message("text", "Shout {loudly}.\n\n{x}")
    assert {messages[0].role for prompts in model.asked for messages in prompts} == {"text"}


def test_what_breaks_on_the_way_keeps_the_trials(oracle: type[Oracle]) -> None:
    def once(prediction: str, target: str) -> float:
        if prediction.isupper():
            raise ValueError("loud")
        return 0.5

    found = optimise(ASK, ROWS, once, model=oracle(shouts), instructions=["Shout."], proposals=0)
    assert (len(found.trials), found.best) == (1, 0)
    assert "the metric failed for 'WORD" in str(found.error)

    with pytest.raises(DataError, match="NaN, with which nothing can be compared"):
        optimise(ASK, ROWS, lambda prediction, target: {"f1": float("nan")}, model=oracle(shouts), proposals=0)

    def stops(text: str) -> str:
        if "Shout" in text:
            raise KeyboardInterrupt
        return text

    with pytest.raises(Interrupted) as stop:
        optimise(ASK, ROWS, exact, model=oracle(stops), instructions=["Say.", "Shout."], proposals=0, sets=2)
    assert [trial.instruction for trial in stop.value.finished.values()] == [None, "Say."]
    assert stop.value.total == 5


def test_what_can_not_be_is_said_at_once(oracle: type[Oracle]) -> None:
    model = oracle(shouts)
    with pytest.raises(SettingsError, match="give model="):
        optimise(ASK, ROWS, exact)
    with pytest.raises(SettingsError, match="proposals=0"):
        optimise(ASK, ROWS, exact, chain=lambda prompt: ChainOfThought(model, prompt))
    for wrong in ("Shout.", [None]):
        with pytest.raises(SettingsError, match=r"instructions=.*give a list of texts"):
            optimise(ASK, ROWS, exact, model=model, instructions=wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="k=0"):
        optimise(ASK, ROWS, exact, model=model, k=0)
    with pytest.raises(SettingsError, match=r"held=1\.5"):
        optimise(ASK, ROWS, exact, model=model, held=1.5)
    with pytest.raises(DataError, match="1 examples are too few"):
        optimise(ASK, ROWS[:1], exact, model=model)
    with pytest.raises(DataError, match="are too few"):
        optimise(ASK, ROWS[:2], exact, model=model, held=ROWS)
    around = FewShotPrompt(ASK, ROWS, selector=RandomSelector(ROWS), k=2) + "Think."
    with pytest.raises(SettingsError, match=r"has its own examples: give that one, or sets=0"):
        optimise(around, ROWS, exact, model=model)
    assert not model.prompts
    assert optimise(around, ROWS, exact, model=model, proposals=0, sets=0, instructions=["Shout."]).trials
    with pytest.raises(ModelError, match="no row is answered with the prompt as it is: "):
        optimise(ASK, ROWS, exact, model=oracle(lambda text: 1 / 0))
