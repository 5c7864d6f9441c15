"""Examples before the question: as turns of a conversation, or as text.

    qa = ChatPrompt([("system", "Answer with one word."), ("user", "{question}")])
    shots = FewShotPrompt(qa, [Example({"question": "Colour of grass?"}, "Green")])
    shots.format(question="Colour of snow?")      # system, user, assistant, user

    FewShotPrompt(qa, examples, selector=SemanticSelector(examples), k=4)             # the four nearest, nearest last
    FewShotPrompt(qa, examples, rationale=True)                                       # with the reasoning shown

Few-shot prompting: Brown et al. 2020, arXiv 2005.14165. With the reasoning shown: Wei et al. 2022, arXiv 2201.11903.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

from condition.errors import PromptError
from condition.prompts.compose import Composable, filled, previewed
from condition.prompts.examples import checked, is_item, nulls_in
from condition.prompts.placed import text_message
from condition.prompts.template import ChatPrompt, TemplateFormat, TextPrompt, as_prompt
from condition.protocols import Prompt, Selector
from condition.types import Example, Message, Messages

Order = str | Callable[[list[Example]], Sequence[Example]]
ORDERS = ("nearest-last", "nearest-first", "random")
WORKED = "{rationale} The answer is {target}."
"""How a worked example is answered where `rationale=True`."""
RECALLED = "Evidence: {rationale}\nAnswer: {target}"
"""Closed-book: the model recalls the evidence, then answers (Lazaridou et al. 2022, arXiv 2203.05115)."""


@final
class FewShotPrompt(Composable):
    """A prompt behind examples that are written with the same template. The item is never among its own examples.

    - `selector` chooses `k` examples for each item; without one the first `k` are shown, and without `k` all.
    - `order`: "nearest-last", "nearest-first" (both as given where nothing was ranked), "random" (one permutation by
      `seed`), or a function from the list, best first, to the list as shown.
    - `rationale`: True shows each example's reasoning before its target (`WORKED`); a string is a template of
      `{rationale}` and `{target}`.
    - `instruction` stands before the examples: a system message, or text. A string is a template.
    - `separator` stands between the parts of a text prompt.

    System messages at the beginning of `prompt` are written once. In text the target follows its prompt with one space
    where there is no white space. Raises PromptError for no examples, but where `k` is 0, for one without a value that
    `prompt` needs, or with None for it, and for a selector without examples of its own where `k` is not given.
    """

    def __init__(
        self,
        prompt: Any,
        examples: Iterable[Example] = (),
        *,
        selector: Selector | None = None,
        k: int | None = None,
        order: Order = "nearest-last",
        rationale: bool | str = False,
        instruction: Any = None,
        separator: str = "\n\n",
        seed: int = 0,
    ) -> None:
        self.prompt = as_prompt(prompt)
        given = tuple(examples) if isinstance(examples, Iterable) else checked(examples)
        pool = given or tuple(getattr(selector, "examples", ()))
        self.examples = pool if not pool and (selector is not None or k == 0) else checked(pool)
        if selector is not None and not callable(getattr(selector, "select", None)):
            raise PromptError(f"{selector!r:.40} is no selector: give one such as SemanticSelector(examples)")
        self.selector = selector
        self.k = _count(k, len(self.examples))
        if selector is not None and k is None and not pool:
            raise PromptError("how many examples is the selector to choose? It has none to be counted: give k=")
        self.order = _order(order)
        if not isinstance(separator, str):
            raise PromptError(f"separator={separator!r:.40}: give the text between the parts, such as an empty line")
        self.rationale = rationale
        self.separator = separator
        self.seed = seed
        self.parse = getattr(self.prompt, "parse", None)
        self.instruction = None if instruction is None else _instruction(instruction, self.prompt)
        self._turn = _turn(self.prompt)
        self._answer = TextPrompt(WORKED if rationale is True else rationale or "{target}")
        if unknown := self._answer.variables - {"rationale", "target"}:
            raise PromptError(f"rationale= has {sorted(unknown)}: it may use {{rationale}} and {{target}} only")
        for i, example in enumerate(self.examples):
            self._check(example, f"example {i + 1}" + (f" ({example.id})" if example.id else ""))

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables | (self.instruction.variables if self.instruction else frozenset())

    def format(self, /, **inputs: object) -> Messages:
        """Instruction, examples and the item."""
        return self._written(self.shown(inputs), filled(self.prompt, inputs), self._told(inputs))

    def shown(self, inputs: Mapping[str, object]) -> list[Example]:
        """The examples for an item, as they stand in its prompt."""
        chosen = self._chosen(inputs)
        if callable(self.order):
            return list(self.order(chosen))
        if self.order == "random":
            return random.Random(self.seed).sample(chosen, len(chosen))
        ranked = self.selector is not None and getattr(self.selector, "ranked", True)
        return chosen[::-1] if ranked and self.order == "nearest-last" else chosen

    @property
    def chooses(self) -> bool:
        return self.selector is not None

    def fixed(self, inputs: Mapping[str, object], /) -> FewShotPrompt:
        """The same prompt with the examples of this item for all items."""
        shown = self.shown(inputs)
        return FewShotPrompt(
            self.prompt,
            shown or self.examples,
            selector=None if shown else self.selector,
            k=len(shown),
            rationale=self.rationale,
            instruction=self.instruction,
            separator=self.separator,
        )

    def preview(self, /, **inputs: object) -> Messages:
        """As it will be sent. Where values are missing, the first examples stand for those that a selector chooses."""
        if not self.variables - inputs.keys():
            return self.format(**inputs)
        told = previewed(self.instruction, inputs) if self.instruction else ()
        return self._written(list(self.examples[: self.k]), previewed(self.prompt, inputs), told)

    def read(self, other: object, /) -> Prompt:
        return self.prompt.read(other) if isinstance(self.prompt, Composable) else as_prompt(other)

    def __repr__(self) -> str:
        chosen = f", selector={self.selector!r}, k={self.k}" if self.selector else ""
        return f"FewShotPrompt({self.prompt!r}, {len(self.examples)} examples{chosen})"

    def _chosen(self, inputs: Mapping[str, object]) -> list[Example]:
        if self.selector is None:
            return [e for e in self.examples if not is_item(e, inputs)][: self.k]
        wanted = len(self.examples) if self.k is None else self.k
        if not wanted:
            return []
        found = list(self.selector.select(inputs, wanted))
        if own := sum(is_item(e, inputs) for e in found):  # a selector of the user's may not know of the item
            found = list(self.selector.select(inputs, wanted + own))
        return [e for e in found if not is_item(e, inputs)][:wanted]

    def _told(self, inputs: Mapping[str, object]) -> Messages:
        return filled(self.instruction, inputs) if self.instruction else ()

    def _written(self, shown: Sequence[Example], item: Messages, told: Messages) -> Messages:
        if item and item[0].role == "text":
            return (text_message([*told, *map(self._text, shown), text_message(item)], self.separator),)
        heads = len(_head(item))
        turns = [turn for e in shown for turn in (*self._asked(e), Message("assistant", self._said(e)))]
        return (*_one_system((*told, *item[:heads]), self.separator), *turns, *item[heads:])

    def _text(self, example: Example) -> Message:
        asked = text_message(self._asked(example))
        said = following(asked.content, self._said(example))
        return text_message([asked, Message("text", said, ((0, len(said)),))])

    def _asked(self, example: Example) -> Messages:
        messages = filled(self._turn, example.inputs)
        return messages[len(_head(messages)) :]

    def _said(self, example: Example) -> str:
        self._check(example, f"the example {dict(example.inputs)!r:.80}")
        return self._answer.format(target=example.target, rationale=example.rationale)[0].content

    def _check(self, example: Example, where: str) -> None:
        missing = self._turn.variables - example.inputs.keys()
        if missing and getattr(self._turn, "inputs", None) is None:
            raise PromptError(
                f"{where} has no {', '.join(map(repr, sorted(missing)))}, which the prompt needs; "
                f"it has {', '.join(map(repr, sorted(example.inputs))) or 'nothing'}"
            )
        nulls = nulls_in(example.inputs, self._turn.variables)
        if nulls and getattr(self._turn, "inputs", None) is None:
            raise PromptError(
                f"{where} has {example.inputs[nulls[0]]} as {nulls[0]!r}, which the prompt would write as a word: "
                "drop the example or give it a text; an empty one is fine"
            )
        if "rationale" in self._answer.variables and not example.rationale:
            raise PromptError(f"{where} has no rationale to show: give it one, or leave rationale= out")


def following(before: str, words: str) -> str:
    """Words as they go on behind a text: with one space, where there is no white space between them."""
    return words if not words or before[-1:].isspace() or words[0].isspace() else f" {words}"


def _turn(prompt: Prompt) -> Prompt:
    """What is written again for each example: all but the system messages at the beginning, so far as we can tell."""
    if not isinstance(prompt, ChatPrompt):
        return prompt
    roles = [part.role if isinstance(part, Message) else part[0] for part in prompt.messages]
    first = next((i for i, role in enumerate(roles) if role != "system"), None)
    if first is None:
        raise PromptError("the prompt has system messages only: add a turn that asks, such as ('user', '{question}')")
    return ChatPrompt(prompt.messages[first:], inputs=prompt.inputs, template_format=prompt.template_format)


def _instruction(given: Any, prompt: Prompt) -> Prompt:
    if not isinstance(given, str):
        return as_prompt(given)
    beside = prompt.read(given) if isinstance(prompt, Composable) else as_prompt(given)
    if isinstance(beside, TextPrompt):  # also where the text prompt stands within another
        return beside
    kind: TemplateFormat = beside.template_format if isinstance(beside, ChatPrompt) else "f-string"
    return ChatPrompt([("system", given)], template_format=kind)


def _head(messages: Messages) -> Messages:
    turn = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    return messages[:turn]


def _one_system(messages: Messages, separator: str) -> Messages:
    """One system message: many chat templates refuse a second."""
    if len(messages) < 2 or any(m.role != "system" for m in messages):
        return messages
    return (Message("system", separator.join(m.content for m in messages)),)


def _count(k: int | None, examples: int) -> int | None:
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 0):
        raise PromptError(f"k={k!r}: give how many examples to show, or None for all {examples}")
    return k


def _order(order: Order) -> Order:
    if not callable(order) and order not in ORDERS:
        raise PromptError(f"order={order!r}: use {', '.join(map(repr, ORDERS))}, or a function that orders a list")
    return order


__all__ = ["ORDERS", "RECALLED", "WORKED", "FewShotPrompt", "following"]
