"""Examples and their selectors as JSON. A selector that is code, or lives in a vector store, is not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from condition.errors import PromptError
from condition.prompts.bm25 import BM25Selector
from condition.prompts.selectors import BalancedSelector, FixedSelector, RandomSelector
from condition.prompts.similarity import DiverseSelector, MMRSelector, SemanticSelector
from condition.protocols import Selector
from condition.types import Example


def example_to_json(example: Example) -> dict[str, Any]:
    """Without the fields that are not set."""
    return example.model_dump(exclude_none=True)


def example_from_json(saved: Mapping[str, Any]) -> Example:
    """The example again. Raises DataError for other fields or types."""
    return Example(**saved)


def selector_to_json(selector: Selector, examples: Sequence[Example]) -> dict[str, Any] | None:
    """Kind and settings; its examples only where they are not those of the prompt. None where it can't be written."""
    settings = _settings(selector)
    own: Sequence[Example] = getattr(selector, "examples", ())
    if settings is None or tuple(own) == tuple(examples):
        return settings
    return {**settings, "examples": [example_to_json(example) for example in own]}


def selector_from_json(saved: Mapping[str, Any], examples: Sequence[Example]) -> Selector:
    """The selector again, over its own examples or the prompt's. Raises PromptError for an unknown kind or setting.

    Meaning is read by the embedded encoder only: a file can't name a model to be loaded.
    """
    settings = dict(saved)
    kind, own = settings.pop("kind"), settings.pop("examples", None)
    if kind not in _KINDS:
        raise PromptError(f"a saved selector can't be read: its kind is {kind!r}, not one of {', '.join(_KINDS)}")
    make, names = _KINDS[kind]
    if unknown := settings.keys() - set(names):
        raise PromptError(f"a saved {kind} selector can't be read: it has {sorted(unknown)}; known: {list(names)}")
    pool = examples if own is None else [example_from_json(example) for example in own]
    if kind == "balanced":
        settings["selector"] = selector_from_json(settings["selector"], pool)
    made: Selector = make(pool, **settings)
    return made


_KINDS: dict[str, tuple[Callable[..., Selector], tuple[str, ...]]] = {
    "fixed": (FixedSelector, ()),
    "random": (RandomSelector, ("seed", "each_item", "on")),
    "balanced": (BalancedSelector, ("selector",)),
    "bm25": (BM25Selector, ("k1", "b", "on", "above")),
    "semantic": (SemanticSelector, ("on",)),
    "mmr": (MMRSelector, ("diversity", "fetch", "on")),
    "diverse": (DiverseSelector, ("seed", "on")),
}


def _settings(selector: Selector) -> dict[str, Any] | None:
    match selector:
        case FixedSelector():
            kind = "fixed"
        case RandomSelector():
            kind = "random"
        case BM25Selector():
            kind = "bm25"
        case SemanticSelector(encoder=None):
            kind = "semantic"
        case MMRSelector(encoder=None):
            kind = "mmr"
        case DiverseSelector(encoder=None):
            kind = "diverse"
        case BalancedSelector(label=None):
            inner = selector_to_json(selector.selector, selector.examples)
            return None if inner is None else {"kind": "balanced", "selector": inner}
        case _:
            return None
    found = {name: getattr(selector, name) for name in _KINDS[kind][1]}
    return {"kind": kind, **found, **({"on": list(found["on"]) or None} if "on" in found else {})}
