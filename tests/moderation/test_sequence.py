from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from condition.errors import ModelError, SettingsError
from condition.moderation.sequence import SequenceModerator

LABELS = {0: "fine", 1: "toxic", 2: "spam"}


@pytest.fixture
def network(tiny_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return _network()


def _network(**changes: object) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=512,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=LABELS,
        label2id={name: i for i, name in LABELS.items()},
        **changes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = BertForSequenceClassification(config)
        torch.nn.init.normal_(made.classifier.weight, std=2.0)
    return made.eval()


def _plain(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    with torch.inference_mode():
        return network(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].numpy()


def test_batches_give_the_probabilities_of_one_by_one(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = ["a bridge", "Who wrote the letter to the mayor?", "", "salt", "flour and water and patience", "salt"]
    moderator = SequenceModerator(network, tiny_tokenizer, refuse=["toxic"], batch_size=2)
    scores = moderator.scores(texts)
    for text, row in zip(texts, scores, strict=True):
        if text:
            np.testing.assert_allclose(row, _plain(network, tiny_tokenizer, text), atol=1e-5)
    # The threshold between two texts separates exactly those above it.
    limit = float(np.sort(scores[:, 1])[2])
    verdicts = SequenceModerator(network, tiny_tokenizer, refuse=["toxic"], threshold=limit).many(texts)
    assert [v.allowed for v in verdicts] == [
        not text or row[1] < limit for text, row in zip(texts, scores, strict=True)
    ]
    assert next(v for v in verdicts if not v.allowed).categories == ("toxic",)


def test_the_worst_piece_of_a_long_text_counts(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    moderator = SequenceModerator(network, tiny_tokenizer, refuse=["toxic"])
    start = "bread needs flour, water, salt and yeast; " * 20
    ends = [start + end for end in ("hammers " * 60, "winter " * 60, "x9?! " * 60)]
    scores = moderator.scores(ends)
    assert len({tuple(row) for row in scores.round(6)}) == 3  # the ends were read
    assert (scores >= moderator.scores([start]) - 0.2).all()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_long_text_fits_the_positions_where_the_tokenizer_names_no_limit(
    kind: str, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    config = RobertaConfig(**{**_network().config.to_dict(), "pad_token_id": 1})
    network = _network() if kind == "bert" else RobertaForSequenceClassification(config).eval()
    assert tiny_tokenizer.model_max_length > 10**6
    scores = SequenceModerator(network, tiny_tokenizer, refuse=["toxic"]).scores(["salt and water " * 60])
    assert scores.sum() >= 1


def test_labels_of_their_own_are_all_refused(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    network = _network(problem_type="multi_label_classification")
    moderator = SequenceModerator(network, tiny_tokenizer)
    assert moderator.refuse == ("fine", "toxic", "spam")
    with torch.inference_mode():
        plain = network(**tiny_tokenizer("a bridge", return_tensors="pt")).logits.sigmoid()[0].numpy()
    np.testing.assert_allclose(moderator.scores(["a bridge"])[0], plain, atol=1e-5)


def test_a_folder_and_a_pipeline_are_the_same(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    piped = pipeline("text-classification", model=network, tokenizer=tiny_tokenizer, device="cpu")
    texts = ["a bridge", "salt"]
    wanted = SequenceModerator(network, tiny_tokenizer, refuse=["spam"]).scores(texts)
    for same in (SequenceModerator(tmp_path, refuse=["spam"]), SequenceModerator(piped, refuse=["spam"])):
        np.testing.assert_allclose(same.scores(texts), wanted, atol=1e-5)


def test_a_text_that_is_too_long_is_refused_unread(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    verdict = SequenceModerator(network, tiny_tokenizer, refuse=["spam"], max_chars=50)("a" * 51)
    assert verdict.categories == ("unchecked",)


def test_what_does_not_fit_is_refused(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="of 'fine', 'toxic', 'spam'"):
        SequenceModerator(network, tiny_tokenizer)
    with pytest.raises(SettingsError, match="rude"):
        SequenceModerator(network, tiny_tokenizer, refuse=["rude"])
    with pytest.raises(SettingsError, match="threshold"):
        SequenceModerator(network, tiny_tokenizer, refuse=["spam"], threshold=0)
    with pytest.raises(ModelError, match="tokenizer is missing"):
        SequenceModerator(network, refuse=["spam"])
    with pytest.raises(ModelError, match="BertModel is no sequence classifier"):
        SequenceModerator(BertModel(network.config), tiny_tokenizer, refuse=["spam"])
    with pytest.raises(ModelError, match="can't load"):
        SequenceModerator(tmp_path / "nothing", refuse=["spam"])


def test_pickled_weights_are_not_read(
    network: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        SequenceModerator(tmp_path, refuse=["toxic"])
