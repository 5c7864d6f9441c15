"""The order whose answers to unlabelled probes are the most even."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from condition.errors import PromptError
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.ordering import EntropyOrder, _orders, entropy_order
from condition.prompts.template import ChatPrompt
from condition.types import Example, Messages, Score

LABELS = ["good", "bad"]
PROMPT = ChatPrompt([("user", "Review: {text}")])


class Leaning:
    """Hears "good" or "bad" in the last message, and leans to "good" by `lean` nats, to the last example by `last`."""

    def __init__(self, lean: float, last: float = 0.0) -> None:
        self.lean, self.last = lean, last
        self.calls: list[Sequence[Messages]] = []

    def score(self, prompts: Sequence[Messages], continuations: Sequence[Sequence[str]], /) -> list[list[Score]]:
        self.calls.append(prompts)
        return [[Score(self._logit(p, t), 1, len(t)) for t in ts] for p, ts in zip(prompts, continuations, strict=True)]

    def _logit(self, messages: Messages, label: str) -> float:
        said = [m.content for m in messages if m.role == "assistant"]
        heard = 1.0 if label in messages[-1].content else 0.0
        return heard + (self.lean if label == "good" else 0) + (self.last if said and said[-1] == label else 0)


class TestEntropyOrder:
    examples = (Example({"text": "x"}, "good"), Example({"text": "y"}, "bad"), Example({"text": "z"}, "bad"))
    probes = ({"text": "good film"}, {"text": "bad film"}, {"text": "good and bad"})

    def test_an_order_that_does_not_lean_is_found(self) -> None:
        # leans to "bad" by 1.5: only a last example that says "good" lets both labels be answered
        scorer = Leaning(-1.5, last=1.5)
        for kind in ("global", "local"):
            best = entropy_order(PROMPT, self.examples, scorer, LABELS, self.probes, kind=kind)
            assert best[-1].target == "good"
        assert [len(call) for call in scorer.calls] == [18, 18]

    def test_equal_orders_are_told_apart_by_the_other_entropy(self) -> None:
        # every order answers both labels alike; behind "bad" the leaning to "good" leaves the surer probe less sure
        given = [*self.examples[1:], self.examples[0]]
        best = entropy_order(PROMPT, given, Leaning(0.3, last=0.4), LABELS, self.probes[:2], kind="global")
        assert best[-1].target == "bad"

    def test_many_orders_are_drawn(self) -> None:
        many = [Example({"text": f"t{i}"}, LABELS[i % 2]) for i in range(12)]
        scorer = Leaning(0.0)
        found = entropy_order(PROMPT, many, scorer, LABELS, self.probes, limit=7, seed=1)
        assert len(scorer.calls[0]) == 21
        assert sorted(e.inputs["text"] for e in found) == sorted(e.inputs["text"] for e in many)
        assert found == entropy_order(PROMPT, many, Leaning(0.0), LABELS, self.probes, limit=7, seed=1)

    def test_as_the_order_of_a_prompt(self) -> None:
        scorer = Leaning(-1.5, last=1.5)
        order = EntropyOrder(PROMPT, scorer, LABELS, self.probes, kind="local")
        prompt = FewShotPrompt(PROMPT, self.examples, order=order)
        for text in ("a film", "another film", "x"):
            shown = prompt.shown({"text": text})
            assert {e.inputs["text"] for e in shown} == {"x", "y", "z"} - {text}
            assert shown == entropy_order(PROMPT, shown, Leaning(-1.5, last=1.5), LABELS, self.probes, kind="local")
            shown.clear()  # it is the caller's
        assert [len(call) for call in scorer.calls] == [18, 6]  # the first two items are shown the same
        assert order([]) == []
        assert order([self.examples[0]]) == [self.examples[0]]
        assert len(scorer.calls) == 2

    def test_all_orders_are_tried_where_they_are_few_and_the_first_is_as_given(self) -> None:
        assert sorted(_orders(3, 6, random.Random(0))) == sorted(permutations(range(3)))
        drawn = list(_orders(3, 5, random.Random(0)))
        assert (drawn[0], len(set(drawn)), len(drawn)) == ((0, 1, 2), 5, 5)
        assert next(iter(_orders(12, 4, random.Random(3)))) == tuple(range(12))

    def test_probes_are_needed(self) -> None:
        with pytest.raises(PromptError, match="no probes"):
            entropy_order(PROMPT, self.examples, Leaning(0.0), LABELS, [])

    def test_another_kind_is_refused(self) -> None:
        kind: Any = "other"
        with pytest.raises(PromptError, match="use 'global' or 'local'"):
            entropy_order(PROMPT, self.examples, Leaning(0.0), LABELS, self.probes, kind=kind)
        with pytest.raises(PromptError, match="use 'global' or 'local'"):
            EntropyOrder(PROMPT, Leaning(0.0), LABELS, self.probes, kind=kind)


def test_an_example_that_is_shown_twice_is_another_set() -> None:
    good, bad = Example({"text": "x"}, "good"), Example({"text": "y"}, "bad")
    order = EntropyOrder(PROMPT, Leaning(0.0), LABELS, [{"text": "z"}])
    assert len(order([good, good, bad])) == 3
    assert len(order([good, bad])) == 2


def test_local_entropy_is_that_of_each_probe() -> None:
    """Sure and different answers are even on the whole, and each of them is not."""

    class Sure(Leaning):
        def _logit(self, messages: Messages, label: str) -> float:
            said = [m.content for m in messages if m.role == "assistant"]
            return (10.0 if said[-1] == "good" else 0.1) * (label in messages[-1].content)

    given = [Example({"text": "y"}, "bad"), Example({"text": "x"}, "good")]
    probes = [{"text": "good film"}, {"text": "bad film"}]
    assert entropy_order(PROMPT, given, Sure(0.0), LABELS, probes, kind="local")[-1].target == "bad"


@pytest.mark.parametrize("labels", [[], ["one"], "ab", [1, 2], ["a", ""]])
def test_what_are_no_labels_is_refused(labels: Any) -> None:
    with pytest.raises(PromptError, match="give two or more texts"):
        entropy_order(PROMPT, [Example({"text": "x"}, "a")], Leaning(0.0), labels, [{"text": "z"}])
