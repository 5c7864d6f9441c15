"""Looks for a better prompt: instructions and examples are tried on some rows, and kept where held-back rows agree.

    found = optimise(prompt, examples, metric, model=model, instructions=["Answer with one word."])
    print(found)                                  # what was tried, and how good it was
    found.prompt                                  # the best, for any chain; the one given where nothing is better

Instructions are yours, and the model's own from examples of what is wanted (automatic prompt engineer, Zhou et al.
2022, arXiv 2211.01910). Example sets are drawn at random, as DSPy does (Khattab et al. 2023, arXiv 2310.03714).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast, final

from pydantic import ConfigDict

from condition.errors import BudgetError, ConditionError, DataError, Interrupted, ModelError, SettingsError
from condition.models.arguments import check_counts
from condition.models.remote import as_model
from condition.prompts.compose import chooses
from condition.prompts.examples import checked, is_item
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.fill import fill
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.protocols import Chain, Model, Prompt
from condition.reasoning.best_of import question_of
from condition.reasoning.budget import Budget, limited
from condition.reasoning.chain import Reasoner
from condition.reasoning.cot import THINKING, ChainOfThought
from condition.reasoning.direct import as_steps
from condition.reasoning.steps import Ask, Program, advanced, ask, run, together
from condition.types import Answer, Example, Message, Sampling, Usage, Value

Measure = Callable[[str, Any], Mapping[str, float] | float]
WRITE = (
    "I gave a friend an instruction and some inputs. The friend read the instruction and wrote an output for each:\n\n"
    "{pairs}\n\nWhat was the instruction? Write the instruction and nothing else."
)
WRITING = Sampling(max_tokens=64, temperature=0.9)
_PAIRS = 5
"""As in the paper."""


@final
class Trial(Value):
    """A prompt that was tried: what differs in it, and its mean measure on either kind of rows."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt: Prompt
    instruction: str | None
    """None: the prompt's own."""
    examples: tuple[Example, ...]
    """None of them: the prompt's own."""
    searched: float
    """On the rows that are searched on."""
    held: float | None
    """On the rows held back; None where the others had it behind the best, so that nobody looked."""


