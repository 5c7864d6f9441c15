"""Limits that are grammars, on llguidance (Moskal et al., github.com/guidance-ai/llguidance): only what fits is said.

    from condition import Choice, Grammar, JSONSchema, Regex

    Choice(["yes", "no"])
    Regex(r"[0-9]{4}-[0-9]{2}")
    JSONSchema({"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]})
    Grammar('start: NUMBER ("+" NUMBER)*\\nNUMBER: /[0-9]+/')

What is malformed, or allows no text at all, is refused when the value is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, final

import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import fill_next_token_bitmask
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from condition.control.combined import Combined, both
from condition.control.limits import Follow, Limits, Mask, limits
from condition.control.vocabulary import Vocabulary, byte_tokenizer
from condition.errors import ControlError
from condition.types import Value


@final
class Grammar(Value):
    """A context-free grammar in Lark's syntax, as llguidance reads it; its first rule is `start`.

    Raises ControlError for a grammar that does not parse or allows no text.
    """

    lark: str

    def __init__(self, lark: str) -> None:
        super().__init__(lark=_text("Grammar", lark))
        _check("grammar", self._grammar())

    def _grammar(self) -> dict[str, Any]:
        return {"lark_grammar": self.lark}

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what the grammar does not allow."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Parsers of the grammar."""
        return _parsers(vocabulary, self._grammar())

    def __and__(self, other: object) -> Combined:
        return both(self, other)


@final
class JSONSchema(Value):
    """JSON that fits a schema: a dict, its JSON text, or a pydantic model, of which only its own fields are written.

    Properties come in the schema's order. A dict that does not say `"additionalProperties": False` allows others.
    Between JSON's parts stands one space at most, so that no sample gets lost in white space; the schema's own
    `x-guidance` may say otherwise (llguidance's page on JSON schemas lists what it supports).
    Raises ControlError for a malformed or unsupported schema, and for one that nothing fits.
    """

    json_schema: str
    """As JSON."""

    def __init__(self, schema: Mapping[str, Any] | str | type[BaseModel]) -> None:
        super().__init__(json_schema=_schema(schema))
        _check("JSON schema", self._grammar())

    def _grammar(self) -> dict[str, Any]:
        schema = json.loads(self.json_schema)
        own = schema.setdefault("x-guidance", {})
        if isinstance(own, dict) and "whitespace_flexible" not in own:
            own.setdefault("whitespace_pattern", " ")
        return {"json_schema": schema}

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what does not lead to JSON that fits."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Parsers of the schema."""
        return _parsers(vocabulary, self._grammar())

    def __and__(self, other: object) -> Combined:
        return both(self, other)


@final
class Regex(Value):
    """Text that a regular expression matches as a whole: Python's syntax, without look-around and back-references.

    Raises ControlError for a pattern that does not parse, matches nothing, or that llguidance would read otherwise.
    """

    pattern: str

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern=_text("Regex", pattern))
        _check_meaning(self.pattern)
        _check("regular expression", self._grammar())

    def _grammar(self) -> dict[str, Any]:
        return _regex(re.sub(r"\\.", lambda found: _CLASSES.get(found[0], found[0]), self.pattern, flags=re.DOTALL))

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what does not lead to a match."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Parsers of the pattern."""
        return _parsers(vocabulary, self._grammar())

    def __and__(self, other: object) -> Combined:
        return both(self, other)


@final
class Choice(Value):
    """One of some labels, literally. A label may begin another. Raises ControlError for no labels or an empty one."""

    labels: tuple[str, ...]

    def __init__(self, labels: Iterable[str]) -> None:
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise ControlError(f'Choice takes a list of labels, such as Choice(["yes", "no"]), not {labels!r:.80}')
        ordered = sorted(labels, key=str) if isinstance(labels, Set) else labels  # a set's order is the process's
        own = tuple(dict.fromkeys(_text("Choice", label) for label in ordered))
        if not own or "" in own:
            raise ControlError(f"Choice needs labels to choose from, none of them empty; given: {list(own)!r:.80}")
        super().__init__(labels=own)
        _check("set of labels", self._grammar())

    def _grammar(self) -> dict[str, Any]:
        return _regex("|".join(map(_literal, self.labels)))

    def processor(self, tokenizer: PreTrainedTokenizerBase, /) -> Limits:
        """Masks what does not lead to a label."""
        return limits(self, tokenizer)

    def followed(self, vocabulary: Vocabulary, /) -> Follow:
        """Parsers of the labels."""
        return _parsers(vocabulary, self._grammar())

    def __and__(self, other: object) -> Combined:
        return both(self, other)


