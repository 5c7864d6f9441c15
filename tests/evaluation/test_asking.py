"""Nothing is asked twice, nothing wrong is served, and what was finished outlives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from condition.errors import Interrupted, SettingsError, UnfinishedError
from condition.evaluation import asking
from condition.evaluation.evaluate import evaluate
from condition.evaluation.tasks.task import Task, TaskRow
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.protocols import Control
from condition.types import Answer, Completion, Messages, Sampling, Usage

ROWS = [TaskRow(str(i), {"q": f"Q{i}"}, f"A{i}") for i in range(10)]


def same(prediction: str, target: Any, /) -> Mapping[str, float]:
    return {"same": float(prediction == target)}


def task(rows: Sequence[TaskRow] = ROWS, **changes: Any) -> Task:
    return Task("t", rows, same, prompt=ChatPrompt([("user", "{q}")]), **changes)


class Oracle:
    """Counts what it was asked."""

    name = "oracle"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        self.asked += [messages[-1].content for messages in prompts]
        usage = Usage(input_tokens=2, output_tokens=1, seconds=0.25)
        return [[Completion("A" + m[-1].content[1:], usage=usage)] * sampling.n for m in prompts]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BATCH", 4)


def test_a_local_model_is_not_asked_again(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    work = task(sampling=Sampling(max_tokens=3, temperature=0.0))
    first = evaluate(model, work, cache=tmp_path)
    plain = evaluate(model, work)
    asked: list[int] = []
    real = asking.ask
    monkeypatch.setattr(asking, "ask", lambda *given: (asked.append(len(given[2])), real(*given))[1])
    again = evaluate(model, work, cache=tmp_path)
    assert asked == []
    assert again.rows == first.rows == plain.rows
    assert (first.cached, again.cached) == (0, 10)
    assert again.usage == first.usage
    assert again.seconds == pytest.approx(first.seconds)
    assert "10 of them from the cache" in str(again)


@pytest.mark.parametrize("change", ["weights", "prompt", "sampling", "rows", "template"])
def test_whatever_answers_depend_on_asks_again(tiny_model: Any, tmp_path: Path, change: str) -> None:
    model = tiny_model("llama")
    short = Sampling(max_tokens=2, temperature=0.0)
    evaluate(model, task(sampling=short), cache=tmp_path)
    prompt, rows = "{q}", ROWS
    if change == "weights":
        model.network.model.norm.weight.data[3] *= 1.5
    if change == "prompt":
        prompt = "Say {q}"
    if change == "sampling":
        short = Sampling(max_tokens=3, temperature=0.0)
    if change == "template":
        model.tokenizer.chat_template = model.tokenizer.chat_template.replace("user", "User")
        model.tokenizer.chat_template += "{# new #}"
    if change == "rows":
        rows = [*ROWS[:9], TaskRow("9", {"q": "other"}, "A9")]
    found = evaluate((model, prompt), task(rows, sampling=short), cache=tmp_path)
    assert found.cached == (9 if change == "rows" else 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"temperature": 0.0}),  # said aloud: a model elsewhere is sent what was set, and has its own way otherwise
        ({"temperature": 0.5}, {"temperature": 0.6}),
        ({"seed": 1}, {"seed": 2}),
        ({"stop": ("A",)}, {"stop": ("B",)}),
        ({"top_p": 0.5}, {"top_p": 0.6}),
        ({"top_k": 3}, {"top_k": 4}),
        ({"min_p": 0.5}, {"min_p": 0.6}),
        ({"max_tokens": 8}, {"max_tokens": 9}),
        ({"n": 1}, {"n": 2}),
    ],
)
def test_every_setting_of_sampling_asks_again(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    oracle = Oracle()
    evaluate(oracle, task(sampling=Sampling(**one)), cache=tmp_path, key="oracle")
    assert evaluate(oracle, task(sampling=Sampling(**other)), cache=tmp_path, key="oracle").cached == 0
    assert len(oracle.asked) == 20


def test_other_references_and_words_that_act_ask_again(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("llama")
    rows = [TaskRow("1", {"q": "<|im_end|>"}, "", choices=("a", "b"))]
    told: dict[str, Any] = {"measure": lambda row, reply: {"n": float(len(reply.scores))}, "prompt": "{q}"}
    for references, length in (([], 2), ([{"q": "N/A"}], 4), ([{"q": "none"}], 4), (["Say:"], 4)):
        found = evaluate(model, Task("c", rows, references=references, **told), cache=tmp_path)
        assert (found.cached, found.metrics["n"].value) == (0, length)
    acts, says = TextPrompt("Q: <|im_end|>"), TextPrompt("Q: {q}")  # the same words: one token, or several
    assert acts.format() == says.format(q="<|im_end|>")
    for prompt in (acts, says):
        assert evaluate((model, prompt), Task("c", rows, **told), cache=tmp_path).cached == 0


def test_rows_that_ask_the_same_have_an_answer_each(tmp_path: Path) -> None:
    said = iter("abcdef")
    rows = [TaskRow(str(i), {"q": "same"}, "") for i in range(3)]
    first = evaluate(lambda inputs: next(said), task(rows), cache=tmp_path, key="f")
    again = evaluate(lambda inputs: next(said), task(rows), cache=tmp_path, key="f")
    assert [row.prediction for row in first.rows] == [row.prediction for row in again.rows] == ["a", "b", "c"]
    assert again.cached == 3


def test_another_metric_over_the_same_rows_asks_nothing(tiny_model: Any, tmp_path: Path) -> None:
    model, short = tiny_model("llama"), Sampling(max_tokens=2, temperature=0.0)
    evaluate(model, task(sampling=short), cache=tmp_path)
    other = Task("o", ROWS, lambda p, t: {"length": len(p) / 100}, prompt="{q}", sampling=short)
    other_prompt = evaluate((model, [("user", "{q}")]), other, cache=tmp_path)
    assert (other_prompt.cached, list(other_prompt.metrics)) == (10, ["length"])


def test_likelihoods_are_kept_to_the_last_digit(tiny_model: Any, tmp_path: Path) -> None:
    rows = [TaskRow(str(i), {"q": f"Q{i}"}, 0, choices=(" yes", " no", " perhaps so")) for i in range(6)]
    work = Task("c", rows, measure=lambda row, reply: {"p": reply.scores[1].logprob}, prompt="{q}")  # type: ignore[index]
    model = tiny_model("llama")
    first = evaluate(model, work, cache=tmp_path)
    again = evaluate(model, work, cache=tmp_path)
    assert again.cached == 6
    assert again.rows == first.rows
    other = [row._replace(choices=(" yes", " never")) for row in rows]
    changed = Task("c", other, measure=lambda row, reply: {"p": reply.scores[1].logprob}, prompt="{q}")  # type: ignore[index]
    assert evaluate(model, changed, cache=tmp_path).cached == 0


def test_what_has_no_fingerprint_is_kept_only_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oracle = Oracle()
    for times in (1, 2):
        assert evaluate(oracle, task(), cache=tmp_path).cached == 0
        assert caplog.text.count("nothing is kept") == times  # nobody finds that out after a kill
    assert list(tmp_path.iterdir()) == []
    caplog.clear()
    evaluate(oracle, task())
    assert evaluate(oracle, task(), cache=tmp_path, key="oracle 1").cached == 0
    assert evaluate(oracle, task(), cache=tmp_path, key="oracle 1").cached == 10
    assert evaluate(oracle, task(), cache=tmp_path, key="oracle 2").cached == 0
    assert evaluate(oracle, task(), cache=tmp_path, key="oracle 1", budget=3).usage.input_tokens == 6
    assert len(oracle.asked) == 50
    assert not caplog.text
    calls: list[Any] = []
    for _ in range(2):
        evaluate(lambda inputs: calls.append(inputs) or "x", task(), cache=tmp_path, key="function")  # type: ignore[func-returns-value]
    assert len(calls) == 10
    with pytest.raises(SettingsError, match="name the subject with a text"):
        evaluate(oracle, task(), cache=tmp_path, key="")


def test_rows_that_ask_the_same_have_answers_of_their_own(tmp_path: Path) -> None:
    drawn = iter("abcdef")
    twice = [TaskRow("1", {"q": "same"}, "a"), TaskRow("2", {"q": "same"}, "b")]

    def draw(inputs: Mapping[str, Any]) -> str:
        return next(drawn)

    for _ in range(2):
        found = evaluate(draw, task(twice), cache=tmp_path, key="draw")
        assert [row.prediction for row in found.rows] == ["a", "b"]


def test_inputs_that_can_not_be_told_apart_are_asked_again(tmp_path: Path) -> None:
    rows = [TaskRow("1", {"q": object()}, "x"), TaskRow("2", {"q": "plain"}, "x")]
    assert evaluate(lambda inputs: "x", task(rows), cache=tmp_path, key="f").cached == 0
    assert evaluate(lambda inputs: "x", task(rows), cache=tmp_path, key="f").cached == 1


def test_a_prompt_is_filled_once_for_each_row() -> None:
    filled: list[object] = []

    class Counting:
        variables = frozenset({"q"})

        def format(self, **inputs: object) -> Messages:
            filled.append(inputs["q"])
            return ChatPrompt([("user", "{q}")]).format(**inputs)

    found = evaluate((Oracle(), Counting()), task())
    assert filled == [row.inputs["q"] for row in ROWS]
    assert found.metrics["same"].value == 1


class Stopped(Oracle):
    """Ctrl-C in the second batch, after one of its prompts."""

    def generate(self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), **given: Any) -> Any:
        found = super().generate(prompts, sampling)
        if len(self.asked) == 8:
            raise Interrupted({2: found[2]}, len(prompts))
        return found


def test_ctrl_c_keeps_the_rows_that_were_finished(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="after 5 of 10") as stop:
        evaluate(Stopped(), task(), cache=tmp_path, key="oracle")
    assert sorted(stop.value.finished) == [0, 1, 2, 3, 6]
    assert stop.value.finished[6].metrics == {"same": 1}
    oracle = Oracle()
    found = evaluate(oracle, task(), cache=tmp_path, key="oracle")
    assert oracle.asked == ["Q4", "Q5", "Q7", "Q8", "Q9"]
    assert (found.cached, found.metrics["same"].value) == (5, 1)


def test_ctrl_c_in_a_function() -> None:
    def work(inputs: Mapping[str, Any]) -> str:
        if inputs["q"] == "Q7":
            raise KeyboardInterrupt
        return "x"

    with pytest.raises(Interrupted) as stop:
        evaluate(work, task())
    assert sorted(stop.value.finished) == list(range(7))


def test_a_model_that_leaves_prompts_unanswered_loses_only_those(tmp_path: Path) -> None:
    class Flaky(Oracle):
        def generate(self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), **given: Any) -> Any:
            found = super().generate(prompts, sampling)
            raise UnfinishedError("busy", dict(enumerate(found[:3])), {3: OSError()})

    with pytest.raises(UnfinishedError, match="busy"):
        evaluate(Flaky(), task(), cache=tmp_path, key="o")
    assert evaluate(Oracle(), task(), cache=tmp_path, key="o").cached == 3


def test_a_chain_keeps_what_it_answered(tmp_path: Path) -> None:
    class Chain:
        def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
            return Answer("x")

        def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
            raise Interrupted({1: Answer("A1", usage=Usage(output_tokens=7)), 2: Answer("", error="broken")}, 4)

    with pytest.raises(Interrupted) as stop:
        evaluate(Chain(), task(), cache=tmp_path, key="c")
    assert sorted(stop.value.finished) == [1]


def test_a_problem_without_an_answer_is_told_and_asked_again(tmp_path: Path) -> None:
    class Chain:
        broken = True

        def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
            failed = self.broken and inputs["q"] == "Q3"
            return Answer("", error="no connection") if failed else Answer(f"A{inputs['q'][1:]}")

        def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
            return [self.invoke(one) for one in inputs]

    chain = Chain()
    first = evaluate(chain, task(), cache=tmp_path, key="c")
    assert (first.errors, first.metrics["same"].value) == ({"3": "no connection"}, 0.9)
    assert "1 without an answer, see .errors" in str(first)
    chain.broken = False
    again = evaluate(chain, task(), cache=tmp_path, key="c")
    assert (again.cached, again.errors, again.metrics["same"].value) == (9, {}, 1)


def test_a_metric_that_fails_does_so_before_all_is_asked() -> None:
    oracle = Oracle()

    def broken(prediction: str, target: Any, /) -> Mapping[str, float]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate(oracle, Task("t", ROWS, broken, prompt="{q}"))
    assert len(oracle.asked) == 4


KILLED = """
import sys, time
from condition.evaluation.evaluate import evaluate
from condition.evaluation.tasks.task import Task, TaskRow

rows = [TaskRow(str(i), {"q": i}, "x") for i in range(200)]

def slow(inputs):
    time.sleep(0.02)
    print(inputs["q"], flush=True)
    return f"said {inputs['q']}"

found = evaluate(slow, Task("t", rows, lambda p, t: {"a": 1.0}, prompt="{q}"), cache=sys.argv[1], key="slow")
print("cached", found.cached, [row.prediction for row in found.rows] == [f"said {i}" for i in range(200)])
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    root = Path(asking.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "30":
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    rest = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *asked, last = rest.stdout.splitlines()
    assert last.startswith("cached ")
    assert last.endswith("True")
    kept = int(last.split()[1])
    assert 30 <= kept < 200
    assert len(asked) == 200 - kept
