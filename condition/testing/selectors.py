"""Which examples are shown: at most as many as asked for, and never the answer itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from condition.errors import SettingsError
from condition.prompts.examples import is_item
from condition.protocols import Selector
from condition.testing.promises import Promises
from condition.types import Example


def check_selector(selector: Any, examples: Iterable[Example] | None = None) -> None:
    """The promises of a Selector: at most k Examples, none twice, never the item itself, the same ones again.

    `examples` are those that it chooses from, by default its own `examples`; each is asked for as an item in turn.
    Raises SettingsError where there are none.
    """
    own = Promises(Selector, selector)
    pool = list(getattr(selector, "examples", ()) if examples is None else examples)
    if not pool:
        raise SettingsError(f"{own.who}: give check_selector the examples that it chooses from")
    for item in pool:
        for asked in (item.inputs, {**item.inputs, "an_input_of_no_use": 7}):
            for k in sorted({0, 1, 2, len(pool), len(pool) + 3}):
                found = _selected(own, selector, asked, k)
                itself = [example for example in found if is_item(example, asked)]
                own.keeps(not itself, "it never gives the item itself", f"{itself[:1]} for {dict(asked)} and k={k}")
    first = _selected(own, selector, pool[0].inputs, 2)
    again = _selected(own, selector, pool[0].inputs, 2)
    own.keeps(first == again, "the same inputs give the same examples", f"{first}, then {again}")


def _selected(own: Promises, selector: Selector, inputs: Mapping[str, object], k: int) -> list[Example]:
    found = own.call(f"select takes k={k}", selector.select, dict(inputs), k)
    own.keeps(isinstance(found, list), "select gives a list", type(found).__name__)
    own.all_are(found, Example, "what is selected is an Example")
    own.keeps(len(found) <= k, "it gives at most k examples", f"{len(found)} for k={k}")
    own.keeps(len({id(example) for example in found}) == len(found), "it gives no example twice", found)
    return found
