"""Our SFT beside TRL's: the same rows, order, adapter and schedule give the same losses and the same weights."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel
from trl import SFTConfig
from trl import SFTTrainer as TRLTrainer

import condition as cd
from condition.models.contract import Source
from condition.models.local import LocalModel

pytestmark = [
    pytest.mark.parity,
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning"),  # TRL still sets the old name
]

ROWS = [
    ("The mill was built in 1802 by Ada Brook. When?", " 1802"),
    ("Tom keeps goats on the north hill, and bees behind the barn. What does Tom keep on the hill?", " goats"),
    ("Who wrote it?", " nobody knows, and nobody will tell"),
    ("The ferry leaves at noon. When does it leave?", " at noon"),
] * 3


def seeded(network: torch.nn.Module) -> None:
    numbers = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_A" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=numbers) * 0.1)


def trained_by_trl(network: PreTrainedModel, embedded: LocalModel, folder: Path, accumulation: int) -> TRLTrainer:
    adapted = get_peft_model(
        copy.deepcopy(network),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    seeded(adapted)
    arguments = SFTConfig(
        str(folder),
        per_device_train_batch_size=4 // accumulation,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
        learning_rate=1e-2,
        seed=0,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        completion_only_loss=True,
        disable_tqdm=True,
    )
    data = Dataset.from_list([{"prompt": p, "completion": c} for p, c in ROWS])
    trainer = TRLTrainer(model=adapted, args=arguments, train_dataset=data, processing_class=embedded.tokenizer)
    trainer.train()
    return trainer


@pytest.mark.parametrize("accumulation", [1, 2])
def test_sft_gives_trls_losses_and_weights(tiny, embedded: LocalModel, tmp_path: Path, accumulation: int) -> None:
    network = tiny("llama", vocab_size=len(embedded.tokenizer))
    trl = trained_by_trl(network, embedded, tmp_path, accumulation)

    adapted = cd.LoRA(rank=4, alpha=8).attach(network)
    seeded(adapted)
    start = LocalModel(adapted, embedded.tokenizer, source=Source(kind="memory", name="tiny"))
    settings = cd.Settings(
        epochs=2,
        batch_size=4 // accumulation,
        accumulation=accumulation,
        learning_rate=1e-2,
        schedule="linear",
        warmup=0.0,
        precision="fp32",
        log_every=1,
    )
    rows = [cd.Example({"text": prompt}, completion) for prompt, completion in ROWS]
    tuned = cd.SFTTrainer(settings=settings).fit(start, rows, prompt=cd.TextPrompt("{text}"))

    ours = tuned.history.series("loss")[1]
    theirs = [line["loss"] for line in trl.state.log_history if "loss" in line]
    assert ours[-1] < ours[0] - 0.01
    assert ours == pytest.approx(theirs, abs=2e-5)
    own = {name: p for name, p in tuned.network.named_parameters() if "lora" in name}
    peer = {name.removeprefix("base_model.model."): p for name, p in trl.model.named_parameters() if "lora" in name}
    assert own.keys() == peer.keys()
    for name, parameter in own.items():
        torch.testing.assert_close(parameter, peer[name], atol=1e-3, rtol=1e-2)