@final
class Optimised(Value):
    """The best prompt on the held-back rows, and every trial in order; the first is the prompt as it was given."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    trials: tuple[Trial, ...]
    best: int
    """Its place among the trials."""
    usage: Usage
    error: str | None = None
    """Why the search ended early."""

    @property
    def prompt(self) -> Prompt:
        """The best."""
        return self.trials[self.best].prompt

    def __str__(self) -> str:
        lines = ["  searched    held  examples  instruction"]
        for place, trial in enumerate(self.trials):
            held = "" if trial.held is None else f"{trial.held:.3f}"
            told = "its own" if trial.instruction is None else repr(trial.instruction[:60])
            shown = len(trial.examples) or "its own"
            sign = "*" if place == self.best else " "
            lines.append(f"{sign} {trial.searched:8.3f}{held:>8}{shown:>10}  {told}")
        return "\n".join([*lines, *([self.error] if self.error else [])])


def optimise(
    prompt: Any,
    examples: Sequence[Example],
    metric: Measure,
    *,
    model: Any = None,
    chain: Callable[[Prompt], Chain] | None = None,
    instructions: Sequence[str] = (),
    proposals: int = 8,
    k: int = 4,
    sets: int = 8,
    held: Sequence[Example] | float = 0.5,
    rows: int = 64,
    sampling: Sampling = THINKING,
    seed: int = 0,
    budget: Budget | None = None,
) -> Optimised:
    """The prompt with the instruction and the `k` examples that answer best.

    First each instruction is tried: those given (templates, as FewShotPrompt's) and `proposals` that the model writes
    from examples. Then, with the best, `sets` sets of `k` examples. Each is measured on at most `rows` examples and,
    where it is not behind the best so far on them, on at most `rows` held-back ones; these decide, and of equals the
    earlier stays. `held` is the share of examples to hold back, or other examples; no row is on both sides.

    `metric(prediction, target)` is a number, higher for better, or measures of which the last counts. `chain` makes a
    chain of a prompt: `lambda prompt: SelfConsistency(ChainOfThought(model, prompt))`; without it the model answers in
    one call. `budget` is that of the whole search: nothing beyond it is asked, a trial that it cuts does not count, and
    the best so far comes back. The best of many on few rows looks better than it is: measure it on other rows.

    Raises DataError for too few examples, SettingsError where nobody answers, ModelError where no row of the first
    trial is answered, BudgetError where the budget ends before it does, and Interrupted, with the trials, on Ctrl-C.
    """
    if model is None and (chain is None or proposals):
        raise SettingsError("give model=, which answers and writes instructions; or chain= and proposals=0")
    check_counts(rows=rows, k=k)
    check_counts(least=0, sets=sets, proposals=proposals)
    if isinstance(instructions, str) or not all(isinstance(text, str) for text in instructions):
        raise SettingsError(f"instructions={instructions!r:.60}: give a list of texts")
    writer = None if model is None else as_model(model)
    base = as_prompt(prompt)
    if sets and chooses(base) and not isinstance(base, FewShotPrompt):
        # Its examples would be chosen anew before each example of a set, with the row's own answer among them.
        raise SettingsError("a prompt around a few-shot prompt has its own examples: give that one, or sets=0")
    search = _Search(
        base,
        _split(list(checked(examples)), held, rows, random.Random(seed)),
        metric,
        chain or (lambda made: _one_call(cast(Model, writer), made, sampling)),
    )
    steps = search.steps(list(instructions), writer, proposals, k, sets, seed)
    try:
        ((end, usage),) = run([limited(steps, budget)])
    except Interrupted:
        raise Interrupted(dict(enumerate(search.trials)), 1 + len(instructions) + proposals + sets) from None
    if isinstance(end, ConditionError):
        raise end
    return Optimised(trials=tuple(search.trials), best=search.best, usage=usage, error=search.error)


class _Rows(NamedTuple):
    pool: list[Example]
    """What may be shown."""
    searched: list[Example]
    held: list[Example]


class _Search:
    """The trials so far, which outlive whatever ends the search."""

    def __init__(self, base: Prompt, rows: _Rows, metric: Measure, chain: Callable[[Prompt], Chain]) -> None:
        self.base = base
        self.rows = rows
        self.metric = metric
        self.chain = chain
        self.is_text = fill(base, rows.pool[0].inputs)[0].role == "text"
        self.trials: list[Trial] = []
        self.best = 0
        self.error: str | None = None

    def steps(
        self, given: Sequence[str], writer: Model | None, proposals: int, k: int, sets: int, seed: int
    ) -> Program[None]:
        """Every trial. What ends the search after the first of them is kept as `error`."""
        chance = random.Random(seed)
        best: Any = None
        try:
            yield from self._try(None, None, ())
            for text in dict.fromkeys(given):
                best = text if (yield from self._try(text, text, ())) else best
            if writer is not None and proposals:
                for text in (yield from self._written(writer, proposals, chance, seed)):
                    told = self._literal(text)
                    best = told if (yield from self._try(text, told, ())) else best
            instruction = self.trials[self.best].instruction
            for _ in range(sets):
                shown = chance.sample(self.rows.pool, min(k, len(self.rows.pool)))
                yield from self._try(instruction, best, tuple(shown))
        except ConditionError as error:
            if not self.trials:
                raise
            self.error = str(error)

    def _try(self, instruction: str | None, told: Any, shown: tuple[Example, ...]) -> Program[bool]:
        """One trial; whether it is the best now."""
        prompt = self._made(told, shown)
        chain = as_steps(self.chain(prompt))
        searched = yield from self._measured(chain, self.rows.searched)
        held, top = None, self.trials[self.best] if self.trials else None
        if top is None or searched >= top.searched:
            held = yield from self._measured(chain, self.rows.held)
        self.trials.append(Trial(prompt=prompt, instruction=instruction, examples=shown, searched=searched, held=held))
        better = top is not None and top.held is not None and held is not None and held > top.held
        if better:
            self.best = len(self.trials) - 1
        return better

    def _made(self, told: Any, shown: tuple[Example, ...]) -> Prompt:
        base = self.base
        if told is None and not shown:
            return base
        if not isinstance(base, FewShotPrompt):
            return FewShotPrompt(base, shown, k=len(shown), instruction=told)
        return FewShotPrompt(
            base.prompt,
            shown or base.examples,
            selector=None if shown else base.selector,
            k=None if shown else base.k,
            order=base.order,
            rationale=base.rationale,
            instruction=base.instruction if told is None else told,
            separator=base.separator,
            seed=base.seed,
        )

    def _measured(self, chain: Reasoner, rows: Sequence[Example]) -> Program[float]:
        ends = yield from _uncut(together(chain.within(row.inputs) for row in rows))
        answers = [end if isinstance(end, Answer) else Answer("", error=str(end)) for end in ends]
        if not self.trials and all(answer.error is not None for answer in answers):
            raise ModelError(f"no row is answered with the prompt as it is: {answers[0].error}")
        return sum(_number(self.metric, a.text, row.target) for a, row in zip(answers, rows, strict=True)) / len(rows)

    def _written(self, writer: Model, count: int, chance: random.Random, seed: int) -> Program[list[str]]:
        """Different instructions that the model reads out of a few examples."""
        shown = chance.sample(self.rows.pool, min(_PAIRS, len(self.rows.pool)))
        pairs = "\n\n".join(f"Input: {question_of(e.inputs)}\nOutput: {e.target}" for e in shown)
        asking = TextPrompt(f"{WRITE}\n\nInstruction:") if self.is_text else as_prompt(WRITE)
        sampling = WRITING.model_copy(update={"n": count, "seed": seed})
        (said,) = yield from _uncut(ask(writer, [asking.format(pairs=pairs)], sampling))
        texts = [found.text.strip().removeprefix("Instruction:").strip(" \n\"'") for found in said]
        return list(dict.fromkeys(text for text in texts if text))

    def _literal(self, text: str) -> Prompt:
        """What the model wrote, braces and all."""
        if self.is_text:
            return TextPrompt(text.replace("{", "{{").replace("}", "}}"))
        return ChatPrompt([Message("system", text)])


def _one_call(model: Model, prompt: Prompt, sampling: Sampling) -> Reasoner:
    return ChainOfThought(model, prompt, parse=getattr(prompt, "parse", None) or str.strip, sampling=sampling)


def _split(examples: list[Example], held: Sequence[Example] | float, rows: int, chance: random.Random) -> _Rows:
    """Rows to search on and rows held back, none of them on both sides."""
    chance.shuffle(examples)
    if isinstance(held, int | float):
        if not 0 < held < 1:
            raise SettingsError(f"held={held!r}: give a share between 0 and 1, or examples")
        place = round(len(examples) * held)
        back, pool = examples[:place], examples[place:]
    else:
        back, pool = list(checked(held)), examples
    back = chance.sample(back, min(rows, len(back)))
    pool = [example for example in pool if not any(is_item(example, other.inputs) for other in back)]
    if not back or not pool:
        raise DataError(f"{len(examples)} examples are too few: some are searched on and others are held back")
    return _Rows(pool, pool[:rows], back)


def _number(metric: Measure, text: str, target: str) -> float:
    try:
        measured = metric(text, target)
        number = float(list(measured.values())[-1] if isinstance(measured, Mapping) else measured)
        if math.isnan(number):
            raise ValueError("it gives no number, NaN, with which nothing can be compared")
        return number
    except Exception as error:  # a metric is the user's code
        raise DataError(
            f"the metric failed for {text[:60]!r} and {target[:60]!r}: {type(error).__name__}: {error}"
        ) from error


def _uncut(program: Program[Any]) -> Program[Any]:
    """The program. Raises BudgetError at the first reply that a budget has refused or cut."""
    outcome = advanced(program, None)
    while outcome.asks is not None:
        replies = yield outcome.asks
        for request, reply in zip(outcome.asks, replies, strict=True):
            if isinstance(reply, BudgetError):
                raise reply
            if isinstance(request, Ask) and isinstance(reply, list) and len(reply) < request.calls:
                raise BudgetError("over budget: all calls are spent; this is the best until then")
        outcome = advanced(program, replies)
    return outcome.value()
