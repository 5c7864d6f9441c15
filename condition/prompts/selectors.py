"""Which examples to show: fixed, drawn, balanced by label, or as many as fit a budget of tokens.

    RandomSelector(examples, seed=3).select({"question": "Colour of snow?"}, 4)
    BalancedSelector(examples, SemanticSelector(examples))            # the nearest of each label
    LengthSelector(examples, 512, model, selector=BM25Selector(examples))

A selector gives examples best first and never the item itself. `ranked` says whether their order means anything, and
`nested = False` that what it gives depends on how many are asked for: four are not the first four of five.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, final

from condition.errors import PromptError
from condition.prompts.compose import filled, words
from condition.prompts.examples import On, checked, names_in_common, others, pieces, text_of
from condition.prompts.template import as_prompt
from condition.protocols import Prompt, Selector
from condition.types import Example


@final
class FixedSelector:
    """The first `k` examples, in the order given."""

    ranked = False

    def __init__(self, examples: Iterable[Example]) -> None:
        self.examples = checked(examples)

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """The first examples that are not the item itself."""
        return [self.examples[i] for i in others(self.examples, inputs)[: max(k, 0)]]


@final
class RandomSelector:
    """Examples drawn by chance; the same item gets the same examples, in every process.

    With `each_item=False` all items get the same ones, so that a model reads them once for all.
    """

    ranked = False

    def __init__(self, examples: Iterable[Example], seed: int = 0, *, each_item: bool = True, on: On = None) -> None:
        self.examples = checked(examples)
        self.seed = seed
        self.each_item = each_item
        self.on = names_in_common(self.examples, on) if each_item else ()

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """`k` examples without repetition."""
        chance = random.Random(f"{self.seed}\0{text_of(inputs, self.on)}" if self.each_item else self.seed)
        drawn = chance.sample(range(len(self.examples)), len(self.examples))
        allowed = set(others(self.examples, inputs))
        return [self.examples[i] for i in drawn if i in allowed][: max(k, 0)]


@final
class BalancedSelector:
    """The same number of each label, as near as `k` allows: a majority of one label draws answers to it.

    `selector` says which of a label's examples come first: by default chance. `label` reads an example's label.
    """

    nested = False

    def __init__(
        self,
        examples: Iterable[Example],
        selector: Selector | None = None,
        *,
        label: Callable[[Example], Hashable] | None = None,
        seed: int = 0,
    ) -> None:
        self.examples = checked(examples)
        self.selector: Selector = selector or RandomSelector(self.examples, seed)
        self.label = label
        self.ranked: bool = getattr(self.selector, "ranked", True)

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """Round by round the next best of each label, in the order of the inner selector."""
        found, places = self._rounds(inputs, k)
        return [found[place] for place in sorted(places[: max(k, 0)])]

    def in_turn(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """All of them round by round, where `k` are wanted: those that there is room for are balanced too."""
        found, places = self._rounds(inputs, k)
        return [found[place] for place in places]

    def _rounds(self, inputs: Mapping[str, object], k: int) -> tuple[list[Example], list[int]]:
        """What the inner selector gives, and the places there, one of each label after the other."""
        found = list(_in_turn(self.selector, inputs, k, len(self.examples)))
        taken: dict[Hashable, int] = {}
        rounds: list[tuple[int, int]] = []
        for place, example in enumerate(found):
            label = self.label(example) if self.label else example.target
            taken[label] = taken.get(label, 0) + 1
            rounds.append((taken[label], place))
        return found, [place for _, place in sorted(rounds)]


@final
class LengthSelector:
    """As many examples as fit `max_tokens` together with the item's own words; those that do not fit are passed over.

    `count` counts the tokens of a text: a function, or a model or tokenizer of this machine. Without one words and
    signs are counted, which is fewer than tokens. `prompt` is the template whose words are counted too; `selector`
    says which examples come first, by default the order given.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        max_tokens: int = 1024,
        count: object = None,
        *,
        prompt: object = None,
        selector: Selector | None = None,
    ) -> None:
        if max_tokens < 1:
            raise PromptError(f"max_tokens={max_tokens}: nothing would fit; give the tokens that examples may take")
        self.examples = checked(examples)
        self.max_tokens = max_tokens
        self.prompt: Prompt | None = None if prompt is None else as_prompt(prompt)
        self.selector: Selector = selector or FixedSelector(self.examples)
        self.ranked: bool = getattr(self.selector, "ranked", True)
        self.nested: bool = getattr(self.selector, "nested", True)
        self.count = counter(count)
        self._tokens = {id(e): self._words(e.inputs, e.target, e.rationale or "") for e in self.examples}

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        """At most `k` examples, best first."""
        room = self.max_tokens - self._words(inputs)
        chosen: list[Example] = []
        for example in _in_turn(self.selector, inputs, k, len(self.examples)):
            if len(chosen) >= k:
                break
            size = self._tokens.get(id(example)) or self._words(example.inputs, example.target, example.rationale or "")
            if size <= room:
                chosen.append(example)
                room -= size
        return chosen

    def _words(self, inputs: Mapping[str, Any], *more: str) -> int:
        own = words(filled(self.prompt, inputs)) if self.prompt else "\n".join(map(str, inputs.values()))
        return sum(self.count(text) for text in (own, *more) if text)


def _in_turn(selector: Selector, inputs: Mapping[str, object], k: int, most: int) -> Iterator[Example]:
    """All that a selector would give, in the order in which they are taken where `k` are wanted."""
    if isinstance(selector, BalancedSelector):
        yield from selector.in_turn(inputs, k)
    elif getattr(selector, "nested", True) or k >= most:
        yield from selector.select(inputs, most)
    else:
        first = selector.select(inputs, k)
        yield from first
        yield from (e for e in selector.select(inputs, most) if not any(e is one for one in first))


def counter(count: object) -> Callable[[str], int]:
    """What counts the tokens of a text, from a model, a tokenizer, a function or nothing. PromptError for others."""
    if count is None:
        return pieces
    tokenizer: Any = getattr(count, "tokenizer", count)
    if hasattr(tokenizer, "encode") and not isinstance(tokenizer, str):
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
    if callable(count):
        function: Callable[[str], int] = count
        return function
    raise PromptError(f"{type(count).__name__} counts no tokens: give a function, a model or its tokenizer")
