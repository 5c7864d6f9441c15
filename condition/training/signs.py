"""Signs that a training on preferences has found another way than being better: read from its curves.

    for sign in hacking_signs(tuned.history):
        print(sign)

A signal that is optimised stops measuring what it measured: Gao et al. 2022, arXiv 2210.10760; for length,
Singhal et al. 2023, arXiv 2310.03716; for likelihoods that fall together, Pal et al. 2024, arXiv 2402.13228.
"""

from __future__ import annotations

from collections.abc import Iterator

from condition.models.history import History

DRIFT = 0.1
"""Nats a token that the better candidates may lose."""
LENGTH = 0.1
"""Share of pairs by which the longer one may be preferred more often than the data says."""
ENTROPY = 0.5
"""Share of the first entropy that has to be left."""
OVERFIT = 0.1
"""By how much the accuracy on held-out rows may lie below that in training."""
FAR = 0.5
"""Nats a token from the reference, as `kl` estimates it."""


def hacking_signs(history: History) -> list[str]:
    """A sentence for each sign; none where the curves show nothing. Ends are means over the last fifth of a curve."""
    return list(_signs(history))


def _signs(history: History) -> Iterator[str]:
    drift = _end(history, "drift_better")
    if drift is not None and drift < -DRIFT:
        yield (
            f"a token of the better candidates has lost {-drift:.2g} nats: both sides get unlikely. "
            "Give DPOTrainer an sft_weight or a stop_drift, or a larger beta"
        )
    for of in ("eval_", ""):
        prefers, right = _end(history, f"{of}prefers_longer"), _end(history, f"{of}longer_is_better")
        if prefers is not None and right is not None and prefers > right + LENGTH:
            yield (
                f"the longer candidate is preferred in {prefers:.0%} of pairs{' held out' if of else ''}, "
                f"and is better in {right:.0%}: length is taken for quality. Try normalised=True, or shorter pairs"
            )
            break
    begin, end = _begin(history, "entropy"), _end(history, "entropy")
    if begin is not None and end is not None and end < ENTROPY * begin:
        yield (
            f"the entropy fell from {begin:.2g} to {end:.2g} nats: the model repeats itself. "
            "Use fewer steps, or a larger beta"
        )
    far = _end(history, "kl")
    if far is not None and far > FAR:
        yield f"a token lies {far:.2g} nats from the reference: use fewer steps, a lower learning rate or a larger beta"
    seen, held = _end(history, "accuracy"), _end(history, "eval_accuracy")
    if seen is not None and held is not None and held < seen - OVERFIT:
        yield f"{seen:.0%} of pairs are right in training, {held:.0%} of those held out: it has learned rows by heart"


def _begin(history: History, name: str) -> float | None:
    values = history.series(name)[1]
    return values[0] if values else None


def _end(history: History, name: str) -> float | None:
    values = history.series(name)[1]
    last = values[-max(1, len(values) // 5) :]
    return sum(last) / len(last) if last else None
