"""The canary hears other weights in any precision, and nothing else. The measured drifts stand in canary.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condition.adapters.lora import LoRA
from condition.errors import ContractError
from condition.models import canary
from condition.models.canary import Canary, listen, numbers, sing, worst_gain
from condition.models.load import load
from condition.models.local import LocalModel
from condition.models.quantize import Quantization
from condition.models.strengths import STRENGTH_DRIFT, same_vectors, strengths
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Example
from tests.conftest import TinyModel


def changed(layer: nn.Module, factor: float) -> None:
    """Multiply a layer's weights, also where they are stored in four or eight bits."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    state = getattr(weight, "quant_state", None)
    with torch.no_grad():
        if state is not None and state.nested:
            state.state2.absmax = state.state2.absmax * factor
            state.offset = state.offset * factor
        elif state is not None:
            state.absmax = state.absmax * factor
        elif getattr(weight, "SCB", None) is not None or hasattr(layer, "state"):
            for owner in (weight, layer.state):
                if owner.SCB is not None:
                    owner.SCB = owner.SCB * factor
        elif hasattr(weight, "qdata"):  # torchao's
            weight.scale.mul_(factor)
        else:
            weight.mul_(factor)


def test_what_is_sung_is_heard(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    sung = sing(model.network, model.renderer, "float32")
    listen(sung, model.network, model.renderer, "float32")
    listen(Canary.model_validate_json(sung.model_dump_json()), model.network, model.renderer, "float32")
    assert len(sung.logprobs) == len(sung.ids) - 1


def test_gains_by_hand(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    ids = (5, 6, 7)
    _, gains = numbers(model.network, ids)
    states = model.network.get_input_embeddings().weight.detach()[list(ids)]
    assert gains["model.embed_tokens"] == pytest.approx(float(states[1:].norm(dim=-1).mean()), rel=1e-5)
    layer = model.network.get_submodule("model.layers.0")
    normed = layer.input_layernorm(states).detach()
    queries = layer.self_attn.q_proj(normed).detach()
    expected = (queries.norm(dim=-1) / normed.norm(dim=-1))[1:].mean()
    assert gains["model.layers.0.self_attn.q_proj"] == pytest.approx(float(expected), rel=1e-5)


def test_every_layer_of_a_network_is_heard(tiny_model: TinyModel, family: str) -> None:
    """Three-fold weights, layer by layer; the position table of GPT-2 among them."""
    model = tiny_model(family)
    network = LoRA(rank=2).attach(model.network)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    sung = sing(network, model.renderer, "float32")
    for name, module in list(network.named_modules()):
        if next(module.parameters(recurse=False), None) is None:
            continue
        before = {k: v.clone() for k, v in module.state_dict().items()}
        for parameter in module.parameters(recurse=False):
            parameter.data.mul_(3)
        with pytest.raises(ContractError, match="the canary does not reproduce"):
            listen(sung, network, model.renderer, "float32")
        _, gains = numbers(network, sung.ids)
        assert worst_gain(sung.gains, gains)[1] > 0.5, name
        module.load_state_dict(before)
    listen(sung, network, model.renderer, "float32")


@pytest.mark.parametrize("seed", [1, 2])
def test_other_weights_of_the_same_shapes(tiny_model: TinyModel, seed: int) -> None:
    model = tiny_model("llama")
    sung = sing(model.network, model.renderer, "float32")
    torch.manual_seed(seed)
    other = type(model.network)(model.network.config).eval()
    with pytest.raises(ContractError, match="does not reproduce"):
        listen(sung, other, model.renderer, "float32")


def test_weights_that_are_no_numbers(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    sung = sing(model.network, model.renderer, "float32")
    model.network.get_submodule("model.layers.1.mlp.up_proj").weight.data[0, 0] = math.nan
    with pytest.raises(ContractError, match="does not reproduce"):
        listen(sung, model.network, model.renderer, "float32")


def test_another_rendering(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    sung = sing(model.network, model.renderer, "float32")
    model.tokenizer.chat_template = model.tokenizer.chat_template.replace("<|im_end|>", "<|im_end|> ")
    other = LocalModel(model.network, model.tokenizer, source=model.source)
    with pytest.raises(ContractError, match="renders the canary differently"):
        listen(sung, other.network, other.renderer, "float32")


def test_a_template_without_a_system_message(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    model.tokenizer.chat_template = refusing + model.tokenizer.chat_template
    other = LocalModel(model.network, model.tokenizer, source=model.source)
    listen(sing(other.network, other.renderer, "float32"), other.network, other.renderer, "float32")


def test_worst_gain() -> None:
    assert worst_gain({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 6.0}) == ("b", pytest.approx(math.log(3)))
    assert worst_gain({"a": 1.0}, {}) == ("a", math.inf)
    assert worst_gain({"a": 0.0}, {"a": 0.0}) == ("a", 0.0)
    assert worst_gain({"a": 0.0}, {"a": 0.1}) == ("a", math.inf)
    assert worst_gain({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": math.nan})[0] == "b"
    assert worst_gain({}, {}) == ("no layer", 0.0)


def test_tolerances_stay_below_three_fold_weights() -> None:
    coarse = {"intx3", "intx2"}  # two bits move a layer by nearly as much
    for saved in canary.GAIN_DRIFT.keys() - coarse:
        for loaded in canary.GAIN_DRIFT.keys() - coarse:
            assert canary._allowed(canary.GAIN_DRIFT, saved, loaded) < 1.0
    assert canary._allowed(canary.GAIN_DRIFT, "float32", "intx3") < 1.0
    assert canary._allowed(canary.GAIN_DRIFT, "int2", "float32") >= canary.GAIN_DRIFT["fp4"]


def test_tolerances_of_strengths_stay_far_below_three_fold_weights() -> None:
    assert STRENGTH_DRIFT.keys() == canary.GAIN_DRIFT.keys() == canary.TOKEN_DRIFT.keys()
    for saved in STRENGTH_DRIFT:
        for loaded in STRENGTH_DRIFT:
            assert canary._allowed(STRENGTH_DRIFT, saved, loaded) < math.log(3) / 2


def test_strengths_by_hand(tiny_model: TinyModel, family: str) -> None:
    network = tiny_model(family).network
    found = strengths(network, canary.FACTORS)
    vectors = same_vectors(64)
    assert vectors.flatten()[[0, 1, 511]].tolist() == pytest.approx([math.sin(n * n) for n in (1, 2, 512)])
    assert float(vectors.mean()) == pytest.approx(0, abs=0.05)
    head = network.get_output_embeddings()
    name = next(name for name, module in network.named_modules() if module is head)
    answers = vectors.float() @ head.weight.detach().T
    assert found[name] == pytest.approx(float(answers.norm() / vectors.norm()), rel=1e-5)
    adapted = LoRA(rank=2).attach(network)
    assert sorted(strengths(adapted, canary.FACTORS).values()) == pytest.approx(sorted(found.values()))


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_three_fold_weights_are_heard_in_whole_numbers(tiny_folder: Path, bits: Any) -> None:
    """Each layer of a network that is rounded, against what the whole one sang."""
    whole = load(tiny_folder)
    sung = sing(whole.network, whole.renderer, "float32")
    model = load(tiny_folder, quantization=Quantization(bits=bits, kind="intx"))
    listen(sung, model.network, model.renderer, f"intx{bits}")
    for number, name in enumerate(sung.strengths):
        factor = 1 / 3 if number % 2 else 3
        changed(model.network.get_submodule(name), factor)
        heard = strengths(model.network, canary.FACTORS)
        with pytest.raises(ContractError, match=rf"does not reproduce: .* {name} makes the same vectors"):
            canary.compare_strengths(sung, heard, f"intx{bits}")
        changed(model.network.get_submodule(name), 1 / factor)
    canary.compare_strengths(sung, strengths(model.network, canary.FACTORS), f"intx{bits}")


@pytest.mark.real
def test_two_bits_of_the_embedded_model(embedded: LocalModel) -> None:
    sung = sing(embedded.network, embedded.renderer, "float32")
    model = load(quantization=Quantization(bits=2, kind="intx"))
    listen(sung, model.network, model.renderer, "intx2")
    for name in (
        "model.layers.14.mlp.gate_proj",
        "model.layers.29.self_attn.q_proj",
        "model.layers.24.self_attn.o_proj",
    ):
        changed(model.network.get_submodule(name), 3)
        with pytest.raises(ContractError, match=rf"from float32 to intx2 {name} makes the same vectors"):
            listen(sung, model.network, model.renderer, "intx2")
        changed(model.network.get_submodule(name), 1 / 3)


def test_a_canary_of_before_there_were_strengths(tiny_model: TinyModel) -> None:
    model = tiny_model()
    told = sing(model.network, model.renderer, "float32").model_dump(mode="json", exclude={"strengths"})
    listen(Canary.model_validate(told), model.network, model.renderer, "float32")


LOADS: dict[str, dict[str, object]] = {
    "float32": {"dtype": "fp32"},
    "bfloat16": {"dtype": "bf16"},
    "int8": {"quantization": Quantization(bits=8)},
    "nf4": {"quantization": Quantization()},
}
DAMAGED = (
    "layers.14.mlp.gate_proj.base_layer",
    "layers.29.self_attn.q_proj.base_layer",
    "layers.5.mlp.up_proj.lora_B.default",
)


@pytest.mark.real
def test_no_false_alarm_between_precisions_and_three_fold_weights_are_heard(
    embedded: LocalModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded model with a trained LoRA: each precision listens to what each other one sang."""
    rows = [Example({"q": f"What is {i} and {i}?"}, str(2 * i)) for i in range(8)]
    settings = Settings(max_steps=3, batch_size=2, learning_rate=2e-3, schedule="constant", warmup=0.0)
    SFTTrainer(settings=settings).fit(embedded, rows, prompt="{q}").save_pretrained(tmp_path / "tuned")
    sung: dict[str, Canary] = {}
    for precision, options in LOADS.items():
        model = load(tmp_path / "tuned", **options)  # type: ignore[arg-type]  # a table of keywords; listens to fp32's
        sung[precision] = sing(model.network, model.renderer, precision)
        for name in DAMAGED:
            layer = model.network.get_submodule(f"model.{name}")
            changed(layer, 3)
            heard = canary.numbers(model.network, sung[precision].ids)
            for saved in {"float32", precision}:
                with pytest.raises(ContractError, match="does not reproduce"):
                    canary.compare(sung[saved], *heard, precision)
            changed(layer, 1 / 3)
        for saved, other in sung.items():
            canary.compare(other, torch.tensor(sung[precision].logprobs), sung[precision].gains, precision)
            tokens = (torch.tensor(other.logprobs) - torch.tensor(sung[precision].logprobs)).abs().mean()
            layer_name, drift = worst_gain(other.gains, sung[precision].gains)
            with capsys.disabled():
                print(f"\n{saved:>9} -> {precision:9} {float(tokens):.4f} nats {drift:.4f} ({layer_name})", end="")


def test_tolerances_of_two_precisions_add_up_by_their_squares() -> None:
    assert canary._allowed({"a": 3.0, "b": 4.0}, "a", "b") == 5.0


def test_drifts_of_both_signs_do_not_cancel(tiny_model: TinyModel) -> None:
    model = tiny_model()
    sung = sing(model.network, model.renderer, "float32")
    astray = tuple(value + (0.1 if i % 2 else -0.1) for i, value in enumerate(sung.logprobs))
    with pytest.raises(ContractError, match=r"log-probabilities drift by 0\.1 nats"):
        listen(sung.model_copy(update={"logprobs": astray}), model.network, model.renderer, "float32")
