"""Trainers that break a promise are caught."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from condition.testing import check_trainer
from tests.conftest import TinyModel
from tests.testing.conftest import catch


class Halved:
    """A trainer, of a kind: less weight for each row."""

    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        read = list(rows)
        if not read:
            raise ValueError("no rows")
        [prompt.format(**row.inputs) for row in read]
        tuned = copy.copy(model)
        tuned.network = copy.deepcopy(model.network)
        return self.done(tuned, read)

    def done(self, tuned: Any, read: Any) -> Any:
        with torch.no_grad():
            tuned.network.model.norm.weight.mul_(0.5 ** len(read))
        return tuned


class InPlace(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        return self.done(model, list(rows))


class Sharing(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        return self.done(copy.copy(model), list(rows))


class Popping(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        tuned = super().fit(model, rows, prompt=prompt)
        rows.pop()
        return tuned


class Listed(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        return super().fit(model, [rows[i] for i in range(len(rows))], prompt=prompt)


class Blind(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any) -> Any:
        return super().fit(model, rows, prompt=prompt)


class Content(Halved):
    def fit(self, model: Any, rows: Any, /, *, prompt: Any, validation: Any = None) -> Any:
        tuned = copy.copy(model)
        tuned.network = copy.deepcopy(model.network)
        return self.done(tuned, list(rows))


class Drawing(Halved):
    def done(self, tuned: Any, read: Any) -> Any:
        with torch.no_grad():
            tuned.network.model.norm.weight.normal_()
        return tuned


class Picky(Halved):
    def done(self, tuned: Any, read: Any) -> Any:
        raise KeyError("answer")


class Silent(Halved):
    def done(self, tuned: Any, read: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has fit. Seen: object without fit"),
        (Halved, "it is an object, not its class"),
        (InPlace(), "fit gives a model of its own. Seen: the model given"),
        (Sharing(), "fit leaves the model given bit-equal. Seen: other numbers in model.norm.weight"),
        (Popping(), "fit changes nothing of its rows"),
        (Listed(), "fit takes rows that come one by one. Seen: TypeError"),
        (Blind(), "fit takes validation rows. Seen: TypeError"),
        (Content(), "no rows are refused. Seen: no error"),
        (Drawing(), "the same rows give the same model. Seen: other numbers in model.norm.weight"),
        (Picky(), "fit takes rows. Seen: KeyError: 'answer'"),
        (Silent(), "fit gives a model. Seen: None"),
    ],
)
def test_a_trainer_that_breaks_a_promise(block: Any, words: str, tiny_model: TinyModel) -> None:
    catch(words, check_trainer, block, tiny_model())


def test_whole_trainers(tiny_model: TinyModel) -> None:
    check_trainer(Halved(), tiny_model())
    check_trainer(Drawing(), tiny_model(), repeatable=False)
