"""Asking whatever is measured: a model, a model behind a prompt, a chain, or a function.

A row with choices is scored where the subject can score (a Scorer, such as `LocalModel`). A chain, a function or a
remote model is asked to write instead, and the task's measure finds out which choice was meant: see `read_choice`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from condition.errors import ModelError
from condition.evaluation.conversation import converse, messages
from condition.evaluation.said import Said
from condition.evaluation.scored import scores_of, usage_of
from condition.evaluation.tasks.task import Task, TaskRow
from condition.models.local import LocalModel
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.protocols import Chain, Model, Prompt, Scorer
from condition.types import Answer, Messages, Usage

Subject = LocalModel | Model | Chain | Runnable[Any, Any] | tuple[Any, Any] | Callable[[Mapping[str, Any]], Any]


def ask(subject: Subject, task: Task, rows: Sequence[TaskRow]) -> Said:
    """What a subject says to each row. Raises ModelError where it can't be asked, or says something without text."""
    check(subject)
    if isinstance(subject, tuple):
        return _by_model(as_model(subject[0]), as_prompt(subject[1]), task, rows)
    if is_model(subject):
        model = as_model(subject)
        own = getattr(model, "prompt", None)
        return _by_model(model, task.prompt if own is None else as_prompt(own), task, rows)
    if task.has_turns:
        return converse(task.prompt, rows, lambda going, inputs: _by_inputs(subject, going, inputs))
    n = task.sampling.n
    return _by_inputs(subject, rows, [dict(row.inputs) for row in rows for _ in range(n)], n)


def check(subject: object) -> None:
    """Raises ModelError for what can't be asked; a pair is looked into when it is."""
    if isinstance(subject, type):
        raise ModelError(f"{subject.__name__} is a class: give an instance")
    if isinstance(subject, tuple):
        if len(subject) != 2:
            raise ModelError(f"can't evaluate {len(subject)} things at once: give (model, prompt)")
    elif not (is_model(subject) or isinstance(subject, Chain) or callable(subject)):
        raise ModelError(
            f"can't evaluate {type(subject).__name__}: give a model (name, generate), (model, prompt), "
            f"a chain (invoke, batch) or a function"
        )


def is_model(subject: object) -> bool:
    """True for what answers messages. LangChain's models are Runnables too, but do not answer rows."""
    inner = subject
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if isinstance(inner, BaseLanguageModel | LocalModel):
        return True
    return isinstance(subject, Model) and not isinstance(subject, Chain)


def _by_inputs(subject: Any, rows: Sequence[TaskRow], asked: Sequence[Mapping[str, Any]], n: int = 1) -> Said:
    if isinstance(subject, Chain):
        return _read(subject.batch(list(asked)), f"{type(subject).__name__}.batch", rows, n)
    return _read((subject(inputs) for inputs in asked), "the function", rows, n)


def _by_model(model: Model, prompt: Prompt, task: Task, rows: Sequence[TaskRow]) -> Said:
    if task.scored and isinstance(model, Scorer):
        return _scored(model, prompt, task, rows)
    if not task.has_turns:
        return _written(model, task, rows, [fill(prompt, row.inputs) for row in rows])

    def turn(going: Sequence[TaskRow], inputs: Sequence[Mapping[str, Any]]) -> Said:
        return _written(model, task, going, [messages(prompt, *one) for one in zip(going, inputs, strict=True)])

    return converse(prompt, rows, turn)


def _written(model: Model, task: Task, rows: Sequence[TaskRow], asked: list[Messages]) -> Said:
    written = model.generate(asked, task.sampling)
    n = task.sampling.n
    if len(written) != len(rows) or any(len(row) != n for row in written):
        raise ModelError(
            f"{model.name} gave completions for {sum(len(row) == n for row in written)} of {len(rows)} prompts"
        )
    return _read((one for row in written for one in row), f"{model.name}.generate", rows, n)


def _scored(model: Scorer, prompt: Prompt, task: Task, rows: Sequence[TaskRow]) -> Said:
    """The likeliest choice of each row as its text, with the scores of all."""
    scores = tuple(scores_of(model, prompt, task, rows))
    likeliest = [
        max(zip(own, row.choices, strict=False), key=lambda one: one[0].logprob)[1]  # the first scores: of the prompt
        for own, row in zip(scores, rows, strict=True)
    ]
    texts = [text.strip() for text in likeliest]
    return Said(texts, usage_of(model, prompt, task, rows, scores), scores, tuple((text,) for text in texts))


def _read(answers: Iterable[Any], who: str, rows: Sequence[TaskRow], n: int) -> Said:
    """Texts and usage of `n` strings, Answers, Completions or LangChain messages for each row."""
    texts: list[str] = []
    errors: dict[int, str] = {}
    usage = Usage()
    for answer in answers:
        text = answer if isinstance(answer, str) else getattr(answer, "text", None)
        if not isinstance(text, str):
            raise ModelError(f"{who} gave {type(answer).__name__}, which has no text; give text or an Answer")
        if isinstance(answer, Answer) and answer.error is not None:
            errors.setdefault(len(texts) // n, answer.error)
        texts.append(str(text))
        usage = usage + _usage(answer)
    if len(texts) != n * len(rows):
        raise ModelError(f"{who} gave {len(texts)} answers to {len(rows)} rows{f' of {n} samples' if n > 1 else ''}")
    samples = tuple(tuple(texts[i : i + n]) for i in range(0, len(texts), n))
    return Said(texts[::n], usage, (None,) * len(rows), samples, errors)


def _usage(answer: object) -> Usage:
    own = getattr(answer, "usage", None)
    if isinstance(own, Usage):
        return own
    spent = getattr(answer, "usage_metadata", None)
    if isinstance(spent, Mapping):
        return Usage(input_tokens=spent["input_tokens"], output_tokens=spent["output_tokens"])
    return Usage()
