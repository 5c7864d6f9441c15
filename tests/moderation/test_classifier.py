from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from scipy.special import expit  # type: ignore[import-untyped]

from condition.errors import ContractError, DataError, SettingsError
from condition.evaluation.statistics import estimate
from condition.moderation.classifier import ClassifierModerator, _best_f1, logistic_regression

LETTERS = "abcdefghijklmnopqrstuvwxyz !?"


class Letters(Embeddings):
    """How often each letter comes: an encoder that needs no network."""

    def __init__(self, shift: float = 0.1) -> None:
        self.shift = shift

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[text.lower().count(letter) + self.shift for letter in LETTERS] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


TEXTS = ["zzz z", "a zzzz", "zz zz", "qqq", "q qqq", "qq q", "abc", "hello", "a day", "zzq zq"]
LABELS = ["buzz", "buzz", "buzz", "quack", ["quack"], "quack", None, "fine", (), ["buzz", "quack"]]


def _fitted(**more: object) -> ClassifierModerator:
    return ClassifierModerator.fit(TEXTS, LABELS, allowed="fine", encoder=Letters(), **more)  # type: ignore[arg-type]


def test_categories_are_learned_each_by_itself() -> None:
    moderator = _fitted(strength=100.0)
    assert moderator.categories == ("buzz", "quack")
    found = moderator.many(["zzzz", "qqqq", "hello", "zzqq", "", "zzzz"])
    assert [verdict.allowed for verdict in found] == [False, False, True, False, True, False]
    assert [verdict.categories for verdict in found[:3]] == [("buzz",), ("quack",), ()]
    assert set(found[3].categories) == {"buzz", "quack"}
    assert found[0].reason is not None
    assert found[0].reason.startswith("buzz: probability 0.9")
    assert moderator("zzzz") == found[0]


def test_the_regression_is_at_its_minimum() -> None:
    # There the gradient is zero: w = strength * sum((y - p) x), and sum(y - p) = 0 for the bias without a penalty.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = (x[:, 0] + rng.normal(size=40) > 0).astype(float)
    weights = logistic_regression(x, y, 2.0)
    rest = y - expit(x @ weights[:-1] + weights[-1])
    np.testing.assert_allclose(weights[:-1], 2.0 * x.T @ rest, atol=1e-2)
    assert abs(rest.sum()) < 1e-2


def test_without_signal_the_bias_is_the_share() -> None:
    weights = logistic_regression(np.zeros((10, 2)), np.array([1.0] * 3 + [0.0] * 7), 10.0)
    np.testing.assert_allclose(weights, [0, 0, math.log(3 / 7)], atol=1e-3)


def test_rows_give_the_same_moderator_again() -> None:
    np.testing.assert_array_equal(_fitted().weights, _fitted().weights)


def test_thresholds_are_the_callers() -> None:
    lenient = _fitted(threshold={"buzz": 1.1, "quack": 0.5})
    assert lenient("zzzz").allowed
    assert not lenient("qqqq").allowed
    with pytest.raises(SettingsError, match="a threshold for each of buzz, quack"):
        _fitted(threshold={"buzz": 0.5})
    with pytest.raises(SettingsError, match="0 would refuse every text"):
        _fitted(threshold=0.0)


def test_calibrating_takes_the_threshold_of_the_best_f1() -> None:
    moderator = _fitted().calibrate(TEXTS, LABELS, allowed="fine")
    scores = moderator.scores(TEXTS)[:, 0]
    target = np.array([label == "buzz" or (isinstance(label, list) and "buzz" in label) for label in LABELS])

    def f1(limit: float) -> float:
        said = scores >= limit
        return 2 * (said & target).sum() / (said.sum() + target.sum())

    assert f1(moderator.thresholds["buzz"]) == max(f1(limit) for limit in scores)


def test_equal_scores_are_refused_together_and_a_score_at_the_threshold_is() -> None:
    """Of the scores .9, .5, .5 the best F1 behind the first would cut between two equal ones."""
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    limit = _best_f1(scores, np.array([True, True, False, False, False]))
    assert limit == pytest.approx(0.7)
    moderator = _fitted()
    score = float(moderator.scores(["zz"])[0, 0])
    at = ClassifierModerator(moderator.weights, moderator.categories, {"buzz": score, "quack": 1.1}, Letters())
    assert not at("zz").allowed


def test_calibrating_keeps_false_alarms_down() -> None:
    texts = [f"{'z' * i} hello abc" for i in range(20)] + ["zzzz z"] * 2
    labels = [None] * 20 + ["buzz", "buzz"]
    fitted = ClassifierModerator.fit(TEXTS, [x if x == "buzz" else None for x in LABELS], encoder=Letters())
    for share, most in ((0.0, 0), (0.1, 2), (0.5, 10)):
        moderator = fitted.calibrate(texts, labels, false_alarms=share)
        assert sum(not verdict.allowed for verdict in moderator.many(texts[:20])) == most
    with pytest.raises(SettingsError, match="false_alarms=1"):
        fitted.calibrate(texts, labels, false_alarms=1)


