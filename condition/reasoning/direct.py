"""Any chain as one with steps: a tuned model behind its prompt, a LangChain pipeline, somebody's class.

SelfConsistency(tuned)                             # takes them as they are: as_steps does it
Direct(pipeline, ["question"])                     # says which inputs a chain reads, for Sequence and Parallel
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, final

from langchain_core.language_models import BaseLanguageModel
from langchain_core.prompts import BasePromptTemplate

from condition.errors import ModelError, SettingsError
from condition.models.local import LocalModel
from condition.protocols import Chain, Prompt
from condition.reasoning.chain import Inputs, Reasoner
from condition.reasoning.cot import ChainOfThought
from condition.reasoning.steps import Consult, Program
from condition.types import Answer


@final
class Direct(Reasoner):
    """A chain of another kind as one step: its `batch` gets all problems at once.

    `variables` are the inputs that it reads; without them, those that it says itself, as LangChain's `prompt | model`
    does, else none are checked.
    """

    def __init__(self, chain: Chain, variables: Iterable[str] | None = None) -> None:
        if not isinstance(chain, Chain):
            raise SettingsError(
                f"{type(chain).__name__} is no chain: it needs invoke(inputs) and batch(list of inputs)"
            )
        self.chain = chain
        known = _known(chain) if variables is None else frozenset(variables)
        self.is_known = known is not None
        """False where nobody says what it reads."""
        self._variables = known or frozenset()

    @property
    def variables(self) -> frozenset[str]:
        return self._variables

    def steps(self, inputs: Inputs, /) -> Program[Answer]:
        (reply,) = yield [Consult(self.chain, inputs)]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Answer):
            return reply
        text = reply if isinstance(reply, str) else getattr(reply, "text", None)
        if not isinstance(text, str):
            raise ModelError(f"the chain gave {type(reply).__name__}, which has no text: let it give text or an Answer")
        return Answer(str(text))


def as_steps(chain: Any, /) -> Reasoner:
    """Ours as it is, a model with a prompt as one call that can be sampled, any other chain as one step.

    Raises SettingsError for what is no chain.
    """
    if isinstance(chain, Reasoner):
        return chain
    if isinstance(chain, BaseLanguageModel) or (isinstance(chain, LocalModel) and chain.prompt is None):
        raise SettingsError(
            f"{type(chain).__name__} is a model without a prompt, not a chain: give ChainOfThought(model, prompt)"
        )
    if isinstance(chain, LocalModel) and chain.prompt is not None:
        own = getattr(chain.prompt, "parse", None)
        return ChainOfThought(chain, chain.prompt, parse=own or str.strip)
    return Direct(cast(Chain, chain))


def _known(chain: object) -> frozenset[str] | None:
    own = getattr(chain, "variables", None)
    if isinstance(own, frozenset):
        return own
    prompt, first = getattr(chain, "prompt", None), getattr(chain, "first", None)
    if isinstance(first, BasePromptTemplate):  # of LangChain's `prompt | model`
        return frozenset(first.input_variables)
    return prompt.variables if isinstance(prompt, Prompt) else None
