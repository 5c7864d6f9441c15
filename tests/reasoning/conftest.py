"""A model that answers by rules and counts what it is asked, so that a chain's steps can be held against theory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from condition.types import Completion, Messages, Sampling, Usage

Rule = Callable[[str], Any]


class Oracle:
    """`rule(text of the prompt)` gives what it says: a text, or a list of which sample i is the i-th, over and over.

    A rule that raises is a prompt that can't be answered. A word is a token.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.prompts: list[str] = []
        self.asked: list[list[Messages]] = []
        self.samplings: list[Sampling] = []
        self._drawn: dict[str, int] = {}

    @property
    def name(self) -> str:
        return "oracle"

    @property
    def calls(self) -> int:
        """Times that `generate` was called."""
        return len(self.samplings)

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling = Sampling(), *, control: Any = None
    ) -> list[list[Completion]]:
        texts = ["\n".join(m.content for m in messages) for messages in prompts]
        said = [self.rule(text) for text in texts]
        self.prompts.extend(texts)
        self.asked.append(list(prompts))
        self.samplings.append(sampling)
        return [
            [self._completion(text, told) for _ in range(sampling.n)] for text, told in zip(texts, said, strict=True)
        ]

    def _completion(self, prompt: str, told: Any) -> Completion:
        if isinstance(told, list):
            turn = self._drawn.get(prompt, 0)
            self._drawn[prompt] = turn + 1
            told = told[turn % len(told)]
        if isinstance(told, Completion):
            return told
        usage = Usage(input_tokens=len(prompt.split()), output_tokens=len(told.split()))
        return Completion(told, logprob=-1.0 * len(told.split()), usage=usage)


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    """`oracle(rule)`: a model by the protocol."""
    return Oracle
