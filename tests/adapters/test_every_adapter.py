"""One test for all kinds: what an adapter has to do here, whatever it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from condition.adapters.adalora import AdaLoRA
from condition.adapters.attach import trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.full import FullFineTuning, LastLayers
from condition.adapters.ia3 import IA3
from condition.adapters.lora import LoRA
from condition.adapters.mixed import Mixed
from condition.adapters.registry import KINDS, KeptAdapter, adapter_of, attached, switched_off
from condition.adapters.side import LadderSide
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning, PTuning
from condition.adapters.stack import Stack
from condition.errors import ModelError, SettingsError
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.prefix_sharing.probe import shareable
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Sampling
from tests.conftest import Tiny, TinyModel

ROWS = [{"q": f"What is {i}? " + "sky " * (i % 5), "target": f"It is {i % 3}"} for i in range(12)]
IDS = torch.arange(3, 40)[None]
WEIGHTS_OWN = (FullFineTuning, LastLayers)
"""Those that tune the base's own weights."""
ADAPTERS: dict[str, KeptAdapter] = {
    "lora": LoRA(rank=4),
    "dora": LoRA(rank=4, weight_decomposed=True, rank_stabilised=True),
    "orthogonal": LoRA(rank=4, initialisation="orthogonal"),
    "pissa": LoRA(rank=4, initialisation="pissa"),
    "olora": LoRA(rank=4, initialisation="olora"),
    "adalora": AdaLoRA(rank=2, start=4, every=2),
    "ia3": IA3(),
    "prompt_tuning": PromptTuning(length=6, text="Say what it is."),
    "p_tuning": PTuning(length=6),
    "lstm": PTuning(length=6, encoder="lstm", size=8),
    "prefix_tuning": PrefixTuning(length=6),
    "projected": PrefixTuning(length=6, size=16),
    "bottleneck": Bottleneck(size=8),
    "pfeiffer": Bottleneck(size=8, placement="pfeiffer", activation="relu"),
    "parallel": Bottleneck(size=8, placement="parallel", scale=4.0),
    "ladder_side": LadderSide(reduction=4),
    "mixed": Mixed((LoRA(rank=4), Bottleneck(size=8, placement="pfeiffer"), PrefixTuning(length=6))),
    "full": FullFineTuning(),
    "last_layers": LastLayers(1),
    "stack": Stack((PromptTuning(length=4), LoRA(rank=2), Bottleneck(size=4))),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> KeptAdapter:
    """Each in turn."""
    return ADAPTERS[str(request.param)]


def tensors(network: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def fit(model: LocalModel, adapter: KeptAdapter, **options: Any) -> LocalModel:
    rate = 1e-2 if isinstance(adapter, (LoRA, AdaLoRA, *WEIGHTS_OWN)) else 0.3 if isinstance(adapter, IA3) else 5e-2
    settings = {"max_steps": 16, "batch_size": 4, "precision": "fp32", "log_every": 1, "learning_rate": rate, **options}
    return SFTTrainer(adapter, Settings(**settings)).fit(model, ROWS, prompt="{q}")


@torch.no_grad()
def logits(network: PreTrainedModel) -> torch.Tensor:
    return network(input_ids=IDS).logits


def filled(network: PreTrainedModel) -> PreTrainedModel:
    """With trained numbers that are not those of the start."""
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data += torch.randn(parameter.shape, generator=numbers) * 0.05
    return network


def test_all_kinds_are_here() -> None:
    assert {adapter.kind for adapter in ADAPTERS.values()} == set(KINDS)
    assert all(isinstance(adapter, KeptAdapter) for adapter in ADAPTERS.values())


def test_a_model_is_no_network(tiny_model: TinyModel, adapter: KeptAdapter) -> None:
    model, who = tiny_model(), type(adapter).__name__
    told = rf"{who}\.attach takes a network .* give the `network` of a loaded model, .*SFTTrainer\(cd\.{who}\("
    for given in (model, "org/model", None):
        with pytest.raises(ModelError, match=told):
            adapter.attach(given)  # type: ignore[arg-type]
    assert adapter_of(attached(adapter, model.network, model.tokenizer)) == adapter


def test_it_learns_is_saved_and_loaded_and_leaves_its_base_alone(
    tiny_model: TinyModel, adapter: KeptAdapter, tmp_path: Path
) -> None:
    base = tiny_model()
    before, expected = tensors(base.network), logits(base.network)
    tuned = fit(base, adapter)
    _, losses = tuned.history.series("loss")
    assert sum(losses[-3:]) / 3 < 0.98 * losses[0]
    after = tensors(base.network)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(logits(base.network), expected)
    assert not torch.allclose(logits(tuned.network), expected, atol=1e-4)
    assert adapter_of(tuned.network) == adapter
    assert tuned.name == f"tiny llama + {adapter.kind}"
    assert tuned.contract is not None
    assert tuned.contract.metrics["trained_parameters"] == sum(p.numel() for p in trainable(tuned.network).values())

    tuned.save_pretrained(tmp_path / "saved")  # load listens to the canary
    again = load(tmp_path / "saved", base=None if isinstance(adapter, FullFineTuning) else base)
    assert torch.equal(logits(again.network), logits(tuned.network))
    assert again.contract is not None
    assert again.contract.adapter_kind == adapter.kind
    if not isinstance(adapter, FullFineTuning):
        assert adapter_of(again.network) == adapter
        assert trainable(again.network).keys() == trainable(tuned.network).keys()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.no_grad()
def test_generate_and_score_are_the_plain_forward_pass(
    tiny_model: TinyModel, adapter: KeptAdapter, family: str
) -> None:
    base = tiny_model(family)
    network = filled(attached(adapter, base.network, base.tokenizer)).eval()
    model = LocalModel(network, base.tokenizer, source=base.source)
    assert shareable(network)
    prompts = ["What is the sky?", "What is the sky, the grass and the sea?"]
    written = model.generate(prompts, Sampling(max_tokens=8))
    for prompt, (completion,) in zip(prompts, written, strict=True):
        ids = list(model.render(prompt).ids)
        chosen = []
        for token in completion.token_ids:
            values = network(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            assert values[token] >= values.max() - 1e-5
            chosen.append(float(values[token]))
            ids.append(token)
        assert completion.logprobs == pytest.approx(chosen, abs=1e-4)
    (scores,) = model.score(prompts[:1], [["It is blue.", "It is grey."]])
    for score, text in zip(scores, ["It is blue.", "It is grey."], strict=True):
        rendered = model.render(prompts[0], text)
        start, ids = len(rendered.prompt_ids), rendered.ids[:-1]
        values = network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(values[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert score.logprob == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_transformers_own_generate_says_the_same(tiny_model: TinyModel, adapter: KeptAdapter) -> None:
    base = tiny_model()
    network = filled(attached(adapter, base.network, base.tokenizer)).eval()
    rows = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]
    padded = torch.tensor([rows[0], [0] * 3 + rows[1]])
    mask = torch.tensor([[1] * 6, [0] * 3 + [1] * 3])
    found = network.generate(input_ids=padded, attention_mask=mask, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    for row, own in zip(rows, found[:, 6:].tolist(), strict=True):
        ids = list(row)
        for token in own:
            values = network(input_ids=torch.tensor([ids])).logits[0, -1]
            values[2] = -torch.inf  # the stop token, which generate was told not to take
            assert values[token] >= values.max() - 1e-4
            ids.append(token)


def test_checkpointing_gives_the_same_gradients(tiny: Tiny, adapter: KeptAdapter, tiny_tokenizer: Any) -> None:
    network = filled(attached(adapter, tiny("llama"), tiny_tokenizer)).train()
    network(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    plain = {name: p.grad.clone() for name, p in trainable(network).items() if p.grad is not None}
    assert plain
    network.zero_grad()
    network.activation_checkpointing_enable({"use_reentrant": False})
    network(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    for name, gradient in plain.items():
        torch.testing.assert_close(trainable(network)[name].grad, gradient, rtol=1e-4, atol=1e-6)


def test_on_nf4_it_learns_or_says_why_not(tiny_folder: Path, adapter: KeptAdapter, tmp_path: Path) -> None:
    base = load(tiny_folder, quantization=Quantization(bits=4))
    if isinstance(adapter, WEIGHTS_OWN) or getattr(adapter, "initialisation", None) == "orthogonal":
        with pytest.raises(
            SettingsError, match=r"can't train quantized weights.*QLoRA|can't begin on a quantized base"
        ):
            fit(base, adapter)
        return
    before, expected = tensors(base.network), logits(base.network)
    tuned = fit(base, adapter)
    _, losses = tuned.history.series("loss")
    assert sum(losses[-3:]) / 3 < 0.98 * losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(base.network).items())
    assert torch.equal(logits(base.network), expected)
    tuned.save_pretrained(tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved").network), logits(tuned.network))


def test_orthogonal_factors_begin_on_intx_too(tiny_folder: Path) -> None:
    """Their type is that of the base's numbers, which bitsandbytes hides and torchao tells."""
    pytest.importorskip("torchao")
    base = load(tiny_folder, quantization=Quantization(bits=4, kind="intx"))
    tuned = fit(base, LoRA(rank=4, initialisation="orthogonal"))
    _, losses = tuned.history.series("loss")
    assert sum(losses[-3:]) / 3 < 0.98 * losses[0]


def test_switched_off_it_is_the_base(tiny: Tiny, adapter: KeptAdapter, tiny_tokenizer: Any) -> None:
    base = tiny("llama")
    network = filled(attached(adapter, base, tiny_tokenizer))
    learning, changed = trainable(network).keys(), logits(network)
    if isinstance(adapter, WEIGHTS_OWN):
        with pytest.raises(SettingsError, match="no adapter to switch off"), switched_off(network):
            pass
        return
    with switched_off(network):
        torch.testing.assert_close(logits(network), logits(base))
    assert torch.equal(logits(network), changed)
    assert trainable(network).keys() == learning
