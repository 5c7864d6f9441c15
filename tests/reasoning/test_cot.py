from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import Runnable, RunnableLambda

from condition.errors import PromptError, SettingsError
from condition.evaluation.evaluate import evaluate
from condition.evaluation.tasks import squad_v2
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.parse import last_number
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Chain
from condition.reasoning.budget import Budget
from condition.reasoning.cot import ChainOfThought, ZeroShotCoT
from condition.types import Answer, Example, Message, Sampling, Usage

if TYPE_CHECKING:
    from tests.conftest import TinyModel
    from tests.reasoning.conftest import Oracle

QUESTIONS = [{"question": f"{a} and {a + 1}?"} for a in range(1, 9)]


def adds(text: str) -> str:
    """Adds the numbers of the question, when it is told to think; reads the sum off, when it is asked to."""
    if "Therefore, the answer is" in text:
        return f" {text.split('sum is ')[1].split('.')[0]}."
    numbers = [int(w) for w in text.replace("?", " ").split() if w.isdigit()]
    return f"I add. The sum is {sum(numbers)}." if "step by step" in text else "5"


def test_zero_shot_is_two_calls_for_all_problems(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    answers = ZeroShotCoT(model).batch(QUESTIONS)
    assert [a.text for a in answers] == [str(2 * n + 1) for n in range(1, 9)]
    assert (model.calls, len(model.prompts)) == (2, 16)
    assert answers[0].reasoning == "I add. The sum is 3."
    assert [c.text for c in answers[0].candidates] == ["I add. The sum is 3.", " 3."]
    words = len(model.prompts[0].split()) + len(model.prompts[8].split())
    assert answers[0].usage.input_tokens == words
    assert answers[0].usage.output_tokens == 6 + 1


def test_the_second_call_goes_on_from_the_first(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    ZeroShotCoT(model).invoke(QUESTIONS[0])
    first, second = model.asked[0][0], model.asked[1][0]
    assert first == (Message("user", "1 and 2?\n\nLet's think step by step."),)
    assert second == (*first, Message("assistant", "I add. The sum is 3."), Message("user", "Therefore, the answer is"))
    text = oracle(adds)
    ZeroShotCoT(text, TextPrompt("Q: {question}\nA:")).invoke(QUESTIONS[0])
    assert text.prompts[1] == (
        "Q: 1 and 2?\nA: Let's think step by step.I add. The sum is 3.\nTherefore, the answer is"
    )


def test_few_shot_is_one_call(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: f"They make 7 and {len(text)}. The answer is 7.")
    worked = [Example({"question": "1 and 2?"}, "3", "1 more than 2 is 3.")]
    shots = FewShotPrompt(ChatPrompt([("user", "{question}")]), worked, rationale=True)
    answers = ChainOfThought(model, shots).batch(QUESTIONS)
    assert {a.text for a in answers} == {"7"}
    assert model.calls == 1
    assert model.prompts[1] == "1 and 2?\n1 more than 2 is 3. The answer is 3.\n2 and 3?"
    assert answers[0].reasoning == answers[0].candidates[0].text
    assert answers[0].score == answers[0].candidates[0].logprob


def test_an_answer_that_can_not_be_read_is_its_own_problem(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "I do not know" if "3 and 4" in text else "It is 7")
    answers = ChainOfThought(model, "{question}", parse=last_number).batch(QUESTIONS[:4])
    assert [a.parsed for a in answers] == [7, 7, None, 7]
    assert (answers[2].text, answers[2].reasoning) == ("", "I do not know")
    assert "it has no number" in str(answers[2].error)
    assert answers[2].usage.output_tokens == 4
    assert answers[0].error is None


def test_what_is_missing_is_said_before_anything_is_asked(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    with pytest.raises(PromptError, match=r"input 1: no value for 'question'; given: 'questoin'"):
        ZeroShotCoT(model).batch([QUESTIONS[0], {"questoin": "x"}])
    with pytest.raises(PromptError, match="input 0 is 5: give a dict with 'question'"):
        ZeroShotCoT(model).invoke(5)  # type: ignore[arg-type]
    assert model.calls == 0
    assert ZeroShotCoT(model).batch([]) == []


def test_a_null_is_its_own_problem(oracle: type[Oracle]) -> None:
    good, bad = ZeroShotCoT(oracle(adds)).batch([QUESTIONS[0], {"question": None}])
    assert good.text == "3"
    assert "null" in str(bad.error)


def test_it_is_a_chain_and_a_runnable(oracle: type[Oracle]) -> None:
    chain = ZeroShotCoT(oracle(adds))
    assert isinstance(chain, Chain)
    assert isinstance(chain, Runnable)
    assert chain.variables == {"question"}
    assert chain.invoke("2 and 5?").text == "7"


def test_in_a_pipe(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    pipe = RunnableLambda(lambda n: {"question": f"{n} and 1?"}) | ZeroShotCoT(model) | RunnableLambda(str)
    assert pipe.invoke(4) == "5"
    assert pipe.batch([1, 2, 3]) == ["2", "3", "4"]
    assert model.calls == 4  # two calls each time


async def _gathered(chain: Any) -> tuple[Answer, list[Answer]]:
    return await chain.ainvoke(QUESTIONS[0]), await chain.abatch(QUESTIONS)


def test_async(oracle: type[Oracle]) -> None:
    model = oracle(adds)
    one, many = asyncio.run(_gathered(ZeroShotCoT(model)))
    assert one.text == "3"
    assert [a.text for a in many] == [str(2 * n + 1) for n in range(1, 9)]
    assert model.calls == 4


def test_callbacks_hear_of_every_problem(oracle: type[Oracle]) -> None:
    class Ear(BaseCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
            self.heard.append(outputs.text)

    ear = Ear()
    ZeroShotCoT(oracle(adds)).batch(QUESTIONS[:3], config={"callbacks": [ear]})
    assert ear.heard == ["3", "5", "7"]


def test_evaluate_takes_it(oracle: type[Oracle]) -> None:
    rows = [
        {"context": "", "question": "1 and 2?", "answers": ["3"]},
        {"context": "", "question": "1 and 4?", "answers": ["6"]},
    ]
    assert evaluate(ZeroShotCoT(oracle(adds)), squad_v2(rows)).metrics["exact"].value == 0.5


def test_sampling_reaches_the_model(tiny_model: TinyModel) -> None:
    chain = ChainOfThought(
        tiny_model(), "{question}", parse=repr, sampling=Sampling(max_tokens=3, temperature=1.0, n=2, seed=0)
    )
    answer = chain.invoke(QUESTIONS[0])
    assert [len(c.token_ids) <= 3 for c in answer.candidates] == [True, True]
    assert answer.usage == sum((c.usage for c in answer.candidates if c.usage), Usage())


def test_a_thought_is_not_lost_where_its_answer_can_not_be_read_off(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if "Therefore" in text:
            raise RuntimeError("off")
        return adds(text)

    for answer in (
        ZeroShotCoT(oracle(rule)).invoke(QUESTIONS[0]),
        ZeroShotCoT(oracle(adds), budget=Budget(calls=1)).invoke(QUESTIONS[0]),
    ):
        assert (answer.text, answer.reasoning) == ("", "I add. The sum is 3.")
        assert [c.text for c in answer.candidates] == ["I add. The sum is 3."]
        assert answer.error is not None


def test_what_was_written_is_kept_where_the_parser_raises_one_of_our_errors(oracle: type[Oracle]) -> None:
    def refuse(text: str) -> str:
        raise SettingsError("no such scale")

    answer = ChainOfThought(oracle(adds), "{question}", parse=refuse).invoke(QUESTIONS[0])
    assert (answer.reasoning, answer.error) == ("5", "no such scale")
