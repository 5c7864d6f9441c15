"""What every technique here is: a chain of steps that many problems take together, and a LangChain Runnable.

    chain = ChainOfThought(model, "{question} Think step by step.")
    chain.batch([{"question": q} for q in questions])              # one call of the model
    app = chain | RunnableLambda(lambda answer: answer.text)       # in LangChain; ainvoke, abatch and callbacks too

A new technique is a class with `variables` and `steps`; see `condition.reasoning.steps` for what steps are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig, run_in_executor

from condition.errors import ConditionError, PromptError
from condition.prompts.fill import several
from condition.reasoning.budget import Budget, limited
from condition.reasoning.steps import Program, run
from condition.types import Answer

Inputs = Mapping[str, Any]


class Reasoner(Runnable[Inputs, Answer]):
    """A chain whose steps many problems take together.

    `batch` asks each step of all problems in one call of the model. A problem that fails gives an Answer whose `error`
    says why, and the others go on. Raises PromptError, before anything is asked, for inputs without a variable.
    """

    budget: Budget | None = None
    """For each problem."""

    @property
    @abstractmethod
    def variables(self) -> frozenset[str]:
        """Names of the inputs that it needs."""

    @abstractmethod
    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        """One problem: yields what it asks, returns its answer."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(sorted(self.variables))}>"

    def within(self, inputs: Inputs, /) -> Program[Answer]:
        """The steps of one problem within the budget. A failure raises a ConditionError."""
        return limited(self.steps(inputs), self.budget)

    def invoke(self, input: Inputs | str, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        """The answer to one problem; a string stands for the only variable."""
        return self._call_with_config(lambda given: self._answers([given])[0], cast(Inputs, input), config, **kwargs)

    def batch(
        self,
        inputs: Sequence[Inputs | str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Answer]:
        """Answers to many problems, which take their steps together."""
        work = cast("Callable[[list[Inputs]], list[Exception | Answer]]", self._answers)
        return self._batch_with_config(
            work, cast("list[Inputs]", several(inputs)), config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self,
        inputs: Sequence[Inputs | str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Answer]:
        """As `batch`, in a thread."""
        work = partial(self.batch, inputs, config, return_exceptions=return_exceptions, **kwargs)
        return await run_in_executor(None, work)

    def _answers(self, inputs: Sequence[Inputs | str]) -> list[Answer]:
        given = [self._named(one, place) for place, one in enumerate(inputs)]
        return [
            _answer(end.result).model_copy(update={"usage": end.usage}) for end in run(list(map(self.within, given)))
        ]

    def _named(self, given: Inputs | str, place: int) -> Inputs:
        if isinstance(given, str) and len(self.variables) == 1:
            given = dict.fromkeys(self.variables, given)
        if not isinstance(given, Mapping):
            raise PromptError(f"input {place} is {given!r:.60}: give a dict with {_names(self.variables)}")
        if missing := self.variables - given.keys():
            raise PromptError(f"input {place}: no value for {_names(missing)}; given: {_names(given) or 'nothing'}")
        return given


def _answer(result: Answer | ConditionError) -> Answer:
    return result if isinstance(result, Answer) else Answer("", error=str(result))


def _names(names: Any) -> str:
    return ", ".join(map(repr, sorted(names)))
