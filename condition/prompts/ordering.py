"""The order of few examples, chosen without labelled rows.

    best = entropy_order(prompt, examples, model, ["positive", "negative"], probes)
    FewShotPrompt(prompt, best)
    FewShotPrompt(prompt, examples, selector=…, order=EntropyOrder(prompt, model, ["positive", "negative"], probes))

Some orders of the same examples make a model answer nearly everything with one label. Those whose answers to unlabelled
probes are spread most evenly work better (Lu et al. 2022, arXiv 2104.08786).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, permutations
from math import factorial
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from condition.errors import PromptError
from condition.prompts.calibrate import label_logprobs
from condition.prompts.examples import checked
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.fill import fill
from condition.protocols import Scorer
from condition.types import Example

Kind = Literal["global", "local"]


def entropy_order(
    prompt: Any,
    examples: Sequence[Example],
    scorer: Scorer,
    labels: Sequence[str],
    probes: Sequence[Mapping[str, Any]],
    *,
    kind: Kind = "global",
    limit: int = 24,
    seed: int = 0,
) -> list[Example]:
    """The examples in the order whose answers to `probes` have the highest entropy, of at most `limit` orders.

    "global" is the entropy of how often each label is the most likely one, "local" the mean entropy of the labels'
    probabilities. Equal ones are told apart by the other, then the first stands. All orders are scored in one call:
    `orders x probes` prompts. Raises PromptError for no probes.
    """
    shown = checked(examples)
    if not probes:
        raise PromptError("no probes: give inputs like those that will be asked; they need no labels")
    if isinstance(labels, str) or not all(isinstance(one, str) and one for one in labels) or len(labels) < 2:
        raise PromptError(f"labels={labels!r:.80}: give two or more texts")
    second = "local" if _checked(kind) == "global" else "global"
    tried = list(_orders(len(shown), limit, random.Random(seed)))
    prompts = [FewShotPrompt(prompt, [shown[i] for i in order]) for order in tried]
    asked = [fill(few, probe) for few in prompts for probe in probes]
    found = np.exp(label_logprobs(scorer, asked, list(labels))).reshape(len(tried), len(probes), len(labels))
    answers = np.eye(len(labels))[found.argmax(axis=2)].mean(axis=1)
    measures = {"global": _entropy(answers), "local": _entropy(found).mean(axis=1)}
    best = max(range(len(tried)), key=lambda i: (round(measures[kind][i], 9), round(measures[second][i], 9)))
    return [shown[i] for i in tried[best]]


@final
class EntropyOrder:
    """`order=` of a FewShotPrompt: examples as `entropy_order` puts them, worked out once for each set of examples.

    Where a selector chooses examples for each item, that is a call of the scorer for nearly each item.
    """

    def __init__(
        self,
        prompt: Any,
        scorer: Scorer,
        labels: Sequence[str],
        probes: Sequence[Mapping[str, Any]],
        *,
        kind: Kind = "global",
        limit: int = 24,
        seed: int = 0,
    ) -> None:
        self.best = partial(
            entropy_order,
            prompt,
            scorer=scorer,
            labels=labels,
            probes=probes,
            kind=_checked(kind),
            limit=limit,
            seed=seed,
        )
        self._known: dict[tuple[int, ...], list[Example]] = {}

    def __call__(self, shown: list[Example]) -> list[Example]:
        """The same examples in the best order."""
        if len(shown) < 2:
            return shown
        same = tuple(sorted(map(id, shown)))
        if same not in self._known:
            self._known[same] = self.best(examples=shown)  # these keep the examples, and so their ids
        return list(self._known[same])


def _checked(kind: Kind) -> Kind:
    if kind not in ("global", "local"):
        raise PromptError(f"kind={kind!r}: use 'global' or 'local'")
    return kind


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """In nats, over the last axis."""
    found: NDArray[np.float64] = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=-1)
    return found


def _orders(count: int, limit: int, chance: random.Random) -> Iterator[tuple[int, ...]]:
    """All orders, or `limit` different ones that are drawn; the order given is the first."""
    if count <= 10 and factorial(count) <= limit:
        yield from islice(permutations(range(count)), limit)
        return
    seen = {tuple(range(count))}
    yield tuple(range(count))
    while len(seen) < limit:
        order = tuple(chance.sample(range(count), count))
        if order not in seen:
            seen.add(order)
            yield order
