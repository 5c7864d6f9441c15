"""In what one run differs from another, in words for whoever wants to go on with one.

A run's rows are known by a hash of their tokens ("data"), and by one of what they say ("data_says"). Where only the
first is another, the rows are the same and the prompt, or the chat template, is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

SAYS = "_says"
"""Behind the name of a hash of tokens: that of the rows that they were rendered from."""
PROMPT = "the prompt or chat template (the rows are the same)"
READ = "data (the rows, as the prompt renders them)"
_OF_TOKENS = frozenset({"base", "max_length", "too_long"})
"""What else makes other tokens of the same rows."""
_STEPS = frozenset({"epochs", "max_steps"})


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between runs, by name."""
    now = json.loads(json.dumps(now))
    names = {name for name in now.keys() | before.keys() if not name.endswith(SAYS)}
    found = sorted(name for name in names if now.get(name) != before.get(name))
    reread = [name for name in found if now.get(name + SAYS) and now[name + SAYS] == before.get(name + SAYS)]
    if "data" in reread and not _OF_TOKENS & set(found):
        return [name for name in found if name not in reread] + [PROMPT]
    return [READ if name == "data" and not now.get(name + SAYS) else name for name in found]


def more_steps(different: Sequence[str]) -> str:
    """How a run that only was to be longer is gone on with; nothing for others."""
    if not _STEPS.issuperset(different):
        return ""
    return (
        ". The learning rate falls over all steps, so a longer run is another one: to train its result on, "
        "fit(tuned, ...) with another output folder"
    )
