"""Whether a text is the one that was wanted."""

from __future__ import annotations

from collections.abc import Sequence

from condition.errors import DataError


def exact_match(prediction: str, answer: str | Sequence[str]) -> dict[str, float]:
    """1 where the two texts are the same but for white space around them; of several answers one is enough."""
    return {"exact": float(any(prediction.strip() == text.strip() for text in _several(answer)))}


def accuracy(prediction: str, answer: str | Sequence[str]) -> dict[str, float]:
    """1 where the two are the same label: case, white space and a full stop at the end do not matter."""
    said = _label(prediction)
    return {"accuracy": float(any(said == _label(text) for text in _several(answer)))}


def win_rate(prediction: str, wins: str | Sequence[str]) -> dict[str, float]:
    """How often a judgment is a win: 1 for one of `wins`, 0.5 for a tie, else 0. `prediction` is what a judge said."""
    said = _label(prediction)
    if said in ("tie", "both", "draw"):
        return {"win_rate": 0.5}
    return {"win_rate": float(any(said == _label(text) for text in _several(wins)))}


def _several(answer: str | Sequence[str]) -> Sequence[str]:
    texts = [answer] if isinstance(answer, str) else answer
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"the target of a metric of texts is a text or several, not {answer!r:.80}")
    return texts


def _label(text: str) -> str:
    return text.strip().rstrip(".").rstrip().casefold()
