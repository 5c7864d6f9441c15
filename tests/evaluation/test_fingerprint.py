from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from condition.adapters.bottleneck import Bottleneck
from condition.adapters.lora import LoRA
from condition.adapters.soft_prompts import PromptTuning
from condition.evaluation.fingerprint import fingerprint
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example, Sampling


def tuned(model: LocalModel) -> LocalModel:
    return LocalModel(LoRA(rank=2).attach(model.network), model.tokenizer, source=model.source)


def test_the_same_weights_have_the_same_fingerprint(tiny_model: Any) -> None:
    model = tiny_model("llama")
    assert fingerprint(model) == fingerprint(tiny_model("llama")) == fingerprint(model.with_prompt("Say {x}"))
    assert fingerprint(model) != fingerprint(tiny_model("gpt2"))


def test_writing_and_scoring_do_not_change_it(tiny_model: Any) -> None:
    model = tiny_model("llama")
    before = fingerprint(model)
    model.generate(["What is the colour of the sky?", "And of grass?"], Sampling(max_tokens=4))
    model.score(["Who wrote"], [[" the letter", " it"]])
    assert fingerprint(model) == before


def test_a_tuned_model_that_is_loaded_twice_is_the_same(tiny_model: Any, tmp_path: Path) -> None:
    base = tiny_model("llama")
    base.network.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    trainer = SFTTrainer(PromptTuning(length=2), Settings(max_steps=1))
    trainer.fit(load(tmp_path / "base"), [Example({"q": "a"}, "b")], prompt="{q}").save_pretrained(tmp_path / "tuned")
    assert fingerprint(load(tmp_path / "tuned")) == fingerprint(load(tmp_path / "tuned")) is not None


def test_one_changed_number_changes_it(tiny_model: Any) -> None:
    model = tiny_model("llama")
    before = fingerprint(model)
    with torch.no_grad():
        weight = model.network.model.layers[1].mlp.up_proj.weight
        weight[17, 5] += 0.5
    assert fingerprint(model) != before


def test_an_adapter_its_numbers_and_its_scale_change_it(tiny_model: Any) -> None:
    base = tiny_model("llama")
    model = tuned(base)
    found = [fingerprint(base), fingerprint(model)]
    parameters = [p for p in model.network.parameters() if p.requires_grad]
    with torch.no_grad():
        parameters[-1][0, 0] += 1
    found.append(fingerprint(model))
    layer = next(module for module in model.network.modules() if isinstance(getattr(module, "scaling", None), dict))
    layer.scaling["default"] = 0.125
    found.append(fingerprint(model))
    assert None not in found
    assert len(set(found)) == 4


def test_template_and_precision_change_it(tiny_model: Any) -> None:
    model = tiny_model("llama")
    found = [fingerprint(model)]
    model.tokenizer.chat_template = model.tokenizer.chat_template + " "
    found.append(fingerprint(model))
    model.network.to(torch.bfloat16)
    found.append(fingerprint(model))
    assert len(set(found)) == 3


@pytest.mark.parametrize("adapter", [PromptTuning(length=2), Bottleneck(size=4)])
def test_the_hooks_of_our_adapters_are_known(tiny_model: Any, adapter: Any) -> None:
    base = tiny_model("llama")
    model = LocalModel(adapter.attach(base.network), base.tokenizer, source=base.source)
    before = fingerprint(model)
    assert before not in (None, fingerprint(base))
    with torch.no_grad():
        next(p for p in model.network.parameters() if p.requires_grad).view(-1)[0] += 1
    assert fingerprint(model) not in (None, before)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_weights_and_their_scales_count(tiny_folder: Path, bits: Any) -> None:
    model = load(tiny_folder, quantization=Quantization(bits=bits))
    before = fingerprint(model)
    model.generate("What is the colour of the sky?", Sampling(max_tokens=2))
    assert before is not None
    assert fingerprint(model) == before
    assert fingerprint(load(tiny_folder)) != before
    layer = model.network.model.layers[1].mlp.up_proj
    scales = layer.weight.quant_state.absmax if bits == 4 else layer.state.SCB
    scales.view(-1)[0] += 1
    assert fingerprint(model) != before


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_a_hook_does_can_not_be_seen(tiny_model: Any, register: str) -> None:
    model = tiny_model("llama")
    handle = getattr(model.network.model.layers[0], register)(lambda *given: None)
    assert fingerprint(model) is None
    handle.remove()
    assert fingerprint(model) is not None


@pytest.mark.parametrize("other", [5, "name", lambda inputs: "x"])
def test_other_things_have_none(other: Any) -> None:
    assert fingerprint(other) is None


def _tripled(module: Any) -> None:
    before = module.forward
    module.forward = lambda *given, **named: before(*given, **named) * 3


def _partly(module: Any) -> None:
    module.forward = functools.partial(lambda before, *given: before(*given) * 3, module.forward)


def _activated(module: Any) -> None:
    del module.act_fn
    module.act_fn = lambda x: x


@pytest.mark.parametrize("change", [_tripled, _partly, _activated])
def test_what_a_function_in_the_place_of_another_does_can_not_be_seen(tiny_model: Any, change: Any) -> None:
    model = tiny_model("llama")
    change(model.network.model.layers[0].mlp)
    assert fingerprint(model) is None


def test_another_forward_of_a_class_can_not_be_seen(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    assert fingerprint(model) is not None
    kind = type(model.network.model.layers[0].mlp)
    monkeypatch.setattr(kind, "forward", lambda self, x: x)
    assert fingerprint(model) is None


def test_other_defaults_of_writing_change_it(tiny_model: Any) -> None:
    model = tiny_model("llama")
    before = fingerprint(model)
    model.network.generation_config.repetition_penalty = 1.7
    assert fingerprint(model) != before


def test_the_same_bytes_in_another_shape_change_it(tiny_model: Any) -> None:
    one, other = tiny_model("llama"), tiny_model("llama")
    for model, shape in ((one, (2, 6)), (other, (3, 4))):
        model.network.register_buffer("extra", torch.zeros(shape))
    assert fingerprint(one) != fingerprint(other)


class Scaled(torch.nn.Module):
    """A layer of somebody's own, whose code may be another one in the next run."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *given: Any) -> Any:
        return self.inner(*given) * 3


def test_what_a_class_of_ones_own_computes_can_not_be_seen(tiny_model: Any) -> None:
    model = tiny_model("llama")
    layer = model.network.model.layers[0]
    layer.mlp = Scaled(layer.mlp)
    assert fingerprint(model) is None


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_a_function_in_the_place_of_a_method_can_not_be_seen(tiny_model: Any, part: str) -> None:
    model = tiny_model("llama")
    if part == "model":
        model.generate = lambda prompts, sampling: []
    else:
        model.tokenizer.encode = lambda text: [1]
    assert fingerprint(model) is None


def test_a_hook_on_all_modules_can_not_be_seen(tiny_model: Any) -> None:
    model = tiny_model("llama")
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *given: None)
    assert fingerprint(model) is None
    handle.remove()
    assert fingerprint(model) is not None
