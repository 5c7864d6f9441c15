"""Rationales that a model writes itself, kept where they reach the right answer: rows to train reasoning on.

    found = explanations(ChainOfThought(model, shots), examples)      # the examples it could explain, with `rationale`
    SFTTrainer().fit(model, reasoned(found), prompt=prompt)           # trains to reason, then to answer
    FewShotPrompt(prompt, found, rationale=True)                      # or shows them

STaR, Zelikman et al. 2022, arXiv 2203.14465. A wrong one is asked again with the answer as a hint ("rationalization");
the hint is not kept. Training on what the trained model explains next, again and again, is the paper's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from condition.errors import ConditionError, DataError, ModelError, PromptError
from condition.prompts.examples import checked
from condition.prompts.few_shot import WORKED
from condition.prompts.parse import before_answer
from condition.prompts.template import TextPrompt
from condition.reasoning.chain import Reasoner
from condition.reasoning.direct import as_steps
from condition.reasoning.steps import Program, run
from condition.types import Answer, Example

HINT = "{question}\n\n(Hint: the answer is {target}. Reason to it as if you had not been told.)"


def explanations(
    chain: Any,
    examples: Sequence[Example],
    *,
    right: Callable[[str, str], bool] | None = None,
    hint: str | None = HINT,
    on: str | None = None,
) -> list[Example]:
    """The examples that the chain answers right, with its reasoning as `rationale` in place of any that they had.

    `right(answer, target)` says what is right; by default equal words or equal numbers. `hint` is a template of
    `{question}` and `{target}`, which stands in place of the input `on` (by default the one called question, or the
    only one) where the first answer is wrong; None leaves those out. All examples take their steps together.

    Raises PromptError for no examples or an `on` that one of them lacks, ModelError where not one is explained, and
    Interrupted, with those that are done by their index, on Ctrl-C.
    """
    steps = as_steps(chain)
    known = checked(examples)
    template = None if hint is None else TextPrompt(hint)
    if template is not None and (unknown := template.variables - {"question", "target"}):
        raise PromptError(f"hint= has {sorted(unknown)}: it may use {{question}} and {{target}} only")
    hinted = [None if template is None else _hinted(example, template, on) for example in known]
    programs = [_explained(steps, example, told, right or same) for example, told in zip(known, hinted, strict=True)]
    found = [end.result for end in run(programs)]
    kept = [example for example in found if isinstance(example, Example)]
    if not kept:
        raise ModelError(f"none of {len(known)} examples is explained; the first: {found[0]}")
    return kept


def reasoned(examples: Iterable[Example], form: str = WORKED) -> list[Example]:
    """The examples with the rationale in front of the target, as `form` has it: what SFT trains to write.

    Raises DataError for one without a rationale.
    """
    written = TextPrompt(form)
    found = []
    for place, example in enumerate(examples):
        if not example.rationale:
            raise DataError(f"example {place} ({dict(example.inputs)!r:.60}) has no rationale: leave it out")
        (said,) = written.format(rationale=example.rationale, target=example.target)
        found.append(example.model_copy(update={"target": said.content}))
    return found


def same(answer: str, target: str) -> bool:
    """Equal but for case, outer spaces and a last dot, or equal as numbers."""
    if _plain(answer) == _plain(target):
        return True
    try:
        return float(_plain(answer).replace(",", "")) == float(_plain(target).replace(",", ""))
    except ValueError:
        return False


def _explained(
    chain: Reasoner, example: Example, hinted: Mapping[str, Any] | None, right: Callable[[str, str], bool]
) -> Program[Example]:
    """The example with a rationale. Raises ModelError, of the first try, where there is none."""
    why = ""
    for inputs in (example.inputs, hinted):
        if inputs is None:
            break
        try:
            answer = yield from chain.within({**inputs, **({} if example.id is None else {"id": example.id})})
        except ConditionError as error:
            answer = Answer("", error=str(error))
        rationale = _rationale(answer)
        if rationale and answer.error is None and _agrees(right, answer.text, example.target):
            return example.model_copy(update={"rationale": rationale})
        said = f"it says {answer.text[:60]!r} for {example.target[:60]!r}" if rationale else "it gives no reasoning"
        why = why or answer.error or said
    raise ModelError(why)


def _agrees(right: Callable[[str, str], bool], answer: str, target: str) -> bool:
    try:
        return right(answer, target)
    except ConditionError:
        raise
    except Exception as error:  # what is right is the user's code, and no reason to lose the other examples
        raise ModelError(
            f"right= failed for {answer[:60]!r} and {target[:60]!r}: {type(error).__name__}: {error}"
        ) from error


def _rationale(answer: Answer) -> str:
    """The reasoning without the answer behind it."""
    text = before_answer(answer.reasoning or "")
    before, _, last = text.rpartition("\n")
    return before.strip() if _plain(last) == _plain(answer.text) else text


def _hinted(example: Example, template: TextPrompt, on: str | None) -> Mapping[str, Any]:
    inputs = example.inputs
    name = on or ("question" if "question" in inputs else next(iter(inputs)) if len(inputs) == 1 else None)
    if name is None or name not in inputs:
        raise PromptError(
            f"where does the hint go? An example has the inputs {', '.join(map(repr, sorted(inputs)))}: "
            "give on= one of them, or hint=None"
        )
    (told,) = template.format(question=inputs[name], target=example.target)
    return {**inputs, name: told.content}


def _plain(text: str) -> str:
    return text.strip("*`\"' \n").rstrip(".").strip("*`\"' ").casefold()
