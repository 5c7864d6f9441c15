"""Search over thoughts: several next steps from each step, the promising ones kept, dead ends left.

    tree = TreeOfThoughts(model, breadth=3, depth=3)
    tree.invoke({"question": "Make 24 from 4 9 10 13."}).text
    TreeOfThoughts(model, search="dfs", check=lambda question, answer: "24" in answer)     # tries again elsewhere

Yao et al. 2023, arXiv 2305.10601. Four prompts carry it: propose, evaluate, reason, rank; see
`condition.reasoning.thoughts`. The frontiers of all problems are asked together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, final

from condition.errors import BudgetError, ConditionError, ModelError, SettingsError
from condition.models.arguments import check_counts
from condition.models.remote import as_model
from condition.prompts.parse import listed
from condition.reasoning.answers import Parse, parser_of
from condition.reasoning.best_of import question_of
from condition.reasoning.budget import Budget
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import THINKING
from condition.reasoning.steps import Program
from condition.reasoning.thoughts import Evaluation, Path, Prompts, Thinker, worth
from condition.types import Answer, Sampling


@final
class TreeOfThoughts(Reasoner):
    """Proposes `thoughts` next steps from each path, `depth` times, and answers from the best paths.

    `search="bfs"` keeps the `breadth` best paths of each depth, answers from each of them and lets the model rank the
    answers. `search="dfs"` follows the best step first, at most `breadth` of each node, leaves those worth less than
    `threshold`, and goes back where all are left; the first answer that is reached counts.

    `evaluation="value"` asks of each path what it is worth, by the words sure, likely and impossible or a number
    (`parse_value`); `"vote"` shows all paths at once and counts. Both sum `votes` samples. `sample=True` draws thoughts
    one by one instead of asking for a list (`parse_thoughts`). `check(question, answer)` refuses answers: the search
    goes on, or takes the next best. `prompts` replaces some of the four prompts, whose own parsers count where none is
    given here.

    The Answer has the path's value as score, the path and the final words as reasoning, and the other answers among the
    candidates. Out of budget it has the best path so far as reasoning.
    """

    def __init__(
        self,
        model: Any,
        *,
        prompts: Mapping[str, Any] | None = None,
        breadth: int = 3,
        depth: int = 3,
        search: Literal["bfs", "dfs"] = "bfs",
        thoughts: int = 5,
        evaluation: Evaluation = "value",
        votes: int = 1,
        threshold: float = 0.5,
        sample: bool = False,
        check: Callable[[str, str], bool] | None = None,
        parse_thoughts: Callable[[str], Sequence[str]] | None = None,
        parse_value: Parse | None = None,
        parse: Parse | None = None,
        temperature: float = 0.7,
        sampling: Sampling = THINKING,
        budget: Budget | None = None,
    ) -> None:
        check_counts(breadth=breadth, depth=depth, thoughts=thoughts, votes=votes)
        if search not in ("bfs", "dfs") or evaluation not in ("value", "vote"):
            raise SettingsError(f"{search=}, {evaluation=}: give 'bfs' or 'dfs', and 'value' or 'vote'")
        asked = Prompts(prompts)
        self.thinker = Thinker(
            model=as_model(model),
            prompts=asked,
            thoughts=thoughts,
            sample=sample,
            votes=votes,
            sampling=sampling,
            temperature=Sampling(temperature=temperature).temperature,
            parse_thoughts=parser_of(asked.by_name["propose"], parse_thoughts, listed),
            parse_value=parser_of(asked.by_name["evaluate"], parse_value, worth),
            parse=parser_of(asked.by_name["reason"], parse),
        )
        self.breadth = breadth
        self.depth = depth
        self.search = search
        self.evaluation = evaluation
        self.threshold = threshold
        self.check = check
        self.budget = budget

    @property
    def variables(self) -> frozenset[str]:
        return self.thinker.prompts.variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        best = _Best()
        try:
            if self.search == "bfs":
                return (yield from self._breadth_first(inputs, best))
            found = yield from self._depth_first(inputs, (), best)
        except ConditionError as error:
            return best.answer(str(error))
        return found or best.answer(
            f"no path worth {self.threshold:g} or more leads to an answer; raise thoughts= or breadth="
        )

    def _breadth_first(self, inputs: Inputs, best: _Best) -> Program[Answer]:
        frontier: list[tuple[Path, float]] = [((), 0.0)]
        for _ in range(self.depth):
            grown = yield from self._grown(inputs, [path for path, _ in frontier])
            if not grown:
                break
            frontier = grown[: self.breadth]
            best.path, best.value = frontier[0]
        if not frontier[0][0]:
            raise ModelError("no first step was proposed; change the prompt propose")
        answers = yield from self.thinker.reason(inputs, [path for path, _ in frontier])
        refusals = [self._refusal(inputs, answer) for answer in answers]
        told = [
            answer.model_copy(update={"score": None if value == -math.inf else value})
            for answer, (_, value), refusal in zip(answers, frontier, refusals, strict=True)
            if refusal is None
        ]
        if not told:
            best.reasoned = answers[0]
            raise ModelError(f"{refusals[0]}; raise breadth= or thoughts=")
        best.reasoned = told[0]
        return (yield from self._ranked(inputs, told))

    def _ranked(self, inputs: Inputs, told: Sequence[Answer]) -> Program[Answer]:
        """The answer that the model ranks first; the one from the best path where there is no choice, or none named."""
        first: dict[str, Answer] = {}
        for answer in told:
            first.setdefault(answer.text, answer)
        different, place = list(first.values()), 0
        if len(different) > 1:
            try:
                place = yield from self.thinker.rank(inputs, [answer.reasoning or answer.text for answer in different])
            except BudgetError:
                raise
            except ConditionError:
                place = 0
        others = tuple(completion for answer in told for completion in answer.candidates)
        return different[place].model_copy(update={"candidates": others})

    def _depth_first(self, inputs: Inputs, path: Path, best: _Best) -> Program[Answer | None]:
        """The first good answer below a path; None where there is none."""
        if len(path) == self.depth:
            (answer,) = yield from self.thinker.reason(inputs, [path])
            best.reasoned = answer
            good = self._refusal(inputs, answer) is None
            return answer.model_copy(update={"score": best.value}) if good else None
        grown = yield from self._grown(inputs, [path])
        for longer, value in grown[: self.breadth]:
            if value < self.threshold:
                break
            best.path, best.value = longer, value
            try:
                found = yield from self._depth_first(inputs, longer, best)
            except BudgetError:
                raise
            except ConditionError:
                continue  # what can't be asked on leads nowhere
            if found is not None:
                return found
        return None

    def _grown(self, inputs: Inputs, paths: Sequence[Path]) -> Program[list[tuple[Path, float]]]:
        """Paths that are one step longer with their values, the best first; of equals, those proposed first."""
        proposed = yield from self.thinker.propose(inputs, paths)
        longer = [path for found in proposed for path in found]
        values = yield from (
            self.thinker.value(inputs, longer) if self.evaluation == "value" else self.thinker.vote(inputs, longer)
        )
        order = sorted(range(len(longer)), key=lambda i: -values[i])
        return [(longer[i], values[i]) for i in order]

    def _refusal(self, inputs: Inputs, answer: Answer) -> str | None:
        """Why an answer is not taken; None for a good one."""
        if answer.error is not None or self.check is None:
            return answer.error
        try:
            return None if self.check(question_of(inputs), answer.text) else "no answer passes the check"
        except Exception as error:  # what a program can't make sense of is no right answer
            return f"no answer passes the check; it says {type(error).__name__}: {error}"


class _Best:
    """What a search has found, for the case that it is stopped."""

    def __init__(self) -> None:
        self.path: Path = ()
        self.value: float | None = None
        self.reasoned: Answer | None = None

    def answer(self, why: str) -> Answer:
        if self.reasoned is not None:
            return self.reasoned.model_copy(update={"error": why})
        return Answer("", reasoning="\n".join(self.path) or None, score=self.value, error=why)
