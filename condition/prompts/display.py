"""How a prompt looks before it is sent, for notebooks."""

from __future__ import annotations

import re
from html import escape
from typing import final

from condition.types import Messages


@final
class Slot(str):
    """Stands for a value that is not known yet: written as its name in braces, whatever the template's format asks."""

    def __new__(cls, name: str) -> Slot:
        return super().__new__(cls, f"{{{name}}}")

    def __format__(self, spec: str) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def html(messages: Messages) -> str:
    """A table: who speaks, and the words as they are."""
    rows = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{escape(m.role)}</th>'
        f'<td style="text-align:left"><pre style="white-space:pre-wrap;margin:0">{escape(m.content)}</pre></td></tr>'
        for m in messages
    )
    return f"<table>{rows}</table>"


def markdown(messages: Messages) -> str:
    """Each message in a fence that no run of backticks inside can close."""
    return "\n\n".join(_fenced(m.role, m.content) for m in messages)


def _fenced(role: str, words: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", words)), default=0))
    return f"**{role}**\n\n{fence}text\n{words}\n{fence}"
