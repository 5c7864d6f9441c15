from __future__ import annotations

import pytest

from condition.errors import DataError, SettingsError
from condition.evaluation import metrics
from condition.evaluation.evaluate import evaluate
from condition.evaluation.metrics import overlap
from condition.evaluation.tasks import Task, TaskRow

sacrebleu = pytest.importorskip("sacrebleu")

SAID = ["the cat sat on the mat", "he went home", "It rains, again!"]
GOLD = [
    ["the cat sat on a mat", "a cat was on the mat"],
    ["he went to his home", "home he went"],
    ["It rains again."] * 2,
]
STREAMS = [[refs[i] for refs in GOLD] for i in range(2)]


def test_a_corpus_is_sacrebleus() -> None:
    assert metrics.corpus_bleu(SAID, GOLD) == pytest.approx(sacrebleu.corpus_bleu(SAID, STREAMS).score / 100)
    assert metrics.corpus_chrf(SAID, GOLD) == pytest.approx(sacrebleu.corpus_chrf(SAID, STREAMS).score / 100)
    assert metrics.corpus_bleu(SAID[:1], ["the cat sat on a mat"]) == pytest.approx(
        sacrebleu.corpus_bleu(SAID[:1], [["the cat sat on a mat"]]).score / 100
    )


def test_a_sentence_is_sacrebleus() -> None:
    for said, gold in zip(SAID, GOLD, strict=True):
        assert metrics.bleu(said, gold)["bleu"] == pytest.approx(sacrebleu.sentence_bleu(said, gold).score / 100)
        assert metrics.chrf(said, gold)["chrf"] == pytest.approx(sacrebleu.sentence_chrf(said, gold).score / 100)


def test_rouge_by_hand() -> None:
    found = metrics.rouge("the cats sat", "the cat sat down")  # 3 of 3 and of 4 stems, 2 of 2 and of 3 pairs
    assert found["rouge1"] == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert found["rouge2"] == pytest.approx(2 * 1 * (2 / 3) / (5 / 3))
    assert metrics.rouge("x", ["y", "x"])["rougeL"] == 1


def test_a_task_with_the_bleu_of_its_corpus() -> None:
    rows = [TaskRow(str(i), {"i": i}, gold) for i, gold in enumerate(GOLD)]
    task = Task("translation", rows, metrics.bleu, prompt="{i}", pooled={"corpus_bleu": metrics.BLEU})
    found = evaluate(lambda inputs: SAID[inputs["i"]], task).metrics
    assert found["corpus_bleu"].value == pytest.approx(sacrebleu.corpus_bleu(SAID, STREAMS).score / 100)
    assert found["bleu"].value != pytest.approx(found["corpus_bleu"].value)


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_SACREBLEU", None)
    monkeypatch.setattr(overlap, "_ROUGE", None)
    with pytest.raises(SettingsError, match=r"pip install 'condition\[evaluation\]'"):
        metrics.bleu("a", "b")
    with pytest.raises(SettingsError, match="ROUGE needs rouge-score"):
        metrics.rouge("a", "b")
    assert overlap._needed("no_such_package") is None


def test_bad_input() -> None:
    with pytest.raises(DataError, match="2 predictions and 1 targets"):
        metrics.corpus_bleu(["a", "b"], ["a"])
    with pytest.raises(DataError, match="a reference is a text or several"):
        metrics.bleu("a", [])
    with pytest.raises(AttributeError, match="no attribute 'blue'"):
        metrics.blue  # noqa: B018
