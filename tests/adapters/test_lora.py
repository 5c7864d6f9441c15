"""LoRA's numbers by hand, where it goes, and its folder as PEFT reads it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from condition.adapters.adalora import AdaLoRA
from condition.adapters.attach import private_copy, trainable
from condition.adapters.bottleneck import Bottleneck
from condition.adapters.lora import LoRA, lora_of
from condition.adapters.merge import merged
from condition.adapters.registry import load_adapter, save_adapter
from condition.errors import SettingsError
from condition.models.load import load
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from tests.conftest import Tiny

IDS = torch.arange(3, 40)[None]


def filled(network: Any) -> Any:
    """With factors that are not zero."""
    numbers = torch.Generator().manual_seed(1)
    for parameter in trainable(network).values():
        parameter.data = torch.randn(parameter.shape, generator=numbers) * 0.1
    return network


def test_a_new_adapter_changes_nothing(tiny: Tiny, family: str) -> None:
    network = tiny(family)
    expected = network(input_ids=IDS).logits
    torch.testing.assert_close(LoRA(rank=4).attach(network)(input_ids=IDS).logits, expected)


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 6 / 4), (True, 6 / 4**0.5)])
def test_a_layer_by_hand(tiny: Tiny, stabilised: bool, scale: float) -> None:
    network = filled(LoRA(rank=4, alpha=6, targets=["q_proj"], rank_stabilised=stabilised).attach(tiny("llama")))
    layer = network.get_submodule("model.layers.0.self_attn.q_proj")
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    weight, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(layer(x), x @ weight.T + scale * x @ a.T @ b.T)


def test_all_linear_layers_but_the_head(tiny: Tiny, family: str) -> None:
    network = LoRA(rank=4).attach(tiny(family))
    linear = [n for n, m in tiny(family).named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]
    head = [n for n, m in tiny(family).named_modules() if m is tiny(family).get_output_embeddings()]
    expected = {name for name in linear if name not in (*head, "lm_head", "embed_out")}
    found = {name.partition(".lora_")[0] for name in trainable(network)}
    assert found == expected
    assert all(".lora_" in name for name in trainable(network))


def test_no_layer_of_that_name(tiny: Tiny) -> None:
    with pytest.raises(
        SettingsError,
        match=r"LoRA\.targets: 'nonsense' is no module of LlamaForCausalLM; its linear layers are down_proj",
    ):
        LoRA(targets=["nonsense"]).attach(tiny("llama"))


@pytest.mark.parametrize("kind", [LoRA, AdaLoRA])
def test_a_name_that_no_layer_has_is_refused_beside_one_that_fits(tiny: Tiny, kind: Any) -> None:
    for wrong in ("v_prj", "", "🙂"):
        with pytest.raises(
            SettingsError, match=rf"{kind.__name__}\.targets: '{wrong}' is no module of LlamaForCausalLM"
        ):
            kind(targets=["q_proj", wrong]).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"a list, \['q_proj'\]"):
        kind(targets="q_proj").attach(tiny("llama"))
    for none in ([], (), ""):
        with pytest.raises(SettingsError, match=rf"{kind.__name__}\.targets = .* names no layer: give names, or leave"):
            kind(targets=none).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"targets = '\(' is no pattern"):
        kind(targets="(").attach(tiny("llama"))
    assert trainable(kind(targets=["q_proj", "model.layers.1.mlp.up_proj"]).attach(tiny("llama")))


@pytest.mark.parametrize("kind", [LoRA, AdaLoRA])
def test_another_adapters_own_layers_are_no_targets(tiny: Tiny, kind: Any) -> None:
    network = kind().attach(Bottleneck(size=2).attach(tiny("llama")))
    names = [name for name, _ in network.named_parameters() if "learned_bottleneck" in name]
    assert names
    assert not any("lora" in name for name in names)
    assert trainable(network).keys() == trainable(kind().attach(tiny("llama"))).keys()


def test_whole_modules_that_are_not_there(tiny: Tiny) -> None:
    for wrong in ("lm_haed", "", "head"):
        with pytest.raises(SettingsError, match=rf"LoRA\.whole: '{wrong}' is no module"):
            LoRA(whole=(wrong,)).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"did you mean 'lm_head'\?.* lm_head, .*, its embeddings embed_tokens$"):
        LoRA(whole=["lm_hed"]).attach(tiny("llama"))
    with pytest.raises(SettingsError, match=r"^LoRA\.whole = 'lm_head': .*: give a list, \['lm_head'\]$"):
        LoRA(whole="lm_head")
    assert any("lm_head" in name for name in trainable(LoRA(whole=("lm_head",)).attach(tiny("llama"))))


@pytest.mark.parametrize("whole", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_whole_modules_there_and_back(
    tiny: Tiny, tiny_tokenizer: Any, tmp_path: Path, is_tied: bool, whole: str
) -> None:
    """What is trained is what says the words, and comes back: also where embedding and head are one tensor."""
    tiny("llama", tie_word_embeddings=is_tied).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    table, head = (m.weight.detach().clone() for m in _ends(base.network))
    settings = Settings(max_steps=2, batch_size=1, learning_rate=1e-2, warmup=0)
    trainer = SFTTrainer(LoRA(rank=2, targets=["q_proj"], whole=[whole]), settings)
    tuned = trainer.fit(base, [{"q": "1+1?", "target": "2"}], prompt="{q}")
    new_table, new_head = (m.weight for m in _ends(tuned.network))
    assert (new_table is new_head) == is_tied
    assert torch.equal(new_table, table) == (not is_tied and whole == "lm_head")
    assert torch.equal(new_head, head) == (not is_tied and whole == "embed_tokens")
    assert all(torch.equal(m.weight, was) for m, was in zip(_ends(base.network), (table, head), strict=True))
    said = tuned.network(input_ids=IDS).logits
    hidden = tuned.network.base_model(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(said, hidden @ new_head.T)
    assert not torch.allclose(said, base.network(input_ids=IDS).logits)
    tuned.save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned")
    assert torch.equal(again.network(input_ids=IDS).logits, said)
    assert again.score("1+1?", [["2", "3"]]) == tuned.score("1+1?", [["2", "3"]])
    torch.testing.assert_close(tuned.merge().network(input_ids=IDS).logits, said)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_of_a_tied_embedding_are_its_heads_too(tiny: Tiny, tmp_path: Path, dtype: Any) -> None:
    base = tiny("llama", tie_word_embeddings=True).to(dtype)
    network = LoRA(rank=2, targets=["embed_tokens", "q_proj"]).attach(base)
    for which in (network, private_copy(network)):  # as merging and tuning on make them
        table, head = _ends(which)
        with torch.no_grad():
            table.lora_embedding_A["default"].fill_(0.5)
            head.lora_A["default"].weight.fill_(0.25)
        assert bool((head.lora_B["default"].weight == 0.5).all())
        assert bool((table.lora_embedding_B["default"] == 0.25).all())
    if dtype == torch.float32:
        torch.testing.assert_close(merged(network)(input_ids=IDS).logits, network(input_ids=IDS).logits)
    save_adapter(network, tmp_path, "base")
    assert torch.equal(load_adapter(base, tmp_path, None)(input_ids=IDS).logits, network(input_ids=IDS).logits)


def _ends(network: Any) -> tuple[Any, Any]:
    return network.get_input_embeddings(), network.get_output_embeddings()


def test_a_whole_tied_head_is_the_bases_in_shape_and_bias(tiny: Tiny) -> None:
    base = tiny("llama", tie_word_embeddings=True)
    base.lm_head.bias = nn.Parameter(torch.linspace(-1, 1, 512))
    network = LoRA(rank=2, whole=["lm_head"]).attach(base)
    head = network.get_submodule("lm_head.modules_to_save.default")
    assert (head.in_features, head.out_features) == (64, 512)
    torch.testing.assert_close(network(input_ids=IDS).logits, base(input_ids=IDS).logits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 3, "initialisation": "orthogonal"}, "needs an even rank"),
        ({"rnk": 4}, "did you mean 'rank'"),
        ({"rank": 0}, r"LoRA\.rank = 0"),
        ({"dropout": 1.0}, r"LoRA\.dropout = 1\.0"),
        ({"alpha": -1}, r"LoRA\.alpha = -1"),
    ],
)
def test_a_setting_that_does_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        LoRA(**options)


def test_the_folder_is_pefts_own(tiny: Tiny, family: str, tmp_path: Path) -> None:
    network = filled(LoRA(rank=4, alpha=6).attach(tiny(family)))
    save_adapter(network, tmp_path, "org/base")
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert told["peft_type"] == "LORA"
    assert told["base_model_name_or_path"] == "org/base"
    assert (told["r"], told["lora_alpha"]) == (4, 6)
    assert told["target_modules"] == sorted(told["target_modules"])
    assert {p.name for p in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert load_file(tmp_path / "adapter_model.safetensors").keys() == {
        "base_model.model." + name.replace(".default", "") for name in trainable(network)
    }
    expected = network(input_ids=IDS).logits
    assert torch.equal(PeftModel.from_pretrained(tiny(family), str(tmp_path))(input_ids=IDS).logits, expected)
    again = load_adapter(tiny(family), tmp_path, None)
    assert torch.equal(again(input_ids=IDS).logits, expected)
    assert trainable(again).keys() == trainable(network).keys()
    assert all(torch.equal(p, trainable(network)[name]) for name, p in trainable(again).items())


def test_saving_asks_no_network(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    save_adapter(LoRA(rank=4).attach(tiny("llama")), tmp_path, "org/base")


def test_an_adapter_tells_what_it_is(tiny: Tiny) -> None:
    adapter = LoRA(rank=4, alpha=6, dropout=0.1, targets=["q_proj", "v_proj"], rank_stabilised=True)
    found = lora_of(adapter.attach(tiny("llama")))
    assert found is not None
    assert found.model_dump() == {**adapter.model_dump(), "targets": ["q_proj", "v_proj"]}
    assert lora_of(tiny("llama")) is None


def test_what_is_trained_is_float32_on_a_narrower_base(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama").to(torch.bfloat16)
    tuned = LoRA(rank=2).attach(base)
    assert {p.dtype for p in trainable(tuned).values()} == {torch.float32}
    save_adapter(tuned, tmp_path, "base")
    assert {p.dtype for p in trainable(load_adapter(base, tmp_path, None)).values()} == {torch.float32}
    assert tuned(input_ids=IDS).logits.isfinite().all()
    assert base.dtype == torch.bfloat16
