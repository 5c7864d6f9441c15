from __future__ import annotations

import json
import re
from fractions import Fraction
from functools import cache
from itertools import permutations
from operator import add, mul, sub, truediv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from condition.errors import SettingsError
from condition.prompts.template import ChatPrompt
from condition.reasoning.budget import Budget
from condition.reasoning.tree_of_thoughts import TreeOfThoughts
from condition.types import Sampling

if TYPE_CHECKING:
    from tests.reasoning.conftest import Oracle

SIGNS = {"+": add, "-": sub, "*": mul, "/": truediv}
STEP = re.compile(r"(\S+) ([-+*/]) (\S+) = (\S+) \(left: (.*)\)")
Numbers = tuple[Fraction, ...]


def numbers(text: str) -> Numbers:
    return tuple(sorted(map(Fraction, text.split())))


def shown(values: Numbers) -> str:
    return " ".join(map(str, values))


@cache
def moves(left: Numbers) -> tuple[tuple[str, Numbers], ...]:
    """Every first operation on the numbers, with what is left."""
    found: dict[str, Numbers] = {}
    for a, b, *rest in permutations(left):
        for sign, work in SIGNS.items():
            if sign == "/" and b == 0:
                continue
            value = Fraction(work(a, b))
            after = tuple(sorted((value, *rest)))
            found[f"{a} {sign} {b} = {value} (left: {shown(after)})"] = after
    return tuple(found.items())


@cache
def makes_24(left: Numbers) -> bool:
    return left == (24,) if len(left) == 1 else any(makes_24(after) for _, after in moves(left))


def expression(steps: list[str]) -> str:
    """The operations put into each other."""
    built: dict[str, list[str]] = {}
    said = ""
    for a, sign, b, value, _ in (STEP.fullmatch(step).groups() for step in steps):  # type: ignore[union-attr]
        left, right = (built[x].pop() if built.get(x) else x for x in (a, b))
        said = f"({left} {sign} {right})"
        built.setdefault(value, []).append(said)
    return said


def player(text: str) -> str:
    """Knows the rules, sees every move and, when it is asked, whether 24 can still be reached."""
    puzzle = text.split("\n")[0]
    steps = re.findall(r"^\d+\. (.* \(left: .*\))$", text, re.MULTILINE)
    left = numbers(STEP.fullmatch(steps[-1])[5] if steps else puzzle)  # type: ignore[index]
    if "different possible next steps" in text:
        return "\n".join(f"- {move}" for move, _ in moves(left))
    if "Can these steps still lead" in text:
        return "sure" if makes_24(left) else "impossible"
    if "Which of these is best" in text:
        return "1"
    return f"The answer is {expression(steps)}"


def value_of(text: str) -> Fraction:
    """What an expression in brackets comes to."""
    tokens = re.findall(r"[()]|\S+?(?=[()\s]|$)", text)

    def read() -> Fraction:
        token = tokens.pop(0)
        if token != "(":
            return Fraction(token)
        a, sign, b = read(), tokens.pop(0), read()
        assert tokens.pop(0) == ")"
        return Fraction(SIGNS[sign](a, b))

    return read()


def is_24(question: str, answer: str) -> bool:
    used = sorted(re.findall(r"\d+", answer))
    return value_of(answer) == 24 and used == sorted(question.split())


