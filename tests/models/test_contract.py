"""What a saved model promises, and each way of breaking it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from condition.errors import ConditionError, ContractError
from condition.models import contract as contract_module
from condition.models.contract import (
    FILE,
    Contract,
    Source,
    _seal,
    memory_fingerprint,
    read_contract,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from condition.models.load import load
from condition.models.local import LocalModel
from tests.conftest import TinyModel
from tests.training.test_sft import fit


@pytest.fixture
def saved(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tuned model on the base in `tiny_folder`."""
    fit(load(tiny_folder), max_steps=3).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def other_weights(folder: Path) -> None:
    """Replace the network in a folder by one of the same shapes."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(7)
    type(network)(network.config).save_pretrained(folder)


def rewritten(folder: Path, **changes: Any) -> None:
    """Change the contract as somebody would who knows how it is sealed."""
    body = json.loads((folder / FILE).read_text())
    body.pop("seal")
    body |= changes
    (folder / FILE).write_text(json.dumps({"seal": _seal(body), **body}))


def edited(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        before = (folder / name).read_text()
        assert change(before) != before
        (folder / name).write_text(change(before))

    return edit


def cut_off(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def scaled(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor * 3 for name, tensor in load_file(file).items()}, file)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "template": (
        edited("chat_template.jinja", lambda t: t + " "),
        r"chat_template\.jinja changed .*chat template was edited",
    ),
    "tokenizer": (
        edited("tokenizer.json", lambda t: t.replace("Answer", "answer", 1) + " "),
        r"tokenizer\.json changed",
    ),
    "tokenizer configuration": (
        edited("tokenizer_config.json", lambda t: t.replace('"<pad>"', '"<|im_end|>"')),
        r"tokenizer_config\.json changed",
    ),
    "adapter configuration": (
        edited("adapter_config.json", lambda t: t.replace("32", "64")),
        r"adapter_config\.json changed",
    ),
    "prompt": (edited(FILE, lambda t: t.replace("{q}", "Please: {q}")), r"condition\.json was edited"),
    "metric": (edited(FILE, lambda t: t.replace('"rows": 12', '"rows": 13')), r"condition\.json was edited"),
    "half a contract": (edited(FILE, lambda t: t[: len(t) // 2]), r"condition\.json can't be read"),
    "no contract at all": (edited(FILE, lambda _: "[]"), r"condition\.json"),
    "seal": (edited(FILE, lambda t: t.replace('"seal"', '"seals"')), r"condition\.json was edited"),
    "cut off": (cut_off, r"adapter_model\.safetensors changed .*damaged, cut off or exchanged"),
    "scaled": (scaled, r"adapter_model\.safetensors changed .*damaged, cut off or exchanged"),
    "missing": (lambda f: (f / "adapter_model.safetensors").unlink(), r"adapter_model\.safetensors is missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "newer": (lambda f: rewritten(f, version=2), r"is of version 2, this library reads 1: upgrade `condition`"),
    "older": (lambda f: rewritten(f, version=0), r"is of version 0, this library reads 1: .*tune and save again"),
    "unknown field": (lambda f: rewritten(f, surprise=1), "(?s)does not hold a contract.*surprise"),
    "path outside": (lambda f: rewritten(f, files={"../tiny-llama/config.json": "0"}), "config.json"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_changed(saved: Path, name: str) -> None:
    assert load(saved)
    change, said = BROKEN[name]
    change(saved)
    with pytest.raises(ContractError, match=said):
        load(saved)


def test_files_that_are_added_do_no_harm(saved: Path) -> None:
    (saved / "README.md").write_text("mine")
    assert load(saved)


def test_a_base_that_was_replaced(saved: Path, tiny_folder: Path) -> None:
    other_weights(tiny_folder)
    with pytest.raises(
        ContractError,
        match=r"trained on .*tiny-llama.* \(weights \w{12}\), but .* holds other weights .*load\(folder, base",
    ):
        load(saved)


def test_the_wrong_base(saved: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    other_weights(other)
    for base in (other, load(other)):
        with pytest.raises(ContractError, match="holds other weights"):
            load(saved, base=base)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
            r"rope_parameters was .*10000.* and is .*500000",
        ),
        ({"hidden_act": "gelu"}, "hidden_act was 'silu' and is 'gelu'"),
        ({"rms_norm_eps": 0.1}, "rms_norm_eps was 1e-06 and is 0.1"),
    ],
)
def test_a_base_whose_configuration_was_edited(
    saved: Path, tiny_folder: Path, change: dict[str, Any], said: str
) -> None:
    file = tiny_folder / "config.json"
    before = file.read_text()
    assert change.keys() <= json.loads(before).keys()
    file.write_text(json.dumps(json.loads(before) | change))
    with pytest.raises(ContractError, match=f"has the right weights and another configuration: {said}"):
        load(saved)
    with pytest.raises(ContractError, match="another configuration"):
        load(saved, base=load(tiny_folder))
    file.write_text(json.dumps(json.loads(before) | {"transformers_version": "9.9", "use_cache": False, "new": 1}))
    assert load(saved)


def test_what_was_saved_before_configurations_were_kept_is_loaded(saved: Path, tiny_folder: Path) -> None:
    body = json.loads((saved / FILE).read_text())
    del body["seal"], body["architecture"]
    (saved / FILE).write_text(json.dumps({"seal": _seal(body), **body}))
    assert load(saved)


def test_a_base_of_other_shapes(saved: Path, tiny_model: TinyModel) -> None:
    with pytest.raises(ConditionError):
        load(saved, base=tiny_model(hidden_size=128))


def test_a_base_that_moved(saved: Path, tiny_folder: Path, tmp_path: Path) -> None:
    before = load(saved).score(["x"], [["blue"]])
    tiny_folder.rename(tmp_path / "moved")
    with pytest.raises(
        ContractError, match=r"the base was at .*tiny-llama, which is gone: give its new place with load\(folder, base"
    ):
        load(saved)
    for base in (tmp_path / "moved", load(tmp_path / "moved")):
        assert load(saved, base=base).score(["x"], [["blue"]]) == before


@pytest.mark.parametrize("layer", ["mlp.up_proj", "self_attn.q_proj", "input_layernorm"])
def test_without_a_fingerprint_the_canary_hears_other_weights(saved: Path, tiny_folder: Path, layer: str) -> None:
    body = json.loads((saved / FILE).read_text())
    rewritten(saved, base={**body["base"], "fingerprint": None})
    assert load(saved)
    file = tiny_folder / "model.safetensors"
    tensors = load_file(file)
    tensors[f"model.layers.1.{layer}.weight"] *= 3
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ContractError, match=rf"the canary does not reproduce.*model\.layers\.1\.{layer}"):
        load(saved)


def test_a_base_from_memory(tiny_model: TinyModel, tmp_path: Path) -> None:
    fit(tiny_model(), max_steps=2).save_pretrained(tmp_path / "saved")
    with pytest.raises(ContractError, match="made in memory and has no file: give it with load"):
        load(tmp_path / "saved")
    assert load(tmp_path / "saved", base=tiny_model())
    other = tiny_model(initializer_range=0.5)
    with pytest.raises(ContractError, match="holds other weights"):
        load(tmp_path / "saved", base=other)


def test_a_contract_is_what_was_written(saved: Path) -> None:
    contract = read_contract(saved)
    assert Contract.model_validate_json(contract.model_dump_json()) == contract
    assert contract.canary is not None
    assert contract.base.kind == "folder"
    assert contract.versions.keys() == {"torch", "transformers", "peft", "bitsandbytes", "condition"}
    assert contract.files.keys() == {p.name for p in saved.iterdir()} - {FILE, "README.md"}  # a card may be edited


def test_the_tokenizers_print_is_of_what_it_is(tiny_model: TinyModel) -> None:
    one, two = tiny_model().tokenizer, tiny_model().tokenizer
    two("some words", padding="max_length", max_length=30, truncation=True)  # changes the state, not the tokenizer
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(two)
    two.eos_token = "<pad>"
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(two)
    three = tiny_model().tokenizer
    three.add_tokens(["<new>"])
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(three)


def test_weights_prints(tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_fingerprint([]) is None
    file = tmp_path / "a.safetensors"
    file.write_bytes(bytes(5_000_000))
    prints = {weights_fingerprint([file])}
    for place in (0, 4_999_999, 2_000_000):
        content = bytearray(5_000_000)
        content[place] = 1
        file.write_bytes(content)
        prints.add(weights_fingerprint([file]))
    assert len(prints) == 4
    file.write_bytes(bytes(5_000_001))
    assert weights_fingerprint([file]) not in prints
    monkeypatch.setattr(contract_module, "WHOLE_BYTES", 1_000_000)  # larger files: ends and samples
    monkeypatch.setattr(contract_module, "SAMPLE_BYTES", 1_000)
    sampled = weights_fingerprint([file])
    between = range(1 << 20, 5_000_001, 5_000_001 // 64)  # where samples begin
    for place in (0, 5_000_000, between[0], between[7] + 999, between[-1]):
        content = bytearray(5_000_001)
        content[place] = 1
        file.write_bytes(content)
        assert weights_fingerprint([file]) != sampled
    one, two = tiny_model().network, tiny_model().network
    assert memory_fingerprint(one) == memory_fingerprint(two)
    two.get_submodule("model.norm").weight.data[0] += 1
    assert memory_fingerprint(one) != memory_fingerprint(two)


def test_kinds_of_sources() -> None:
    with pytest.raises(ValueError, match="kind"):
        Source(kind="nowhere", name="x")


def test_the_name_tells_of_the_adapter(saved: Path, tiny_folder: Path) -> None:
    model = load(saved)
    assert model.name == f"{tiny_folder} + lora"
    assert repr(model) == f"LocalModel('{tiny_folder} + lora')"
    assert isinstance(model, LocalModel)
