"""Our losses over preferences beside TRL's: the same batch and network give the same loss and gradients, in float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedModel
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from condition.adapters.reward_head import add_head
from condition.models.contract import Source
from condition.models.local import LocalModel
from condition.prefix_sharing.layout import pack
from condition.prefix_sharing.probe import shareable
from condition.training import references
from condition.training.candidates import Candidates, Pair
from condition.training.kto import ThumbObjective
from condition.training.objective import Objective
from condition.training.preference import PairObjective
from condition.training.references import with_references
from condition.training.reward import RewardObjective
from condition.training.rows import collate
from tests.conftest import Tiny

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),  # TRL still sets the old name
]

PAIRS = [
    ("The mill was built in 1802. When?", " In 1802", " nobody knows"),
    ("Tom keeps goats on the north hill. What does Tom keep?", " goats", " bees, behind the barn"),
    ("Who wrote it?", " nobody knows, and nobody will tell", " me"),
    ("The ferry leaves at noon. When does it leave?", " at noon", " at one"),
]
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "use_cpu": True,
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_length": None,
}


@pytest.fixture(autouse=True)
def own_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "cache_folder", lambda: tmp_path / "cache")


def adapted(network: PreTrainedModel) -> Any:
    """PEFT's network in float64; TRL copies its adapter, which changes nothing yet, for the reference."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(copy.deepcopy(network), config).double()


def moved(peft: nn.Module) -> None:
    """The policy, and not the reference, away from the start."""
    numbers = torch.Generator().manual_seed(1)
    for name, parameter in peft.named_parameters():
        if "lora_" in name and ".default." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=numbers, dtype=torch.float64) * 0.1)


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert any(float(g.abs().max()) > 1e-6 for g in ours.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-5, msg=name)


def theirs_of(trainer: Any, peft: nn.Module) -> tuple[float, dict[str, torch.Tensor]]:
    batch = next(iter(trainer.get_train_dataloader()))
    peft.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss.detach()), gradients(peft)


def ours_of(
    peft: Any, network: PreTrainedModel, measure: Any, rows: list[Candidates], shared: bool, tokenizer: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    base = LocalModel(copy.deepcopy(network).double(), tokenizer, source=Source(kind="memory", name="tiny"))
    inner = peft.get_base_model()
    if shared:
        assert shareable(inner)
        assert saves(rows)
    else:
        inner.set_attn_implementation("sdpa")
    told = rows if all(row.reference for row in rows) else with_references(rows, base, torch.float32)
    loss = Objective(inner, measure, shared=shared, dtype=torch.float32)(**collate(told))["loss"]
    loss.backward()
    return float(loss.detach()), gradients(peft)


def saves(rows: list[Candidates]) -> int:
    """Tokens that sharing does not compute again: with none the two paths would be one."""
    sequences = [sequence for row in rows for sequence in row.sequences]
    return pack(sequences, [len(sequence) - 1 for sequence in sequences]).saved


DPO: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"loss_type": "sigmoid"}, {"loss": "sigmoid"}),
    ({"loss_type": "hinge"}, {"loss": "hinge"}),
    ({"loss_type": "ipo"}, {"loss": "ipo", "normalised": True}),
    ({"loss_type": "robust", "label_smoothing": 0.2}, {"loss": "robust", "smoothing": 0.2}),
    ({"loss_type": "sigmoid_norm"}, {"loss": "sigmoid", "normalised": True}),
]


@pytest.mark.parametrize(("their", "our"), DPO, ids=[next(iter(t.values())) for t, _ in DPO])
@pytest.mark.parametrize("shared", [False, True])
def test_dpo(tiny: Tiny, tiny_tokenizer: Any, tmp_path: Path, their: Any, our: Any, shared: bool) -> None:
    network = tiny("llama")
    peft = adapted(network)
    data = Dataset.from_list([{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PAIRS])
    trainer = DPOTrainer(
        model=peft,
        args=DPOConfig(str(tmp_path), beta=0.3, **COMMON, **their),
        train_dataset=data,
        processing_class=tiny_tokenizer,
    )
    moved(peft)
    loss, expected = theirs_of(trainer, peft)
    rows = [
        Candidates(tuple(r["prompt_ids"]), (tuple(r["chosen_ids"]), tuple(r["rejected_ids"])), (Pair(0, 1),))
        for r in trainer.train_dataset
    ]
    given = {"loss": "sigmoid", "beta": 0.3, "smoothing": 0.0, "margin": 0.0, "normalised": False, "sft_weight": 0.0}
    found, own = ours_of(peft, network, PairObjective(**{**given, **our}), rows, shared, tiny_tokenizer)
    assert found == pytest.approx(loss, abs=1e-5)
    same(own, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_kto(tiny: Tiny, tiny_tokenizer: Any, tmp_path: Path, shared: bool) -> None:
    network = tiny("llama")
    peft = adapted(network)
    data = Dataset.from_list([{"prompt": p, "completion": c, "label": i % 2 == 0} for i, (p, c, _) in enumerate(PAIRS)])
    trainer = KTOTrainer(
        model=peft,
        args=KTOConfig(str(tmp_path), beta=0.3, desirable_weight=1.5, train_sampling_strategy="sequential", **COMMON),
        train_dataset=data,
        processing_class=tiny_tokenizer,
    )
    moved(peft)
    loss, expected = theirs_of(trainer, peft)
    rows = [
        Candidates(
            tuple(r["prompt_ids"]),
            (tuple(r["completion_ids"]), tuple(r["KL_completion_ids"])),
            grades=(float(r["label"]), 0.0),
        )
        for r in trainer.train_dataset
    ]
    found, own = ours_of(peft, network, ThumbObjective(0.3, 1.5, 1.0), rows, shared, tiny_tokenizer)
    assert found == pytest.approx(loss, abs=1e-5)
    same(own, expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("margins", [False, True])
def test_reward(tiny: Tiny, tiny_tokenizer: Any, tmp_path: Path, margins: bool, shared: bool) -> None:
    network = tiny("llama")
    config = LlamaConfig(**{**network.config.to_dict(), "num_labels": 1, "pad_token_id": 0})
    classifier = LlamaForSequenceClassification(config).double()
    classifier.model.load_state_dict(network.model.state_dict())
    marked = [{"margin": 0.5 * i} if margins else {} for i in range(len(PAIRS))]
    data = Dataset.from_list(
        [{"chosen": p + c, "rejected": p + r, **m} for (p, c, r), m in zip(PAIRS, marked, strict=True)]
    )
    trainer = RewardTrainer(
        model=classifier,
        args=RewardConfig(str(tmp_path), center_rewards_coefficient=0.1, **COMMON),
        train_dataset=data,
        processing_class=tiny_tokenizer,
    )
    loss, expected = theirs_of(trainer, classifier)
    add_head(network)
    network.double()
    network.get_submodule("score").weight.data.copy_(classifier.score.weight.data)
    batch = [(tuple(r["chosen_ids"]), tuple(r["rejected_ids"])) for r in trainer.train_dataset]
    rows = [
        Candidates(one[:1], (one[1:], other[1:]), (Pair(0, 1, m.get("margin", 0.0)),))
        for (one, other), m in zip(batch, marked, strict=True)
    ]
    assert not shared or (shareable(network) and saves(rows))
    objective = Objective(network, RewardObjective(True, 0.1, margins), shared=shared, dtype=torch.float32)
    found = objective(**collate(rows))["loss"]
    found.backward()
    assert float(found.detach()) == pytest.approx(loss, abs=1e-5)
    same(gradients(network), expected)