@pytest.fixture
def puzzles(shared_data: Path) -> list[str]:
    lines = (shared_data / "tree_of_thought" / "game24.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["Puzzles"] for line in lines[:30]]


def solved(answers: list[Any], puzzles: list[str]) -> int:
    return sum(a.error is None and is_24(p, a.text) for a, p in zip(answers, puzzles, strict=True))


def test_all_of_30_games_of_24_are_solved(oracle: type[Oracle], puzzles: list[str]) -> None:
    model = oracle(player)
    answers = TreeOfThoughts(model, thoughts=50).batch(puzzles)
    assert solved(answers, puzzles) == 30
    assert model.calls == 2 * 3 + 1 + 1  # propose and evaluate at each depth, reason, rank: for all of them
    propose = sum("next steps, one a line" in p for p in model.prompts)
    assert propose == 30 * (1 + 3 + 3)
    assert sum("Can these steps" in p for p in model.prompts) <= 30 * 50 * (1 + 3 + 3)
    assert sum("Follow these steps" in p for p in model.prompts) == 30 * 3
    assert answers[0].score == 20
    assert str(answers[0].reasoning).count("left:") == 3


def test_fewer_are_solved_with_the_search_switched_off(oracle: type[Oracle], puzzles: list[str]) -> None:
    model = oracle(player)
    answers = TreeOfThoughts(model, breadth=1, thoughts=1).batch(puzzles)
    assert solved(answers, puzzles) < 5
    assert len(model.prompts) == 30 * (3 + 3 + 1)


def test_depth_first_solves_them_too(oracle: type[Oracle], puzzles: list[str]) -> None:
    model = oracle(player)
    answers = TreeOfThoughts(model, search="dfs", breadth=1, thoughts=50).batch(puzzles)
    assert solved(answers, puzzles) == 30
    assert model.calls == 2 * 3 + 1


def test_depth_first_goes_back_where_an_answer_is_refused(oracle: type[Oracle], puzzles: list[str]) -> None:
    """The evaluator is blind here: only going back finds the answers."""

    def blind(text: str) -> str:
        return "likely" if "Can these steps" in text else player(text)

    easy = puzzles[:3]
    one_way = TreeOfThoughts(oracle(blind), search="dfs", breadth=1, thoughts=50, check=is_24).batch(easy)
    assert solved(one_way, easy) == 0
    assert all("leads to an answer" in str(a.error) for a in one_way)
    every_way = TreeOfThoughts(oracle(blind), search="dfs", breadth=50, thoughts=50, check=is_24).batch(easy)
    assert solved(every_way, easy) == 3


LETTERS = {"propose": "{goal}\n{steps}\npropose {thoughts}", "evaluate": "{goal}\n{steps}\nevaluate",
           "reason": "{goal}\n{steps}\nreason", "rank": "{goal}\n{candidates}\nrank"}  # fmt: skip


def speller(text: str) -> str:
    """Spells the goal letter by letter: a path is as good as the letters that are right from the start."""
    goal, *lines = text.split("\n")
    path = "".join(line.split(". ")[1] for line in lines[:-1] if ". " in line)
    if lines[-1].startswith("propose"):
        return "a\nb\nc"
    if lines[-1] == "rank":
        endings = [candidate.split("\n")[-1] for candidate in "\n".join(lines[:-1]).split("\n\n")]
        return f"number {next((i for i, word in enumerate(endings, 1) if goal in word), 1)}"
    return path if lines[-1] == "reason" else str(float(goal.startswith(path)))


def test_counts_are_the_theorys(oracle: type[Oracle]) -> None:
    model = oracle(speller)
    tree = TreeOfThoughts(model, prompts=LETTERS, breadth=2, depth=4, thoughts=3, votes=1)
    assert tree.variables == {"goal"}
    answers = tree.batch(["abca", "bbbb"])
    assert [a.text for a in answers] == ["abca", "bbbb"]
    per_problem = (1 + 2 * 3) + (3 + 6 * 3) + 2 + 1  # propose, evaluate, reason, rank
    assert len(model.prompts) == 2 * per_problem
    assert model.calls == 2 * 4 + 2


def test_depth_first_counts(oracle: type[Oracle]) -> None:
    model = oracle(speller)
    answer = TreeOfThoughts(model, prompts=LETTERS, search="dfs", depth=4, thoughts=3).invoke("cabc")
    assert (answer.text, answer.score) == ("cabc", 1.0)
    assert len(model.prompts) == 4 * (1 + 3) + 1


def test_votes_look_at_all_paths_at_once(oracle: type[Oracle]) -> None:
    model = oracle(speller)
    tree = TreeOfThoughts(model, prompts=LETTERS, depth=1, breadth=1, thoughts=3, evaluation="vote", votes=5)
    assert tree.invoke("b").text == "b"
    assert [(s.n, s.temperature) for s in model.samplings] == [(1, 0.0), (5, 0.7), (1, 0.0)]
    assert tree.invoke("c").text == "c"  # the last of three


@pytest.mark.parametrize("said", ["0 fit, 2 does", "number 2", "4? No, 2."])
def test_a_number_that_is_no_place_is_passed_over(oracle: type[Oracle], said: str) -> None:
    model = oracle(lambda text: said if "rank" in text else speller(text))
    assert TreeOfThoughts(model, prompts=LETTERS, depth=1, thoughts=3).invoke("q").text == "b"


def test_thoughts_can_be_drawn_one_by_one(oracle: type[Oracle]) -> None:
    model = oracle(lambda text: ["a", "b", "a", "c"] if "propose" in text else speller(text))
    answer = TreeOfThoughts(model, prompts=LETTERS, depth=1, breadth=1, thoughts=4, sample=True).invoke("c")
    assert answer.text == "c"
    assert (model.samplings[0].n, model.samplings[0].temperature) == (4, 0.7)
    warm = oracle(lambda text: ["a", "b"] if "propose" in text else speller(text))
    TreeOfThoughts(warm, prompts=LETTERS, depth=1, sample=True, sampling=Sampling(temperature=1.2)).invoke("c")
    assert warm.samplings[0].temperature == 1.2
    assert len(model.asked[1]) == 3  # the same thought is evaluated once


def test_a_path_that_fails_is_left(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if text.split("\n")[1] == "1. b" and "propose" in text:
            raise RuntimeError("refused")
        return "no idea" if "evaluate" in text and "1. c" in text else speller(text)

    bad_thought = TreeOfThoughts(oracle(rule), prompts=LETTERS, depth=2).invoke("ab")
    assert (bad_thought.text, bad_thought.error) == ("ab", None)
    lost = TreeOfThoughts(oracle(rule), prompts=LETTERS, depth=2, breadth=1).invoke("ba")
    assert (lost.text, lost.reasoning) == ("", "b")
    assert "refused" in str(lost.error)
    around = TreeOfThoughts(oracle(rule), prompts=LETTERS, depth=2, search="dfs", threshold=0).invoke("ba")
    assert around.error is None


def test_a_budget_keeps_the_best_path(oracle: type[Oracle]) -> None:
    model = oracle(speller)
    answer = TreeOfThoughts(model, prompts=LETTERS, depth=3, thoughts=3, budget=Budget(calls=5)).invoke("cab")
    assert (answer.text, answer.reasoning, answer.score) == ("", "c", 1.0)
    assert "5 of 5 calls" in str(answer.error)
    assert len(model.prompts) == 5
    unranked = TreeOfThoughts(oracle(speller), prompts=LETTERS, depth=1, thoughts=3, budget=Budget(calls=7)).invoke("b")
    assert unranked.text == "b"
    assert "7 of 7" in str(unranked.error)


def test_checked_answers(oracle: type[Oracle]) -> None:
    def not_b(question: str, answer: str) -> bool:
        return answer != "b" and 1 / len(question) > 0

    tree = TreeOfThoughts(oracle(speller), prompts=LETTERS, depth=1, thoughts=3, check=not_b)
    assert tree.invoke("b").text == "a"
    nothing = TreeOfThoughts(oracle(speller), prompts=LETTERS, depth=1, check=lambda q, a: False).invoke("b")
    assert "no answer passes the check" in str(nothing.error)


def test_of_equal_answers_the_best_paths_stands_first(oracle: type[Oracle]) -> None:
    """The answer of the best path came behind one that was better than its last likeness."""
    answers = {"1. a": "same", "1. b": "other", "1. c": "same"}

    def rule(text: str) -> str:
        step, task = [*text.split("\n"), ""][1:3]
        if text.endswith("propose 3"):
            return "a\nb\nc"
        if text.endswith("evaluate"):
            return {"1. a": "3", "1. b": "2", "1. c": "1"}[step]
        return answers[step] if task == "reason" else "none of them"

    model = oracle(rule)
    answer = TreeOfThoughts(model, prompts=LETTERS, depth=1, thoughts=3).invoke("x")
    assert (answer.text, answer.score) == ("same", 3)  # nothing is named, so the best path's
    assert model.prompts[-1] == "x\n1. a\nsame\n\n2. b\nother\nrank"


def test_a_path_without_a_value_is_behind_all_that_have_one(oracle: type[Oracle]) -> None:
    def rule(text: str) -> str:
        if "evaluate" in text:
            return "no idea" if "1. a" in text else "nan" if "1. b" in text else "-5"
        return "1" if "rank" in text else speller(text)

    for search in ("bfs", "dfs"):
        tree = TreeOfThoughts(
            oracle(rule), prompts=LETTERS, depth=1, thoughts=3, parse_value=float, threshold=-9, search=search
        )
        answer = tree.invoke("c")
        assert (answer.text, answer.score, answer.error) == ("c", -5, None)
    second = oracle(lambda text: "2" if "rank" in text else rule(text))
    answer = TreeOfThoughts(second, prompts=LETTERS, depth=1, thoughts=3, parse_value=float).invoke("c")
    assert (answer.text, answer.score, answer.error) == ("a", None, None)  # it has no value, and is ranked first


def test_the_prompts_own_parsers_count(oracle: type[Oracle]) -> None:
    prompts = {
        "propose": ChatPrompt([("user", LETTERS["propose"])], parse=list),
        "evaluate": ChatPrompt([("user", LETTERS["evaluate"])], parse=lambda text: -float(text)),
        "reason": ChatPrompt([("user", LETTERS["reason"])], parse=str.upper),
        "rank": LETTERS["rank"],
    }
    model = oracle(lambda text: "abc" if "propose" in text else speller(text))
    assert TreeOfThoughts(model, prompts=prompts, depth=1, thoughts=3, breadth=1).invoke("a").text == "B"
    given = TreeOfThoughts(
        model,
        prompts=prompts,
        depth=1,
        breadth=1,
        parse=str.strip,
        parse_value=float,
        parse_thoughts=lambda text: ["b", "a"],
    )
    assert given.invoke("a").text == "a"


def test_one_text_is_no_list_of_thoughts(oracle: type[Oracle]) -> None:
    answer = TreeOfThoughts(oracle(speller), prompts=LETTERS, parse_thoughts=str.strip).invoke("a")
    assert "let it give a list" in str(answer.error)


def test_a_check_that_breaks_is_named(oracle: type[Oracle]) -> None:
    tree = TreeOfThoughts(oracle(speller), prompts=LETTERS, depth=1, check=lambda q, a: 1 / 0 > 0)
    assert "no answer passes the check; it says ZeroDivisionError" in str(tree.invoke("b").error)


def test_what_does_not_fit(oracle: type[Oracle]) -> None:
    model = oracle(speller)
    with pytest.raises(SettingsError, match="did you mean propose"):
        TreeOfThoughts(model, prompts={"proposal": "{steps}"})
    with pytest.raises(SettingsError, match="depth=0"):
        TreeOfThoughts(model, depth=0)
    with pytest.raises(SettingsError, match="'bfs' or 'dfs'"):
        TreeOfThoughts(model, search="best")  # type: ignore[arg-type]
    silent = TreeOfThoughts(oracle(lambda text: ""), prompts=LETTERS).invoke("a")
    assert "no first step was proposed" in str(silent.error)
