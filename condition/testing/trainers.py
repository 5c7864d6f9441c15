"""Rows to a conditioned model: the model given keeps every bit, and rows come in any iterable."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condition.prompts.template import as_prompt
from condition.protocols import Trainer
from condition.testing.networks import tiny_model
from condition.testing.promises import Promises, same
from condition.testing.samples import EXAMPLES


def check_trainer(
    trainer: Any,
    model: Any = None,
    rows: Sequence[Any] = EXAMPLES,
    prompt: object = "{question}",
    *,
    repeatable: bool = True,
) -> None:
    """The promises of a Trainer: a new model, the old one bit-equal, rows from any iterable, no rows refused.

    It fits three times: give it a small number of steps. `model` is by default a tiny random one with the embedded
    model's tokenizer; `rows` suit the trainer, by default Examples of a question. With `repeatable` the same rows, as
    a list and one by one, have to give the same numbers, where the models have a `network`.
    """
    own = Promises(Trainer, trainer)
    given = tiny_model() if model is None else model
    before = _numbers(given)
    read, asked = list(rows), as_prompt(prompt)
    kept = copy.deepcopy(read)
    tuned = own.call("fit takes rows", lambda: trainer.fit(given, read, prompt=asked))
    _is_new(own, given, tuned, before)
    own.keeps(same(read, kept), "fit changes nothing of its rows", "other rows")
    promise = "fit takes rows that come one by one"
    again = own.call(promise, lambda: trainer.fit(given, iter(read), prompt=asked))
    _is_new(own, given, again, before)
    if repeatable:
        first, second = _numbers(tuned), _numbers(again)
        other = [name for name in first.keys() | second.keys() if not _equal(first.get(name), second.get(name))]
        own.keeps(not other, "the same rows give the same model", f"other numbers in {', '.join(sorted(other)[:5])}")
    promise = "fit takes validation rows"
    # Others than those that are learned, and more than one: some compare rows with each other.
    last = own.call(promise, lambda: trainer.fit(given, read[:-2], prompt=asked, validation=read[-2:]))
    _is_new(own, given, last, before)
    own.refuses("no rows are refused", trainer.fit, given, [], prompt=asked)


def _is_new(own: Promises, given: Any, tuned: Any, before: dict[str, Tensor]) -> None:
    own.keeps(tuned is not None, "fit gives a model", "None")
    own.keeps(tuned is not given, "fit gives a model of its own", "the model given")
    after = _numbers(given)
    other = [name for name in before.keys() | after.keys() if not _equal(before.get(name), after.get(name))]
    own.keeps(not other, "fit leaves the model given bit-equal", f"other numbers in {', '.join(sorted(other)[:5])}")


def _numbers(model: Any) -> dict[str, Tensor]:
    """Every tensor of a model's network; none where it has no network."""
    network = getattr(model, "network", model)
    if not isinstance(network, nn.Module):
        return {}
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _equal(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)
