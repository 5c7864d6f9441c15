"""Parsers of answers as JSON, by name. A function of somebody's own is code, and only its name is kept.

parser_to_json(after("####", last_number))     # {"name": "after", "arguments": ["####", {"name": "last_number"}]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from condition.errors import PromptError
from condition.prompts import parse as known
from condition.prompts.parse import Parser

Parse = Callable[[str], Any]

_PLAIN: dict[str, Parse] = {
    "final_answer": known.final_answer,
    "before_answer": known.before_answer,
    "last_number": known.last_number,
    "mark": known.mark,
    "listed": known.listed,
    "json_value": known.json_value,
    "strip": str.strip,
    "int": int,
    "float": float,
}
_MADE: dict[str, Callable[..., Parse]] = {
    "letter": known.letter,
    "label": known.label,
    "after": known.after,
    "first_of": known.first_of,
}


def parser_to_json(parse: Parse) -> dict[str, Any]:
    """What `parser_from_json` reads; of a parser that is, or holds, somebody's own function, `{"code": its name}`."""
    if isinstance(parse, Parser):
        arguments = [parser_to_json(one) if callable(one) else one for one in parse.arguments]
        if own := next((one for one in arguments if isinstance(one, Mapping) and "code" in one), None):
            return dict(own)
        return {"name": parse.name, "arguments": arguments}
    name = next((name for name, one in _PLAIN.items() if one is parse), None)
    return {"code": getattr(parse, "__qualname__", type(parse).__qualname__)} if name is None else {"name": name}


def parser_from_json(saved: Mapping[str, Any]) -> Parse | None:
    """The parser; None for one that was code. Raises PromptError for an unknown name or arguments that do not fit."""
    if not isinstance(saved, Mapping):
        raise PromptError(f"a saved parser can't be read: {saved!r:.40} is no object with a name")
    if "code" in saved:
        return None
    name, given = saved["name"], saved.get("arguments")
    if name not in (_PLAIN if given is None else _MADE):
        raise PromptError(f"a saved parser can't be read: {name!r} is none of {', '.join((*_PLAIN, *_MADE))}")
    if given is None:
        return _PLAIN[name]
    arguments = [parser_from_json(one) if isinstance(one, Mapping) else one for one in given]
    if None in arguments:
        raise PromptError(f"a saved parser can't be read: {name} of a function, which is code and was not saved")
    return _MADE[name](*arguments)