@final
class _Parser:
    """A grammar along one sample."""

    def __init__(self, matcher: LLMatcher, room: Mask) -> None:
        self.matcher, self.room = matcher, room

    def limit(self, mask: Mask, left: int | None) -> bool:
        fill_next_token_bitmask(self.matcher, self.room)
        if self.matcher.is_error():  # it can't be satisfied from here on
            mask[:] = 0
            return False
        mask &= self.room[0]
        return self.matcher.is_accepting()

    def push(self, token: int) -> None:
        self.matcher.consume_token(token)


def _parsers(vocabulary: Vocabulary, grammar: dict[str, Any]) -> Follow:
    room = np.zeros((1, -(-vocabulary.size // 32)), np.int32)
    first: dict[bool, LLMatcher] = {}

    def follow(spaced: bool) -> _Parser:
        if spaced not in first:
            matcher = LLMatcher(vocabulary.parsed, _source(grammar, spaced=spaced), log_level=0)
            if matcher.is_error():
                raise ControlError(f"this tokenizer can't write the grammar: {_said(matcher.get_error())}")
            first[spaced] = matcher
        return _Parser(first[spaced].deep_copy(), room)

    return follow


def _source(grammar: dict[str, Any], *, spaced: bool = False) -> str:
    """What llguidance reads. `spaced`: the text follows a space, which is often part of its first token."""
    outer = [{"lark_grammar": 'start: " " @own'}] if spaced else []
    return json.dumps({"grammars": [*outer, {"name": "own", **grammar}]})


def _check(what: str, grammar: dict[str, Any]) -> None:
    """Raises ControlError for what does not parse and for what no text fits."""
    source = _source(grammar)
    wrong, messages = LLMatcher.validate_grammar_with_warnings(source)
    if wrong:
        raise ControlError(f"this {what} can't be used: {_said(messages[0])}")
    if messages:  # names tokens, which only a tokenizer knows
        return
    matcher = LLMatcher(byte_tokenizer(), source, log_level=0)
    room = np.zeros((1, 9), np.int32)
    fill_next_token_bitmask(matcher, room)
    if matcher.is_error():
        raise ControlError(f"this {what} allows no text at all, not even an empty one: loosen it")


def _said(message: str) -> str:
    """llguidance's words without the state of its parser."""
    return message.partition("<state>")[0].strip()


def _check_meaning(pattern: str) -> None:
    """Raises ControlError for what Python reads in one way and llguidance, whose syntax is Rust's, in another."""
    for found in _PARTS.finditer(pattern):
        inside = re.sub(r"\\.", "", found[0][1:-1], flags=re.DOTALL) if found[0].startswith("[") else ""
        if wrong := next((signs for signs in ("[", "&&", "--", "~~") if signs in inside), None):
            raise ControlError(
                f"{wrong!r} inside {found[0]!r:.80} means two things: write a backslash before each sign"
            )
    if possessive := _POSSESSIVE.search(_PARTS.sub("x", pattern)):
        raise ControlError(f"the possessive {possessive[0]!r} in {pattern!r:.80} is no limit: leave out its last '+'")


_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
"""Escapes and classes of a pattern."""
_POSSESSIVE = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\+")
_CLASSES = {
    r"\w": r"[\p{L}\p{N}_]",
    r"\W": r"[^\p{L}\p{N}_]",
    r"\s": r"[\s\x1c-\x1f]",
    r"\S": r"[^\s\x1c-\x1f]",
}
"""What Python's `re` means by them; llguidance reads the syntax of Rust, where accents alone are letters of words."""


def _regex(pattern: str) -> dict[str, Any]:
    return {"lark_grammar": json.loads(LLMatcher.grammar_from_regex(pattern))["grammars"][0]["lark_grammar"]}


def _literal(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in label)


def _text(owner: str, given: object) -> str:
    if not isinstance(given, str):
        raise ControlError(f"{owner} takes text, not {given!r:.80}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise ControlError(f"{owner} was given half a character, which no model can say: {error}") from error
    return given


def _schema(given: object) -> str:
    """A schema as JSON text."""
    if isinstance(given, type) and issubclass(given, BaseModel):
        given = _closed(given.model_json_schema())
    if not isinstance(given, str | Mapping):
        raise _no_schema(given)
    try:
        schema = json.loads(given) if isinstance(given, str) else dict(given)
        text = json.dumps(schema)
    except ValueError as error:
        raise ControlError(f"the JSON schema is no JSON: {error}") from error
    except TypeError as error:
        raise ControlError(f"the JSON schema holds what JSON can't: {error}") from error
    if not isinstance(schema, Mapping):
        raise _no_schema(given)
    return text


def _no_schema(given: object) -> ControlError:
    return ControlError(f"a JSON schema is a dict, its JSON text or a pydantic model, not {given!r:.80}")


def _closed(schema: Any) -> Any:
    """The same without properties that no field is for, where the model does not ask for them."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    return {"additionalProperties": False, **closed} if isinstance(schema.get("properties"), dict) else closed
