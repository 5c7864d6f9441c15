from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import validate
from lark import Lark

from condition.control.grammar import Choice, Grammar, JSONSchema, Regex
from condition.protocols import Control
from condition.types import Completion, Message, Sampling
from tests.conftest import TinyModel

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "born": {"type": "integer", "minimum": 1700, "maximum": 1999},
        "trades": {"type": "array", "items": {"enum": ["smith", "potter", "baker"]}, "maxItems": 2},
    },
    "required": ["name", "born"],
    "additionalProperties": False,
}
SUM = """start: term (SIGN term)~0..3
term: NUMBER | "(" start ")"
SIGN: "+" | "-"
NUMBER: /[0-9]{1,4}/
"""
LABELS = ["yes", "yes, please", "no", 'a "quoted" {label}', "c++ (or c#)?", "two\nlines", "naïve 中文 🌉", "/slash\\"]


def _samples(build: TinyModel, control: Control, n: int = 64, max_tokens: int = 96) -> list[Completion]:
    sampling = Sampling(max_tokens=max_tokens, temperature=1.0, n=n, seed=0)
    [found] = build("llama").generate([(Message("user", "Who built the bridge?"),)], sampling, control=control)
    return found


def _finished(completions: list[Completion], share: float) -> list[str]:
    assert {c.finish_reason for c in completions} <= {"stop", "length"}
    texts = [c.text for c in completions if c.finish_reason == "stop"]
    assert len(texts) >= share * len(completions)
    return texts


def _is_json(text: str) -> None:
    validate(json.loads(text), PERSON)


def _is_sum(text: str) -> None:
    Lark(SUM, parser="earley").parse(text)


def _is_label(text: str) -> None:
    assert text in LABELS


def _is_date(text: str) -> None:
    assert re.fullmatch(r"(19|20)\d{2}-[01][0-9]|unknown|\w{2,5}…", text)


CONTROLS: list[tuple[Control, Callable[[str], None]]] = [
    (JSONSchema(PERSON), _is_json),
    (Grammar(SUM), _is_sum),
    (Choice(LABELS), _is_label),
    (Regex(r"(19|20)\d{2}-[01][0-9]|unknown|\w{2,5}…"), _is_date),
]


@pytest.mark.parametrize(("control", "check"), CONTROLS, ids=lambda value: type(value).__name__)
def test_a_random_network_says_only_what_fits(
    tiny_model: TinyModel, control: Control, check: Callable[[str], None]
) -> None:
    texts = _finished(_samples(tiny_model, control), share=0.9)
    for text in texts:
        check(text)
    assert len(set(texts)) > 1
