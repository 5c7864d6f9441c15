from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from condition.errors import ConditionError, Interrupted, ModelError, SettingsError, UnfinishedError
from condition.reasoning.steps import Program, ask, run, together, tried
from condition.types import Answer, Completion, Message, Sampling, Usage

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

HOT = Sampling(temperature=1.0)


def said(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def counting(model: Any, start: int, times: int) -> Program[int]:
    """Asks so many times for the next number."""
    value = start
    for _ in range(times):
        ((found, *_),) = yield from ask(model, [said(str(value))])
        value = int(found.text)
    return value


def successor(text: str) -> str:
    return str(int(text) + 1)


def test_problems_of_different_length_share_their_calls(oracle: type[Oracle]) -> None:
    model = oracle(successor)
    ends = run([counting(model, 10 * i, i % 4) for i in range(50)])
    assert [end.result for end in ends] == [10 * i + i % 4 for i in range(50)]
    assert model.calls == 3  # the longest takes three steps
    assert len(model.prompts) == sum(i % 4 for i in range(50))
    assert [end.usage.output_tokens for end in ends] == [i % 4 for i in range(50)]


def test_a_frontier_of_50_problems_and_5_thoughts_is_one_call(oracle: type[Oracle]) -> None:
    model = oracle(successor)

    def five(i: int) -> Program[int]:
        found = yield from ask(model, [said(str(100 * i + thought)) for thought in range(5)])
        return len(found)

    assert [end.result for end in run([five(i) for i in range(50)])] == [5] * 50
    assert (model.calls, len(model.prompts)) == (1, 250)


def test_each_sampling_is_a_call_of_its_own(oracle: type[Oracle]) -> None:
    model = oracle(successor)

    def one(sampling: Sampling) -> Program[str]:
        ((found, *_),) = yield from ask(model, [said("1")], sampling)
        return found.text

    run([one(Sampling(max_tokens=5)), one(Sampling(max_tokens=6)), one(Sampling(max_tokens=5))])
    assert [(s.max_tokens, len(asked)) for s, asked in zip(model.samplings, model.asked, strict=True)] == [
        (5, 2),
        (6, 1),
    ]


def test_equal_questions_are_samples_of_one_prompt(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: ["a", "b", "c", "d"])

    def one() -> Program[str]:
        ((found,),) = yield from ask(model, [said("x")], HOT)
        return found.text

    ((result, _),) = run([together(one() for _ in range(4))])
    assert result == ["a", "b", "c", "d"]
    assert (model.calls, len(model.prompts), model.samplings[0].n) == (1, 1, 4)


def test_each_program_gets_the_samples_it_asked_for(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: ["a", "b", "c", "d", "e", "f"])

    def two() -> Program[str]:
        (found,) = yield from ask(model, [said("x")], HOT.model_copy(update={"n": 2}))
        return "".join(one.text for one in found)

    ((result, _),) = run([together(two() for _ in range(3))])
    assert result == ["ab", "cd", "ef"]
    assert (model.calls, model.samplings[0].n) == (1, 6)


def test_what_was_set_in_a_sampling_counts(oracle: type[Oracle]) -> None:
    """A model elsewhere is sent that only, and has defaults of its own."""
    model = oracle(successor)

    def one(sampling: Sampling) -> Program[str]:
        ((found, *_),) = yield from ask(model, [said("1")], sampling)
        return found.text

    run([one(Sampling()), one(Sampling(temperature=0.0)), one(Sampling())])
    assert [
        (len(asked), sorted(s.model_fields_set)) for asked, s in zip(model.asked, model.samplings, strict=True)
    ] == [
        (2, []),
        (1, ["temperature"]),
    ]


def test_equal_greedy_questions_share_one_completion(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: "a")

    def one() -> Program[str]:
        ((found,),) = yield from ask(model, [said("x")], Sampling(temperature=0.0))
        return found.text

    ((result, _),) = run([together(one() for _ in range(4))])
    assert result == ["a"] * 4
    assert (len(model.prompts), model.samplings[0].n) == (1, 1)


def test_a_prompt_that_fails_is_its_own_problem(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text == "13":
            raise RuntimeError("content filter")
        return successor(text)

    model = oracle(rule)
    ends = [end.result for end in run([counting(model, i, 2) for i in (1, 12, 30, 13, 50)])]
    assert [ends[0], ends[2], ends[4]] == [3, 32, 52]
    for place in (1, 3):  # 12 comes to 13 in its second step
        assert isinstance(ends[place], ModelError)
        assert "RuntimeError: content filter" in str(ends[place])


def test_what_a_model_did_not_finish_is_not_asked_again() -> None:
    class Server:
        name = "server"
        asked = 0

        def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
            self.asked += 1
            done = {i: [Completion("7")] for i in range(len(prompts)) if i != 1}
            raise UnfinishedError("one is missing", done, {1: TimeoutError("too slow")})

    server = Server()
    ends = [end.result for end in run([counting(server, i, 1) for i in range(3)])]
    assert server.asked == 1
    assert (ends[0], ends[2]) == (7, 7)
    assert isinstance(ends[1], ModelError)
    assert "too slow" in str(ends[1])


def test_what_is_wrong_with_the_call_is_everybodys(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        raise SettingsError("no such setting")

    with pytest.raises(SettingsError):
        run([counting(oracle(rule), 1, 1)])


def test_a_bug_in_a_program_is_not_hidden(oracle: type[Oracle]) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        run([counting(oracle(lambda text: "seven"), 1, 1)])


def test_too_few_replies_are_an_error() -> None:
    class Short:
        name = "short"

        def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
            return []

    (end,) = run([counting(Short(), 1, 1)])
    assert isinstance(end.result, ModelError)
    assert "short gave 0 replies to 1 prompts" in str(end.result)


def test_ctrl_c_keeps_what_was_finished(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text == "12":
            raise KeyboardInterrupt
        return successor(text)

    model = oracle(rule)
    with pytest.raises(Interrupted) as stop:
        run([counting(model, 1, 1), counting(model, 10, 3), counting(model, 5, 1)])
    assert stop.value.finished == {0: 2, 2: 6}
    assert stop.value.total == 3


def test_ctrl_c_in_a_parser_keeps_what_was_finished(oracle: type[Oracle]) -> None:
    def parsing(start: int) -> Program[int]:
        value = yield from counting(oracle(successor), start, 1)
        if value == 8:
            raise KeyboardInterrupt
        return value

    with pytest.raises(Interrupted) as stop:
        run([parsing(1), parsing(7), parsing(3)])
    assert stop.value.finished == {0: 2}


def test_a_model_that_gives_fewer_samples_is_named() -> None:
    class Few:
        name = "few"

        def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
            return [[Completion("7")] if prompt[0].content == "1" else [] for prompt in prompts]

    good, bad = (end.result for end in run([counting(Few(), 1, 1), counting(Few(), 2, 1)]))
    assert good == 7
    assert isinstance(bad, ModelError)
    assert "few gave 0 completions where n=1 were asked for" in str(bad)


def test_nothing_to_ask() -> None:
    def nothing() -> Program[Answer]:
        replies = yield []
        return Answer(str(list(replies)))

    def failing() -> Program[Answer]:
        yield []
        raise ConditionError("no")

    done, failed = run([nothing(), failing()])
    assert done.result == Answer("[]")
    assert isinstance(failed.result, ConditionError)
    assert done.usage == Usage()
    assert run([]) == []


@pytest.mark.parametrize("written", [["7"], [None], Completion("7")], ids=["text", "none", "flat"])
def test_what_is_no_completion_is_named(written: Any) -> None:
    class Own:
        name = "own"

        def generate(self, prompts: Any, sampling: Sampling = Sampling(), *, control: Any = None) -> Any:
            return [written for _ in prompts]

    (end,) = run([counting(Own(), 1, 1)])
    assert isinstance(end.result, ModelError)
    assert "among its completions: let generate() give a list of them for each prompt" in str(end.result)


def test_what_was_tried_has_a_completion_each_and_the_first_error(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        return str(1 // int(text))

    asked = [said("1"), said("0"), said("-1"), said("none")]
    (end,) = run([tried(oracle(rule), ["one", "zero", "minus one", "none"], asked)])
    found, failed = cast("tuple[list[Any], str]", end.result)
    assert [(name, completion.text) for name, completion in found] == [("one", "1"), ("minus one", "-1")]
    assert "division" in failed
    (end,) = run([tried(oracle(rule), ["one"], asked[:1])])
    assert cast("tuple[list[Any], str | None]", end.result)[1] is None
