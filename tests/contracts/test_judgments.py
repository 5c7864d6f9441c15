"""Every metric, verifier, moderator and filter through the same checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from transformers import PreTrainedTokenizerBase

import condition as cd
from condition.evaluation import metrics
from condition.moderation.classifier import ClassifierModerator
from condition.prompts.calibrate import calibrate
from condition.reasoning.verify import ClassifierVerifier, JudgeVerifier, ProgramVerifier
from condition.testing import check_filter, check_metric, check_moderator, check_verifier
from condition.training.reward import RewardTrainer
from condition.training.settings import Settings
from condition.types import Completion, Messages, Ranking, Sampling
from tests.conftest import TinyModel
from tests.moderation.test_sequence import LABELS, _network


class Says:
    """A model whose reply depends on the last message."""

    name = "says"

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling = Sampling(), *, control: Any = None
    ) -> list[list[Completion]]:
        return [[Completion(self.reply(p[-1].content))] * sampling.n for p in prompts]


class Letters(Embeddings):
    """Counts of a few letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[text.count(letter) + 0.1 for letter in "zqae"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


GOLD = [("Paris", "Paris"), ("in Lyon", "Paris"), ("{x} 🙂", "")]
SUMS = [("So it is 5.", "#### 5"), ("nothing", "#### 1,200"), ("\\boxed{1/2}", "0.5")]
METRICS: dict[str, tuple[Callable[..., Any], list[tuple[str, Any]]]] = {
    "accuracy": (metrics.accuracy, GOLD),
    "bleu": (metrics.bleu, GOLD[:2]),
    "chrf": (metrics.chrf, GOLD[:2]),
    "rouge": (metrics.rouge, GOLD),
    "exact_match": (metrics.exact_match, GOLD),
    "expression": (metrics.expression, SUMS[2:]),
    "is_json": (metrics.is_json, [("{}", None), ("{", {"type": "object"})]),
    "length": (metrics.length, GOLD),
    "matches": (metrics.matches, [("yes", "yes|no"), ("maybe", "yes|no")]),
    "number": (metrics.number, SUMS[:2]),
    "refusal": (metrics.refusal, [("I can't help with that.", True), ("Paris", False)]),
    "squad_v2": (metrics.squad_v2, [("Paris", ["Paris"]), ("", []), ("Lyon", ["Paris", "in Paris"])]),
}
VERIFIERS: dict[str, Callable[[TinyModel], Any]] = {
    "ProgramVerifier": lambda tiny_model: ProgramVerifier(lambda question, answer: float(answer)),
    "JudgeVerifier": lambda tiny_model: JudgeVerifier(Says(lambda text: str(len(text) % 10))),
    "ClassifierVerifier": lambda tiny_model: ClassifierVerifier(
        calibrate(tiny_model(), "{question} {answer}", ["right", "wrong"])
    ),
    "RewardModel": lambda tiny_model: RewardTrainer(settings=Settings(max_steps=1, batch_size=1, precision="fp32")).fit(
        tiny_model(), [Ranking.pair({"q": "x"}, "yes", "no")], prompt="{q}"
    ),
}
WORDS = cd.WordList(["zounds", "gadzooks"])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric(name: str) -> None:
    check_metric(*METRICS[name])


@pytest.mark.parametrize("name", VERIFIERS)
def test_every_verifier(name: str, tiny_model: TinyModel) -> None:
    check_verifier(VERIFIERS[name](tiny_model))


def test_a_list_of_words() -> None:
    check_moderator(WORDS, allowed=["a pound"], refused=["Zounds!"])


def test_a_model_that_judges() -> None:
    judge = Says(lambda text: "unsafe\nviolence" if "blood" in text else "safe")
    check_moderator(cd.ModelModerator(judge), refused=["blood everywhere"])


def test_a_classifier_of_vectors() -> None:
    fitted = ClassifierModerator.fit(
        ["zzz z", "zz zz", "a zzz", "aee", "a", "eea"], ["buzz"] * 3 + ["fine"] * 3, allowed="fine", encoder=Letters()
    )
    check_moderator(fitted)


def test_a_classifier_of_sequences(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    check_moderator(cd.SequenceModerator(_network(), tiny_tokenizer, refuse=[LABELS[1]]))


def test_a_filter() -> None:
    check_filter(cd.ModerationFilter(WORDS))
