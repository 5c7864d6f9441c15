"""What tuning a subject has cost, as its contract tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from condition.models.local import LocalModel

_DEEPEST = 6


class Trained(NamedTuple):
    """None where a subject does not tell: a function, or a model elsewhere."""

    parameters: int | None
    seconds: float | None


def trained(subject: object) -> Trained:
    """Of the local models in a subject: itself, in a pair with a prompt, within a control, or behind a chain."""
    models = {id(model.network): model for model in _models(subject, _DEEPEST)}
    if not models:
        return Trained(None, None)
    told = [{} if model.contract is None else model.contract.metrics for model in models.values()]
    is_tuned = [model.contract is not None and model.contract.adapter is not None for model in models.values()]
    if any(tuned and not {"trained_parameters", "seconds"} <= own.keys() for tuned, own in zip(is_tuned, told)):  # noqa: B905
        return Trained(None, None)
    return Trained(
        sum(int(own.get("trained_parameters", 0)) for own in told), sum(own.get("seconds", 0.0) for own in told)
    )


def _models(thing: object, depth: int) -> Iterator[LocalModel]:
    """Only our own classes are looked into: what strangers keep is theirs."""
    if isinstance(thing, LocalModel):
        yield thing
    elif depth and isinstance(thing, tuple | list):
        for part in thing:
            yield from _models(part, depth - 1)
    elif depth and isinstance(thing, Mapping):
        yield from _models(list(thing.values()), depth - 1)
    elif depth and type(thing).__module__.partition(".")[0] == "condition" and hasattr(thing, "__dict__"):
        yield from _models(list(vars(thing).values()), depth - 1)
