"""How often a saved prompt may write the same words: a few lines of a file could ask for gigabytes.

A pipeline whose every part writes the one before it twice doubles with each of them; examples of examples multiply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Any

from jinja2 import Environment, nodes

MOST = 10_000
"""Copies of a value, or of a part's words, that a prompt from a file may write."""
_LOOPED = 1_000
"""What a loop counts for where it reads a part's words, which may be long."""
_PARSER = Environment(autoescape=False)
"""Templates are parsed with it, never rendered."""


def multiplies(saved: Mapping[str, Any]) -> bool:
    """Whether a saved prompt, whose templates parse, is made of prompts that multiply each other beyond `MOST`."""
    return saved["kind"] in ("few-shot", "pipeline") and _copies(saved, {}) > MOST


def _copies(saved: Mapping[str, Any], parts: Mapping[str, int]) -> int:
    """How often it writes a value; `parts` says how often the words of each part do."""
    match saved["kind"]:
        case "text":
            return _in_template(saved["template"], saved["format"], parts)
        case "chat":
            return sum(_in_template(m.get("template", ""), saved["format"], parts) for m in saved["messages"])
        case "joined":
            return sum(_copies(part, parts) for part in saved["parts"])
        case "partial" | "told":
            return _copies(saved["prompt"], parts)
        case "few-shot":
            own = _copies(saved["prompt"], parts)
            # Examples are in the file as often as they are written, but where each is written with examples.
            times = 1 + len(saved["examples"]) if _has_examples(saved["prompt"]) else 1
            return own * times + (_copies(saved["instruction"], parts) if saved["instruction"] else 0)
        case "pipeline":
            known = dict(parts)
            for name, part in saved["parts"]:
                known[name] = max(1, _copies(part, known))
                if known[name] > MOST:
                    return known[name]
            return _copies(saved["prompt"], known)
        case _:
            return 1


def _in_template(template: str, template_format: str, parts: Mapping[str, int]) -> int:
    if template_format == "jinja2":
        tree = _PARSER.parse(template)
        names = Counter(node.name for node in tree.find_all(nodes.Name))
        times = _LOOPED if tree.find(nodes.For) else 1
    else:
        names, times = Counter(name for _, name, _, _ in Formatter().parse(template) if name), 1
    return sum(count * (parts[name] * times if name in parts else 1) for name, count in names.items())


def _has_examples(saved: Any) -> bool:
    if isinstance(saved, list):
        return any(map(_has_examples, saved))
    if not isinstance(saved, Mapping):
        return False
    inner = (saved.get(name) for name in ("prompt", "parts"))
    return saved.get("kind") == "few-shot" or any(map(_has_examples, inner))
