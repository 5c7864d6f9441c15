"""Prompts that are asked for one by one and written together."""

from __future__ import annotations

import pytest

from condition.errors import ModelError
from condition.integrations.batch import Batch, complete, together
from condition.integrations.waiting import Ticket
from condition.types import Message, Sampling
from tests.conftest import TinyModel
from tests.integrations.test_waiting import asked, texts
from tests.integrations.test_waiting import calls as calls

SAMPLING = Sampling(max_tokens=5, temperature=2.0)


def test_each_completion_is_given_once(tiny_model: TinyModel, calls: list[int]) -> None:
    model = tiny_model()
    with together([Batch(Ticket(model, [asked(0), asked(0), asked(1)], SAMPLING))]):
        one, other, third = (complete(Ticket(model, [asked(i)], SAMPLING)) for i in (0, 0, 1))
        assert calls == [3]
        assert texts(one) != texts(other)
        assert len(third) == 1
        complete(Ticket(model, [asked(0)], SAMPLING))  # none is left
        assert calls == [3, 1]
    complete(Ticket(model, [asked(1)], SAMPLING))  # outside
    assert calls == [3, 1, 1]


def test_other_settings_and_models_are_written_by_themselves(tiny_model: TinyModel, calls: list[int]) -> None:
    model, other = tiny_model(), tiny_model()
    with together([Batch(Ticket(model, [asked(0), asked(1)], SAMPLING)), Batch(Ticket(other, [asked(0)], SAMPLING))]):
        complete(Ticket(model, [asked(0)], Sampling(max_tokens=2)))
        complete(Ticket(other, [asked(0)], SAMPLING))
        complete(Ticket(model, [asked(1)], SAMPLING))
    assert calls == [1, 1, 2]


def test_an_error_comes_to_its_own_prompt(tiny_model: TinyModel) -> None:
    model, long = tiny_model(), (Message("user", "word " * 600),)
    with together([Batch(Ticket(model, [long, asked(0)], SAMPLING))]):
        with pytest.raises(ModelError, match="shorten"):
            complete(Ticket(model, [long], SAMPLING))
        assert complete(Ticket(model, [asked(0)], SAMPLING))
