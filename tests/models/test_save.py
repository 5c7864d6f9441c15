"""Saving: all or nothing, JSON and safetensors only, and a plain PEFT folder."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import hf_raise_for_status
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from condition.adapters.attach import trainable
from condition.errors import ContractError, ModelError
from condition.models import hub
from condition.models import save as module
from condition.models.hub import uploading
from condition.models.load import load
from condition.models.local import LocalModel
from condition.prompts.parse import letter
from condition.prompts.template import ChatPrompt
from condition.types import Sampling
from tests.training.test_sft import fit

IDS = torch.arange(3, 40)[None]


@pytest.fixture
def base(tiny_folder: Path) -> LocalModel:
    return load(tiny_folder)


@pytest.fixture
def tuned(base: LocalModel) -> LocalModel:
    return fit(base, max_steps=3)


def test_there_and_back(tuned: LocalModel, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    mine, other = trainable(tuned.network), trainable(again.network)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    prompts, choices = ["What is 1?", "What is 2?"], [["It is 1", "x"], ["It is 2"]]
    for row, same in zip(tuned.score(prompts, choices), again.score(prompts, choices), strict=True):
        assert row == same
    assert again.invoke("x", Sampling(max_tokens=6)).text == tuned.invoke("x", Sampling(max_tokens=6)).text
    assert list(again.history) == list(tuned.history)
    assert again.prompt.format(q="a") == tuned.prompt.format(q="a")  # type: ignore[union-attr]  # both have one
    assert again.name == tuned.name
    assert again.contract is not None
    assert tuned.contract is not None
    assert again.contract.settings == json.loads(tuned.contract.model_dump_json())["settings"]


def shout(text: str) -> str:
    return text.upper()


def test_a_parser_is_kept_by_name_or_missed_aloud(base: LocalModel, tmp_path: Path) -> None:
    base.with_prompt(ChatPrompt([("user", "{q}")], parse=letter("AB"))).save_pretrained(tmp_path / "kept")
    prompt: Any = load(tmp_path / "kept").prompt
    assert prompt.parse("The answer is B.") == "B"
    own = base.with_prompt(ChatPrompt([("user", "{q}")], parse=shout))
    with pytest.warns(UserWarning, match="the parser shout is code and not saved"):
        own.save_pretrained(tmp_path / "lost")
    with pytest.warns(UserWarning, match="was tuned with the parser shout"):
        again: Any = load(tmp_path / "lost")
    assert again.prompt.parse is None
    assert again.prompt.format(q="a") == prompt.format(q="a")


def test_saved_again_it_is_the_same(tuned: LocalModel, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "one")
    load(tmp_path / "one").save_pretrained(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        if path.name not in ("condition.json", "README.md"):  # the card names its folder
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    one, two = (json.loads((tmp_path / n / "condition.json").read_text()) for n in ("one", "two"))
    assert one["canary"]["ids"] == two["canary"]["ids"]
    assert one["canary"]["logprobs"] == pytest.approx(two["canary"]["logprobs"], abs=1e-5)


def test_tuned_on_after_loading(tuned: LocalModel, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    fit(again, max_steps=2).save_pretrained(tmp_path / "second")
    assert load(tmp_path / "second").contract is not None
    assert all(torch.equal(p, trainable(tuned.network)[n]) for n, p in trainable(again.network).items())


def test_pefts_own_way_gives_the_same_numbers(tuned: LocalModel, tiny_folder: Path, tmp_path: Path) -> None:
    tuned.save_pretrained(tmp_path / "saved")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "saved")).eval()
    torch.testing.assert_close(theirs(input_ids=IDS).logits, tuned.network(input_ids=IDS).logits, atol=1e-6, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.chat_template == tuned.tokenizer.chat_template


def test_what_a_server_needs_to_know(tuned: LocalModel, tiny_folder: Path, tmp_path: Path) -> None:
    """vLLM reads these names of adapter_config.json."""
    tuned.save_pretrained(tmp_path / "saved")
    told = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(tiny_folder)
    assert (told["r"], told["lora_alpha"], told["peft_type"]) == (4, 32, "LORA")
    assert told["bias"] == "none"
    assert not told["use_dora"]
    assert told["modules_to_save"] is None
    assert {name.rpartition(".")[2] for name in told["target_modules"]} == {
        f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")
    }


def test_only_json_and_safetensors(tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsVerySecret")
    tuned.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        content = path.read_bytes()
        assert path.suffix in (".json", ".safetensors", ".jinja", ".md"), path.name
        assert b"thisIsVerySecret" not in content
        assert path.stat().st_mode & 0o044 == 0o044, f"{path.name} can't be read by others"
        if path.suffix == ".json":
            json.loads(content)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_whole_model(base: LocalModel, tmp_path: Path) -> None:
    base.score(["x"], [["y"]])  # sharing changes how the network attends, not what is saved of it
    base.save_pretrained(tmp_path / "whole")
    again = load(tmp_path / "whole")
    assert torch.equal(again.network(input_ids=IDS).logits, base.network(input_ids=IDS).logits)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32).eval()
    torch.testing.assert_close(plain(input_ids=IDS).logits, base.network(input_ids=IDS).logits)
    tuned = fit(again, max_steps=1)
    tuned.save_pretrained(tmp_path / "tuned")
    assert load(tmp_path / "tuned").source.name == str(tmp_path / "whole")


def test_a_saved_model_may_be_replaced_and_nothing_else(tuned: LocalModel, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    tuned.save_pretrained(target)
    tuned.with_prompt("Other: {q}").save_pretrained(target)
    assert load(target).prompt.format(q="x")[0].content == "Other: x"  # type: ignore[union-attr]  # it has one
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for place in ("mine", "file"):
        with pytest.raises(ModelError, match="holds something that is not a saved model"):
            tuned.save_pretrained(tmp_path / place)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    (tmp_path / "empty").mkdir()
    tuned.save_pretrained(tmp_path / "empty")
    assert load(tmp_path / "empty")


@pytest.mark.parametrize("step", ["save_adapter", "contract_of", "write_contract"])
def test_a_save_that_fails_leaves_what_was_there(
    tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tuned.save_pretrained(tmp_path / "saved")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    for place in ("saved", "new"):
        with pytest.raises(ModelError, match=f"can't write .*{place}: .*No space left on device"):
            tuned.save_pretrained(tmp_path / place)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert load(tmp_path / "saved")


@pytest.mark.parametrize("place", ["file/saved", "/proc/condition-saved", "locked/saved"])
def test_a_folder_that_cannot_be_written(tuned: LocalModel, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o555)
    if place.startswith("locked") and os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=r"can't write to .*saved.*Choose another folder"):
        tuned.save_pretrained(tmp_path / place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_pushing_without_a_network_says_what_to_do(tuned: LocalModel) -> None:
    with pytest.raises(ModelError, match=r"can't push to 'me/it': .*[^.]\. The hub can't be reached .*save_pretrained"):
        tuned.push_to_hub("me/it")


def test_pushing_to_a_hub_that_does_not_answer_says_so_too(tuned: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    with pytest.raises(ModelError, match=r"can't push to 'me/it': .*[^.]\. The hub can't be reached .*save_pretrained"):
        tuned.push_to_hub("me/it")


@pytest.mark.parametrize("repo", ["not a repo name", "a/b/c", "me/a--b", "me/x.git"])
def test_pushing_to_a_name_that_is_none_saves_nothing(
    tuned: LocalModel, monkeypatch: pytest.MonkeyPatch, repo: str
) -> None:
    monkeypatch.setattr(module, "save", lambda *_: pytest.fail("it was saved first"))
    with pytest.raises(
        ModelError, match=rf"'{repo}' is no name of a repository: .*[^.]\. Give one such as 'me/qa-lora'$"
    ):
        tuned.push_to_hub(repo)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "hf auth login.*right to write"), (500, "save_pretrained, and push again later")]
)
def test_pushing_where_the_hub_refuses(tuned: LocalModel, status: int, said: str) -> None:
    request = httpx2.Request("POST", "https://hub/api/repos/create")
    with pytest.raises(ModelError, match=said), uploading("me/it"):
        hf_raise_for_status(httpx2.Response(status, request=request))


def test_what_can_be_known_of_a_push_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ModelError, match="is no name of a repository"):
        hub.check_repo("not a repo name")
    with pytest.raises(
        ModelError, match=r"can't push to 'me/it': there is no token here\. Log in with `hf auth login`"
    ):
        hub.check_repo("me/it")
    monkeypatch.setattr(hub, "get_token", lambda: "a token")
    hub.check_repo("me/it")


def test_mistakes_of_our_own_are_not_laid_on_the_hub(tuned: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise AttributeError("ours")

    monkeypatch.setattr(HfApi, "create_repo", broken)
    with pytest.raises(AttributeError, match="ours"):
        tuned.push_to_hub("me/it")


def test_a_nested_folder_is_made(tuned: LocalModel, tmp_path: Path) -> None:
    tuned.save_pretrained(str(tmp_path / "a" / "b" / "saved"))
    assert load(tmp_path / "a" / "b" / "saved")


def test_saved_over_itself_by_another_name(tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "saved"
    tuned.save_pretrained(folder)
    tuned.save_pretrained(folder / ".." / "saved")
    monkeypatch.chdir(folder)
    tuned.save_pretrained(".")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert load(folder).name == tuned.name


def test_what_others_put_beside_a_saved_model_stays(tuned: LocalModel, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    tuned.save_pretrained(folder)
    (folder / "notes.md").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "data.bin").write_bytes(b"mine too")
    tuned.save_pretrained(folder)
    assert (folder / "notes.md").read_text() == "mine"
    assert (folder / "more" / "data.bin").read_bytes() == b"mine too"


def test_a_full_disk_in_another_library(tuned: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(type(tuned.tokenizer), "save_pretrained", fail)
    with pytest.raises(ModelError, match="No space left on device"):
        tuned.save_pretrained(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-llama"]


def test_several_chat_templates_are_all_hashed_and_readable(tuned: LocalModel, tmp_path: Path) -> None:
    model = LocalModel(tuned.network, copy.deepcopy(tuned.tokenizer), source=tuned.source, contract=tuned.contract)
    model.tokenizer.chat_template = {"default": tuned.tokenizer.chat_template, "tools": "{{ messages }}"}
    model.save_pretrained(tmp_path / "saved")
    below = tmp_path / "saved" / "additional_chat_templates"
    assert below.stat().st_mode & 0o777 == 0o755
    assert load(tmp_path / "saved")
    (below / "tools.jinja").write_text("{{ messages }} ")
    with pytest.raises(ContractError, match=r"tools\.jinja changed"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("way", ["itself", "a link"])
def test_an_adapter_does_not_take_the_place_of_its_base(tuned: LocalModel, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "base"
    tuned.merge().save_pretrained(folder)
    (tmp_path / "link").symlink_to(folder)
    adapter = fit(load(folder), max_steps=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ModelError, match=r"holds the base that this adapter needs.*: choose another folder, or save"):
        adapter.save_pretrained(folder if way == "itself" else tmp_path / "link")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    adapter.save_pretrained(tmp_path / "adapter")
    assert load(tmp_path / "adapter").name == adapter.name
    adapter.merge().save_pretrained(folder)  # needs nothing of what was there
    assert load(folder).contract is not None


def test_an_adapter_that_names_its_own_folder_as_its_base(tuned: LocalModel, base: LocalModel, tmp_path: Path) -> None:
    tuned.merge().save_pretrained(tmp_path / "base")
    fit(load(tmp_path / "base"), max_steps=1).save_pretrained(tmp_path / "adapter")
    (tmp_path / "base").rename(tmp_path / "moved")
    (tmp_path / "adapter").rename(tmp_path / "base")
    said = r"names itself as its base.*Give its place with load\(folder, base=\.\.\.\)"
    with pytest.raises(ContractError, match=said):
        load(tmp_path / "base")
    assert load(tmp_path / "base", base=tmp_path / "moved").contract is not None
    (tmp_path / "base" / "condition.json").unlink()
    with pytest.raises(ContractError, match=said):
        load(tmp_path / "base")
