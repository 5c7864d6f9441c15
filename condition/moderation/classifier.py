"""A classifier of what may not pass: a logistic regression on sentence vectors, trained in seconds from labelled texts.

spam = ClassifierModerator.fit(texts, labels, allowed=("ham",)).calibrate(held_texts, held_labels)
spam("You won a free prize! Text WIN to 80082")       # Verdict(allowed=False, categories=("spam",), …)
spam.many(ten_thousand_texts)                         # one pass of the encoder
spam.save("spam-filter");  spam = ClassifierModerator.load("spam-filter")
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize  # type: ignore[import-untyped]  # scipy has no types
from scipy.special import expit  # type: ignore[import-untyped]

from condition.encoder import SentenceEncoder, encoder, vectors
from condition.errors import ContractError, DataError, SettingsError
from condition.moderation.texts import checked, judged
from condition.types import Verdict

Label = str | Iterable[str] | None
Array = NDArray[np.float64]

_FORMAT = 1
_PROBES = ("The quick brown fox jumps over the lazy dog.", "Send me 20 euros now!", "你好, ¿qué tal?")
"""An encoder is known again by its vectors of these."""


@final
class ClassifierModerator:
    """Refuses a text where a category's probability reaches its threshold. Made by `fit` or `load`; never changes.

    What is longer than the encoder reads is cut into pieces, and the worst piece counts: bad words at the end of a long
    text are found. Beyond `max_chars` a text is refused unread. With LangChain Embeddings a text is one piece.
    """

    def __init__(
        self,
        weights: Array,
        categories: Sequence[str],
        thresholds: Mapping[str, float],
        embeddings: Embeddings,
        max_chars: int = 100_000,
    ) -> None:
        self.weights = weights
        """`[categories, width + 1]`, the last column the bias."""
        self.categories = tuple(categories)
        self.thresholds = _thresholds(thresholds, self.categories)
        self.embeddings = embeddings
        self.max_chars = max_chars

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[Label],
        *,
        allowed: Iterable[str] = (),
        threshold: float | Mapping[str, float] = 0.5,
        encoder: object = None,
        strength: float = 10.0,
        max_chars: int = 100_000,
    ) -> ClassifierModerator:
        """A moderator from texts and what is wrong with each: a category, several, or None for nothing.

        Labels in `allowed` mean nothing, such as "ham". `encoder` is whatever `condition.encoder.encoder` takes;
        `strength` is the weight of the data against the penalty (scikit-learn's C). The same rows give the same result.
        Raises DataError for rows that do not fit together, and for a category that all rows have or none.
        """
        found = _sets(texts, labels, allowed)
        categories = sorted(frozenset[str]().union(*found))
        if not categories:
            raise DataError("no row has a category, so there is nothing to learn: label what is to be refused")
        targets = _targets(found, categories)
        for name, share in zip(categories, targets.mean(axis=0), strict=True):
            if share == 1:
                raise DataError(f"every row is {name!r}: give texts that may pass as well, with the label None")
        embeddings = _encoder(encoder)
        rows = vectors(embeddings, [checked(text) for text in texts])
        weights = np.stack([logistic_regression(rows, column, strength) for column in targets.T])
        return cls(weights, categories, _each(threshold, categories), embeddings, max_chars)

    def calibrate(
        self,
        texts: Sequence[str],
        labels: Sequence[Label],
        *,
        allowed: Iterable[str] = (),
        false_alarms: float | None = None,
    ) -> ClassifierModerator:
        """The same moderator with the threshold of each category chosen on rows that it was not trained on.

        By the best F1; or with `false_alarms=0.01` the lowest threshold that refuses at most 1 % of the rows without
        the category. Raises DataError where a category has no row, or all of them.
        """
        if false_alarms is not None and not 0 <= false_alarms < 1:
            raise SettingsError(f"false_alarms={false_alarms}: give a share of at least 0 and below 1, such as 0.01")
        found = _sets(texts, labels, allowed)
        if unknown := frozenset[str]().union(*found) - set(self.categories):
            raise DataError(f"labels {sorted(unknown)} are not of this moderator: {', '.join(self.categories)}")
        scores, targets = self.scores(texts), _targets(found, self.categories)
        chosen = {}
        for place, name in enumerate(self.categories):
            column = targets[:, place] > 0
            if column.all() or not column.any():
                raise DataError(f"to choose a threshold for {name!r} some rows need to have that label and some not")
            chosen[name] = (
                _best_f1(scores[:, place], column)
                if false_alarms is None
                else _at_most(scores[~column, place], false_alarms)
            )
        return ClassifierModerator(self.weights, self.categories, chosen, self.embeddings, self.max_chars)

    def __repr__(self) -> str:
        said = ", ".join(f"{name} >= {limit:.2f}" for name, limit in self.thresholds.items())
        return f"ClassifierModerator({said})"

    def __call__(self, text: str, /) -> Verdict:
        """One text; `many` is much faster for many."""
        return self.many([text])[0]

    def many(self, texts: Sequence[str]) -> list[Verdict]:
        """A verdict a text, with one pass of the encoder. A text without a visible character passes."""
        return judged(texts, self.max_chars, lambda asked: [self._verdict(row) for row in self.scores(asked)])

    def scores(self, texts: Sequence[str]) -> Array:
        """Probabilities, `[texts, categories]`: the largest over a text's pieces."""
        pieces = [self._pieces(checked(text)) for text in texts]
        if not pieces:
            return np.zeros((0, len(self.categories)))
        rows = vectors(self.embeddings, [piece for own in pieces for piece in own])
        likely: Array = expit(rows @ self.weights[:, :-1].T + self.weights[:, -1])
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        worst: Array = np.maximum.reduceat(likely, starts, axis=0)
        return worst

    def save(self, folder: str | Path) -> None:
        """Write `moderator.json` and `moderator.safetensors`; the encoder stays where it is, only its vectors of some
        probes are kept to know it again. Raises DataError where the folder can't be written."""
        settings = {
            "format": _FORMAT,
            "kind": "classifier",
            "categories": self.categories,
            "thresholds": self.thresholds,
            "max_chars": self.max_chars,
            "encoder": _name(self.embeddings),
        }
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            probes = vectors(self.embeddings, _PROBES)
            settings["weights"] = _digest(self.weights)
            save_file({"weights": self.weights, "probes": probes}, Path(folder) / "moderator.safetensors")
            written = json.dumps(settings, indent=2, ensure_ascii=False)
            (Path(folder) / "moderator.json").write_text(written, encoding="utf-8")
        except (OSError, SafetensorError) as error:
            raise DataError(f"can't write the moderator to {folder}: {error}") from error

    @classmethod
    def load(cls, folder: str | Path, encoder: object = None) -> ClassifierModerator:
        """The moderator of a folder. `encoder` is the one that it was trained on; nothing stands for the embedded one.

        Raises ContractError where the encoder gives other vectors than in training, or the files are damaged.
        """
        place = Path(folder)
        try:
            settings: dict[str, Any] = json.loads((place / "moderator.json").read_text(encoding="utf-8"))
            tensors = load_file(place / "moderator.safetensors")
            if settings["kind"] != "classifier" or settings["format"] != _FORMAT:
                raise ContractError(
                    f"{place} holds a {settings['kind']} of format {settings['format']}; this version reads a "
                    f"classifier of format {_FORMAT}"
                )
            weights, probes = tensors["weights"], tensors["probes"]
            own = settings["categories"], settings["thresholds"]
            max_chars = int(settings["max_chars"])
            if settings["weights"] != _digest(weights):
                raise ContractError(f"{place}: moderator.json is not of these weights; save the moderator anew")
            if weights.shape != (len(own[0]), probes.shape[1] + 1):
                raise ContractError(f"{place}: the weights do not fit the categories; train it anew")
        except FileNotFoundError as error:
            raise ContractError(f"{folder} holds no saved moderator: {error}") from error
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            raise ContractError(f"the moderator in {folder} can't be read ({error}): save it anew") from error
        embeddings = _encoder(encoder)
        now = vectors(embeddings, _PROBES)
        if now.shape != probes.shape or not np.allclose(now, probes, atol=1e-3):
            raise ContractError(
                f"the moderator in {folder} was trained on the encoder {settings.get('encoder')!r}; "
                f"{_name(embeddings)!r} gives other vectors: load(folder, encoder=…) with that one, or train it anew"
            )
        return cls(weights, own[0], own[1], embeddings, max_chars)

    def _pieces(self, text: str) -> list[str]:
        return self.embeddings.pieces(text) if isinstance(self.embeddings, SentenceEncoder) else [text]

    def _verdict(self, likely: Array) -> Verdict:
        found = sorted(zip(-likely, self.categories, strict=True))
        wrong = [(name, -p) for p, name in found if -p >= self.thresholds[name]]
        if not wrong:
            return Verdict(True)
        reason = ", ".join(f"{name}: probability {p:.2f}, threshold {self.thresholds[name]:.2f}" for name, p in wrong)
        return Verdict(False, tuple(name for name, _ in wrong), reason)


def logistic_regression(rows: NDArray[Any], targets: NDArray[Any], strength: float) -> Array:
    """Weights and bias `[width + 1]` that minimise `strength * sum(log loss) + |w|^2 / 2`; the bias is not penalised.

    rows `[rows, width]`, targets `[rows]` of 0 and 1. Convex: the same rows give the same weights.
    Raises SettingsError for a strength that is not above 0.
    """
    if not (strength > 0 and math.isfinite(strength)):
        raise SettingsError(f"strength={strength}: give a number above 0; smaller ones hold the weights nearer to 0")
    x = np.column_stack([rows, np.ones(len(rows))]).astype(np.float64)
    sign = np.where(targets > 0, 1.0, -1.0)

    def loss(w: Array) -> tuple[float, Array]:
        margin = sign * (x @ w)
        slope = w.copy()
        slope[-1] = 0
        value = strength * np.logaddexp(0, -margin).sum() + 0.5 * float(slope @ slope)
        return value, slope - strength * x.T @ (sign * expit(-margin))

    found: Array = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return found


def _encoder(x: object) -> Embeddings:
    return encoder(x)


def _digest(weights: Array) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()


def _name(embeddings: Embeddings) -> str:
    return str(getattr(embeddings, "name", None) or getattr(embeddings, "model", None) or type(embeddings).__name__)


def _sets(texts: Sequence[str], labels: Sequence[Label], allowed: Iterable[str]) -> list[frozenset[str]]:
    if isinstance(texts, str) or len(texts) != len(labels):
        raise DataError(f"give a list of texts and as many labels, not {len(texts)} and {len(labels)}")
    nothing = frozenset((allowed,) if isinstance(allowed, str) else allowed)
    found = []
    for row, label in enumerate(labels):
        names = () if label is None else (label,) if isinstance(label, str) else label
        if not isinstance(names, Iterable) or not all(isinstance(name, str) and name for name in names):
            raise DataError(f"row {row}: the label {label!r} is no category: give its name, several names, or None")
        found.append(frozenset(names) - nothing)
    return found


def _targets(found: Sequence[frozenset[str]], categories: Sequence[str]) -> Array:
    return np.array([[float(name in names) for name in categories] for names in found])


def _each(threshold: float | Mapping[str, float], categories: Sequence[str]) -> Mapping[str, float]:
    return threshold if isinstance(threshold, Mapping) else dict.fromkeys(categories, threshold)


def _thresholds(given: Mapping[str, float], categories: Sequence[str]) -> dict[str, float]:
    if set(given) != set(categories):
        raise SettingsError(f"give a threshold for each of {', '.join(categories)}; given: {', '.join(given)}")
    for name, limit in given.items():
        if not limit > 0:
            raise SettingsError(f"the threshold of {name!r} is {limit}: 0 would refuse every text; give one above it")
    return {name: float(given[name]) for name in categories}


def _best_f1(scores: Array, targets: NDArray[np.bool_]) -> float:
    """Midway between two scores, where refusing those above has the best F1."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(targets[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + targets.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # equal scores are refused together
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float(ranked[best] + below) / 2


def _at_most(scores: Array, share: float) -> float:
    """The lowest threshold that at most this share of the scores reach."""
    ranked = np.sort(scores)[::-1]
    room = int(share * len(ranked))
    return float(np.nextafter(ranked[room], np.inf))
