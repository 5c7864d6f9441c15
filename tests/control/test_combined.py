"""Controls joined by `&`: what all allow, whoever stands first; flat however nested; and what can't be joined."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from condition.control.codes import ControlCodes
from condition.control.combined import Combined
from condition.control.grammar import Choice, Grammar, JSONSchema, Regex
from condition.control.words import Words
from condition.errors import ControlError
from condition.types import Message, Sampling
from tests.conftest import TinyModel

ASKED = (Message("user", "Who built the bridge?"),)
PARTS = [Choice(["yes", "no"]), Regex("[a-z]+"), Words(ban=["no"])]


def test_a_thousand_samples_fit_every_part(tiny_model: TinyModel) -> None:
    """Readers of their own: `re` for the pattern, and for whole words."""
    pattern = "(oak|elm|ash)( (oak|in|the|sea|a|built)){1,4}[.!]"
    control = Regex(pattern) & Words(require=["oak"], ban=["a", "the"])
    sampling = Sampling(max_tokens=24, temperature=1.0, n=1000, seed=0)
    [found] = tiny_model().generate([ASKED], sampling, control=control)
    ended = [c.text for c in found if c.finish_reason == "stop"]
    assert len(ended) > 300
    assert len(set(ended)) > 30
    for text in ended:
        assert re.fullmatch(pattern, text)
        assert re.search(r"\boak\b", text)
    for text in (c.text for c in found):  # also those that came to a dead end
        assert not re.search(r"\b(a|the)\b", text)


def test_the_order_does_not_matter(tiny_model: TinyModel) -> None:
    model, sampling = tiny_model(), Sampling(max_tokens=12, temperature=1.0, n=24, seed=3)
    one, other = Regex("[a-z]{2,9}") & Words(ban=["in"]), Words(ban=["in"]) & Regex("[a-z]{2,9}")
    assert [[c.token_ids for c in row] for row in model.generate([ASKED], sampling, control=one)] == [
        [c.token_ids for c in row] for row in model.generate([ASKED], sampling, control=other)
    ]


def test_what_may_follow_is_what_every_part_lets_follow(tiny_model: TinyModel) -> None:
    tokenizer = tiny_model().tokenizer
    ids, scores = torch.tensor([[5, 6]]), torch.zeros(1, 512)
    each = [part.processor(tokenizer)(ids, scores) == 0 for part in PARTS]
    both = (PARTS[0] & PARTS[1] & PARTS[2]).processor(tokenizer)(ids, scores) == 0
    assert torch.equal(both, each[0] & each[1] & each[2])
    assert not any(torch.equal(both, one) for one in each[1:])


def test_a_text_ends_only_where_every_part_lets_it_end(tiny_model: TinyModel) -> None:
    sampling = Sampling(max_tokens=12, temperature=1.0, n=32, seed=0)
    for control in (Regex("(ab)+") & Regex("(abab)+"), Regex("(abab)+") & Regex("(ab)+")):
        [found] = tiny_model().generate([ASKED], sampling, control=control)
        ended = {c.text for c in found if c.finish_reason == "stop"}
        assert ended
        assert all(re.fullmatch("(abab)+", text) for text in ended)


def test_every_part_knows_how_many_tokens_are_left(tiny_model: TinyModel) -> None:
    """Required words are written while there is room, whoever else limits the text."""
    sampling = Sampling(max_tokens=10, temperature=1.0, n=32, seed=0)
    for control in (
        Words(require=["oak"]) & Regex("[a-z ]{1,90}"),
        Regex("[a-z ]{1,90}") & Words(require=["oak"]),
    ):
        [found] = tiny_model().generate([ASKED], sampling, control=control)
        assert all(re.search(r"\boak\b", c.text) for c in found)


def test_joined_ones_are_flat_and_values() -> None:
    a, b, c = PARTS
    wanted = Combined(parts=(a, b, c))
    assert (a & b) & c == a & (b & c) == wanted
    assert (a & b).parts == (a, b)
    assert hash(a & b) == hash(a & b) != hash(b & a)


@pytest.mark.parametrize("control", [*PARTS, PARTS[0] & PARTS[1], Grammar('start: "a"'), JSONSchema({"const": 1})])
@pytest.mark.parametrize(
    ("other", "name"), [("yes", "str"), (None, "NoneType"), (ControlCodes(genre="news"), "Control")]
)
def test_what_can_not_be_joined_is_named(control: Any, other: object, name: str) -> None:
    with pytest.raises(ControlError, match=rf"{name}\w* can't be joined with &: only Grammar, .*Words can"):
        control & other


def test_a_contradiction_ends_its_own_sample(tiny_model: TinyModel) -> None:
    control = Regex("a(b|c)d") & Regex("a(b|c)(x|d)") & Words(ban=["acd"])
    sampling = Sampling(max_tokens=8, temperature=1.0, n=32, seed=0)
    [found] = tiny_model().generate([ASKED], sampling, control=control)
    assert {(c.text, c.finish_reason) for c in found} == {("abd", "stop"), ("ac", "control")}