def test_calibrating_needs_rows_of_each_kind() -> None:
    with pytest.raises(DataError, match="'quack' some rows"):
        _fitted().calibrate(["zz", "a"], ["buzz", None])
    with pytest.raises(DataError, match=r"\['moo'\] are not of this moderator: buzz, quack"):
        _fitted().calibrate(["zz", "a"], ["moo", None])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    moderator = _fitted(threshold={"buzz": 0.4, "quack": 0.6})
    moderator.save(tmp_path / "new" / "folder")
    again = ClassifierModerator.load(tmp_path / "new" / "folder", encoder=Letters())
    np.testing.assert_array_equal(again.scores(TEXTS), moderator.scores(TEXTS))
    assert again.thresholds == moderator.thresholds
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "moderator.json",
        "moderator.safetensors",
    ]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    _fitted().save(tmp_path)
    with pytest.raises(ContractError, match="trained on the encoder 'Letters'"):
        ClassifierModerator.load(tmp_path, encoder=Letters(shift=5.0))


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no saved moderator"):
        ClassifierModerator.load(tmp_path / "nothing")
    _fitted().save(tmp_path)
    settings = json.loads((tmp_path / "moderator.json").read_text())
    for broken in ({**settings, "format": 9}, {**settings, "categories": ["one"]}, {"kind": "classifier"}, [1]):
        (tmp_path / "moderator.json").write_text(json.dumps(broken))
        with pytest.raises(ContractError):
            ClassifierModerator.load(tmp_path, encoder=Letters())
    without = {name: told for name, told in settings.items() if name != "max_chars"}
    (tmp_path / "moderator.json").write_text(json.dumps(without))
    with pytest.raises(ContractError, match="can't be read"):
        ClassifierModerator.load(tmp_path, encoder=Letters())
    (tmp_path / "moderator.json").write_text(json.dumps(settings))
    (tmp_path / "moderator.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ContractError, match="can't be read"):
        ClassifierModerator.load(tmp_path, encoder=Letters())


def test_weights_of_another_moderator_are_refused(tmp_path: Path) -> None:
    """As where saving over another was cut off between its two files."""
    _fitted().save(tmp_path / "one")
    ClassifierModerator.fit(TEXTS, LABELS, encoder=Letters(), allowed="fine", strength=0.1).save(tmp_path / "other")
    (tmp_path / "other" / "moderator.safetensors").rename(tmp_path / "one" / "moderator.safetensors")
    with pytest.raises(ContractError, match="not of these weights"):
        ClassifierModerator.load(tmp_path / "one", encoder=Letters())


def test_what_can_not_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "moderator.safetensors").mkdir()
    with pytest.raises(DataError, match="can't write the moderator"):
        _fitted().save(tmp_path)


@pytest.mark.parametrize(
    ("texts", "labels", "says"),
    [
        (["a"], ["x", "y"], "as many labels"),
        ("ab", ["x", "y"], "a list of texts"),
        (["a", "b"], ["x", True], "row 1: the label True"),
        (["a", "b"], ["x", ["y", 5]], "row 1"),
        (["a", "b"], ["x", ""], "row 1"),
        (["a", "b"], [None, None], "nothing to learn"),
        (["a", "b"], ["x", "x"], "every row is 'x'"),
        (["a", None], ["x", None], "not NoneType"),
    ],
)
def test_rows_that_teach_nothing_are_refused(texts: list[str], labels: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        ClassifierModerator.fit(texts, labels, encoder=Letters())


def test_strength_is_positive() -> None:
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(SettingsError, match="strength"):
            _fitted(strength=wrong)


def test_a_text_that_is_too_long_is_refused_unread() -> None:
    assert _fitted(max_chars=20)("a" * 21).categories == ("unchecked",)


@pytest.mark.real
class TestEmbedded:
    def test_spam_is_told_from_messages_on_real_rows(self, shared_data: Path, tmp_path: Path) -> None:
        lines = (shared_data / "classification" / "sms_spam.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        random.Random(0).shuffle(rows)
        texts, labels = [row["text"] for row in rows[:400]], [row["label"] for row in rows[:400]]
        moderator = ClassifierModerator.fit(texts[:200], labels[:200], allowed=["ham"])
        right = [
            verdict.allowed == (label == "ham")
            for verdict, label in zip(moderator.many(texts[200:]), labels[200:], strict=True)
        ]
        constant = [label == "ham" for label in labels[200:]]
        gain = estimate([float(a) - float(b) for a, b in zip(right, constant, strict=True)])
        assert gain.low > 0, f"no better than letting everything pass: {gain}"

        # The end of a long text is read, and what is saved is loaded.
        spam = next(t for t, x in zip(texts, labels, strict=True) if x == "spam" and not moderator(t).allowed)
        hidden = " ".join(t for t, x in zip(texts, labels, strict=True) if x == "ham")[:3000] + "\n" + spam * 6
        assert not moderator(hidden).allowed
        moderator.save(tmp_path)
        assert ClassifierModerator.load(tmp_path).many([spam, texts[0]]) == moderator.many([spam, texts[0]])
