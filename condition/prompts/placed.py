"""Where the values stand in the words of a text prompt.

A text prompt's own words may name special tokens; its values may not: there such a name is words, as it is in a chat.

    place("Q: {q}<|im_end|>", "f-string", {"q": "What?"}, "Q: What?<|im_end|>")    # ((3, 8),)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from jinja2.sandbox import SandboxedEnvironment

from condition.types import Message

Values = tuple[tuple[int, int], ...]

_SPARE = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Characters that Unicode keeps for a program's own use."""


def place(template: str, template_format: str, given: Mapping[str, Any], content: str) -> Values:
    """The characters, from and to, of a filled template that came from values.

    Where that can't be told, because a value is not written the same twice, all of it: then no special token acts.
    """
    try:
        text, values = (_of_f_string if template_format == "f-string" else _of_jinja)(template, given, content)
    except Exception:  # of values, which are code too
        text, values = "", ()
    return values if text == content else ((0, len(content)),)


def text_message(parts: Iterable[Message], separator: str = "") -> Message:
    """Text messages as one, which still knows where values stand."""
    content, values = "", list[tuple[int, int]]()
    for i, part in enumerate(parts):
        content += separator if i else ""
        values += [(len(content) + start, len(content) + stop) for start, stop in part.values]
        content += part.content
    return Message("text", content, tuple(values))


def _of_f_string(template: str, given: Mapping[str, Any], content: str) -> tuple[str, Values]:
    formatter = Formatter()
    text, values = "", []
    for words, name, spec, conversion in formatter.parse(template):
        text += words
        if name is not None:
            value = formatter.convert_field(given[name], conversion)
            said = formatter.format_field(value, spec or "")
            values.append((len(text), len(text) + len(said)))
            text += said
    return text, tuple(values)


def _of_jinja(template: str, given: Mapping[str, Any], content: str) -> tuple[str, Values]:
    begin, end = [mark for mark in _SPARE if mark not in content and mark not in template][:2]
    marking = SandboxedEnvironment(finalize=lambda value: f"{begin}{value}{end}")
    text, values, depth, start = "", [], 0, 0
    for part in re.split(f"([{begin}{end}])", marking.from_string(template).render(**given)):
        if part not in (begin, end):
            text += part
            continue
        depth += 1 if part == begin else -1  # what a block has kept may hold values of its own
        if part == begin and depth == 1:
            start = len(text)
        elif not depth:
            values.append((start, len(text)))
    return text, tuple(values)
