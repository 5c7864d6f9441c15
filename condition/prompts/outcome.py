"""Examples by what came of showing them.

    def accuracy(shown): ...                                        # of FewShotPrompt(prompt, shown) on validation rows
    OutcomeSelector(examples, accuracy, size=4, trials=64)          # those that helped most, for every item

How much an example helps is the mean outcome of the sets that hold it less that of the sets that do not (Nguyen & Wong
2023, arXiv 2302.11042).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import final

from condition.errors import PromptError
from condition.prompts.examples import checked, others
from condition.types import Example

Outcome = Callable[[list[Example]], float]
"""How well a set of examples did on validation rows: higher is better."""


@final
class OutcomeSelector:
    """The examples that helped most on a validation set; measured when it is made, by `trials` calls of `outcome`.

    `size` examples are shown in a trial. The validation rows must not be those that are evaluated later.
    """

    ranked = True

    def __init__(
        self,
        examples: Iterable[Example],
        outcome: Outcome,
        *,
        size: int = 4,
        trials: int | None = None,
        seed: int = 0,
    ) -> None:
        self.examples = checked(examples)
        self.influence = influence(self.examples, outcome, size=size, trials=trials, seed=seed)
        self._ranking = sorted(range(len(self.examples)), key=lambda i: -self.influence[i])

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The most helpful first."""
        allowed = set(others(self.examples, inputs))
        return [self.examples[i] for i in self._ranking if i in allowed][: max(k, 0)]


def influence(
    examples: Sequence[Example],
    outcome: Outcome,
    *,
    size: int = 4,
    trials: int | None = None,
    seed: int = 0,
) -> list[float]:
    """How much each example helps, in the unit of `outcome`. Each is shown about equally often, in random company.

    By default so many trials that each example is shown eight times. Raises PromptError where a trial would show all
    examples or none, where an example would never be shown, and for an outcome that is no number.
    """
    if not 1 <= size < len(examples):
        raise PromptError(f"size={size}: a trial shows at least one and not all of {len(examples)} examples")
    count = -(-8 * len(examples) // size) if trials is None else trials
    if count * size < len(examples):
        raise PromptError(f"{count} trials of {size} can't show each of {len(examples)} examples: give more trials")
    sets = _sets(len(examples), size, count, random.Random(seed))
    outcomes = [float(outcome([examples[i] for i in shown])) for shown in sets]
    if odd := [o for o in outcomes if not isfinite(o)]:
        raise PromptError(f"an outcome is {odd[0]}: give a finite number, higher for better")
    found = []
    for i in range(len(examples)):
        held = [o for shown, o in zip(sets, outcomes, strict=True) if i in shown]
        left = [o for shown, o in zip(sets, outcomes, strict=True) if i not in shown]
        found.append(sum(held) / len(held) - sum(left) / len(left) if left else 0.0)
    return found


def _sets(examples: int, size: int, count: int, chance: random.Random) -> list[list[int]]:
    """Sets dealt from shuffled decks, so that no example is shown much more often than another."""
    sets: list[list[int]] = []
    deck: list[int] = []
    for _ in range(count):
        hand = deck[:size]
        deck = deck[size:]
        if len(hand) < size:
            deck = chance.sample(range(examples), examples)
            rest = [i for i in deck if i not in hand][: size - len(hand)]
            deck = [i for i in deck if i not in rest]
            hand += rest
        sets.append(chance.sample(hand, len(hand)))
    return sets
