"""Asking whatever is measured: a model, a model behind a prompt, a chain, or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables.base import RunnableBindingBase

from condition.errors import ModelError
from condition.evaluation.tasks import Task
from condition.models.local import LocalModel
from condition.models.remote import as_model
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.protocols import Chain, Model, Prompt
from condition.types import Usage

Subject = LocalModel | Model | Chain | tuple[Any, Any] | Callable[[Mapping[str, Any]], Any]


class Said(NamedTuple):
    """A text for each row, and what they cost."""

    texts: list[str]
    usage: Usage


def ask(subject: Subject, task: Task, inputs: Sequence[Mapping[str, Any]]) -> Said:
    """What a subject says to each row. Raises ModelError where it can't be asked, or says something without text."""
    if isinstance(subject, type):
        raise ModelError(f"{subject.__name__} is a class: give an instance")
    if isinstance(subject, tuple):
        if len(subject) != 2:
            raise ModelError(f"can't evaluate {len(subject)} things at once: give (model, prompt)")
        return _by_model(as_model(subject[0]), as_prompt(subject[1]), task, inputs)
    if _is_model(subject):
        model = as_model(subject)
        own = getattr(model, "prompt", None)
        return _by_model(model, task.prompt if own is None else as_prompt(own), task, inputs)
    if isinstance(subject, Chain):
        return _read(subject.batch([dict(i) for i in inputs]), f"{type(subject).__name__}.batch", len(inputs))
    if callable(subject):
        return _read((subject(i) for i in inputs), "the function", len(inputs))
    raise ModelError(
        f"can't evaluate {type(subject).__name__}: give a model (name, generate), (model, prompt), "
        f"a chain (invoke, batch) or a function"
    )


def _is_model(subject: object) -> bool:
    """True for what answers messages. LangChain's models are Runnables too, but do not answer rows."""
    inner = subject
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if isinstance(inner, BaseLanguageModel | LocalModel):
        return True
    return isinstance(subject, Model) and not isinstance(subject, Chain)


def _by_model(model: Model, prompt: Prompt, task: Task, inputs: Sequence[Mapping[str, Any]]) -> Said:
    written = model.generate([fill(prompt, row) for row in inputs], task.sampling)
    if len(written) != len(inputs) or not all(written):
        raise ModelError(f"{model.name} gave completions for {sum(map(bool, written))} of {len(inputs)} prompts")
    return _read((row[0] for row in written), f"{model.name}.generate", len(inputs))


def _read(answers: Iterable[Any], who: str, expected: int) -> Said:
    """Texts and usage of strings, Answers, Completions or LangChain messages."""
    texts: list[str] = []
    usage = Usage()
    for answer in answers:
        text = answer if isinstance(answer, str) else getattr(answer, "text", None)
        if not isinstance(text, str):
            raise ModelError(f"{who} gave {type(answer).__name__}, which has no text; give text or an Answer")
        texts.append(str(text))
        usage = usage + _usage(answer)
    if len(texts) != expected:
        raise ModelError(f"{who} gave {len(texts)} answers to {expected} rows")
    return Said(texts, usage)


def _usage(answer: object) -> Usage:
    own = getattr(answer, "usage", None)
    if isinstance(own, Usage):
        return own
    spent = getattr(answer, "usage_metadata", None)
    if isinstance(spent, Mapping):
        return Usage(input_tokens=spent["input_tokens"], output_tokens=spent["output_tokens"])
    return Usage()
