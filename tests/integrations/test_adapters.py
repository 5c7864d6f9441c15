"""Adapters by request: on one base in memory, checked, and each request's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from condition.errors import ContractError, ModelError, SettingsError
from condition.integrations.adapters import Adapters, fingerprint
from condition.integrations.langchain import ChatCondition
from condition.integrations.llm import ConditionLLM
from condition.models.contract import FILE
from condition.models.load import load
from condition.models.local import LocalModel
from tests.integrations.test_waiting import calls as calls
from tests.training.test_sft import fit


def by(adapter: str | None) -> Any:
    return {"configurable": {"adapter": adapter}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> dict[str, Path]:
    """A base and two adapters on it that say other things."""
    place = tmp_path_factory.mktemp("adapters")
    made = tiny_model()
    made.network.save_pretrained(place / "base")
    made.tokenizer.save_pretrained(place / "base")
    base = load(place / "base")
    for name, answer in (("yes", "yes yes yes"), ("no", "no no no")):
        rows = [{"q": f"What is {i}?", "target": answer} for i in range(4)]
        fit(base, rows, epochs=8).save_pretrained(place / name)
    return {name: place / name for name in ("base", "yes", "no")}


@pytest.fixture
def base(folders: dict[str, Path]) -> LocalModel:
    return load(folders["base"])


@pytest.fixture
def adapters(folders: dict[str, Path]) -> dict[str, Path]:
    return {name: folders[name] for name in ("yes", "no")}


def test_each_request_has_its_own(base: LocalModel, adapters: dict[str, Path]) -> None:
    llm = ChatCondition(base, adapters=adapters, max_tokens=4)
    wanted = {
        name: ChatCondition(folder, max_tokens=4).invoke("What is 1?").content for name, folder in adapters.items()
    }
    wanted["base"] = ChatCondition(base, max_tokens=4).invoke("What is 1?").content
    assert len(set(wanted.values())) == 3
    for name, text in wanted.items():
        assert llm.invoke("What is 1?", by(name)).content == text
        assert asyncio.run(llm.ainvoke("What is 1?", by(name))).content == text
        assert "".join(str(chunk.content) for chunk in llm.stream("What is 1?", by(name))) == text
        assert llm.bind(adapter=name).invoke("What is 1?").content == text
        assert ChatCondition(base, adapters=adapters, adapter=name, max_tokens=4).invoke("What is 1?").content == text
        chain: Any = RunnableLambda(lambda question: question) | llm | StrOutputParser()
        assert chain.invoke("What is 1?", by(name)) == text
    assert llm.invoke("What is 1?", by(None)).content == wanted["base"]
    assert llm.invoke("What is 1?", by(str(adapters["yes"]))).content == wanted["yes"]  # a folder


def test_weights_of_the_base_are_in_memory_once(base: LocalModel, adapters: dict[str, Path]) -> None:
    known = Adapters(adapters)
    own = {tensor.data_ptr() for tensor in base.network.state_dict().values()}
    for name in adapters:
        model = known.on(base, name)
        assert known.on(base, name) is model  # loaded once
        tensors = model.network.state_dict()
        assert own <= {tensor.data_ptr() for tensor in tensors.values()}
        more = sum(t.numel() for t in tensors.values() if t.data_ptr() not in own)
        assert more < sum(p.numel() for p in base.network.parameters()) / 4


def test_a_mixed_batch_is_one_call_for_each(base: LocalModel, adapters: dict[str, Path], calls: list[int]) -> None:
    llm = ChatCondition(base, adapters=adapters, max_tokens=4)
    names = ["yes", "no", "base", "yes", "no", "yes"]
    alone = [llm.invoke(f"What is {i}?", by(name)).content for i, name in enumerate(names)]
    inputs: list[Any] = [f"What is {i}?" for i in range(6)]
    configs = [by(name) for name in names]
    calls.clear()
    assert [a.content for a in llm.batch(inputs, configs)] == alone
    assert sorted(calls) == [1, 2, 3]

    async def together() -> list[Any]:
        return await asyncio.gather(*(llm.ainvoke(one, config) for one, config in zip(inputs, configs, strict=True)))

    calls.clear()
    assert [a.content for a in asyncio.run(together())] == alone
    assert sorted(calls) == [1, 2, 3]


def test_the_text_model_has_them_too(base: LocalModel, adapters: dict[str, Path]) -> None:
    llm = ConditionLLM(base, adapters=adapters, max_tokens=4, cache=InMemoryCache())
    said = {name: llm.invoke("What is 1?", by(name)) for name in ("base", "yes", "no")}
    assert len(set(said.values())) == 3
    assert llm.batch(["What is 1?"] * 3, [by(name) for name in said]) == list(said.values())
    assert asyncio.run(llm.ainvoke("What is 1?", by("yes"))) == said["yes"]


def test_a_cache_tells_them_apart(base: LocalModel, adapters: dict[str, Path], calls: list[int]) -> None:
    llm = ChatCondition(base, adapters=adapters, max_tokens=4, cache=InMemoryCache())
    first = [llm.invoke("What is 1?", by(name)).content for name in ("yes", "no")]
    assert [llm.invoke("What is 1?", by(name)).content for name in ("yes", "no")] == first
    assert calls == [1, 1]
    assert len({fingerprint(llm.adapters.on(base, name)) for name in ("yes", "no", "base")}) == 3


def test_an_unknown_one_is_an_error_that_names_the_known(base: LocalModel, adapters: dict[str, Path]) -> None:
    llm = ChatCondition(base, adapters=adapters, max_tokens=4)
    message = r"no adapter 'maybe': known are 'yes', 'no', 'base', and folders of saved adapters"
    for ask in (llm.invoke, lambda *args: asyncio.run(llm.ainvoke(*args)), lambda *args: list(llm.stream(*args))):
        with pytest.raises(SettingsError, match=message):
            ask("What is 1?", by("maybe"))
    good, bad = llm.batch(["What is 1?"] * 2, [by("yes"), by("maybe")], return_exceptions=True)
    assert isinstance(bad, SettingsError)
    assert good.content == llm.invoke("What is 1?", by("yes")).content
    with pytest.raises(SettingsError, match="known are 'base', and folders"):
        ChatCondition(base).invoke("x", by("maybe"))
    for nameless in (5, "", " "):
        with pytest.raises(SettingsError, match=f"adapter={nameless!r} is neither the name of an adapter nor a folder"):
            ChatCondition(base, adapters=adapters, adapter="yes").invoke("x", by(nameless))  # type: ignore[arg-type]


def test_one_that_is_not_where_it_is_said_to_be_is_named(base: LocalModel, tmp_path: Path) -> None:
    llm = ChatCondition(base, adapters={"mine": tmp_path, "gone": tmp_path / "gone"})
    with pytest.raises(SettingsError, match=rf"the adapter 'mine' is said to be in {tmp_path}, which holds no saved"):
        llm.invoke("x", by("mine"))
    with pytest.raises(ModelError, match=rf"the adapter 'gone': '{tmp_path}/gone' is no folder here"):
        llm.invoke("x", by("gone"))


@pytest.mark.parametrize("given", ["qa-lora", {"qa": 3}, {"base": "qa-lora"}])
def test_what_are_no_adapters_is_an_error(base: LocalModel, given: Any) -> None:
    with pytest.raises(SettingsError, match="adapter"):
        ChatCondition(base, adapters=given)


def test_one_of_another_base_is_refused(tiny_model: Any, adapters: dict[str, Path], tmp_path: Path) -> None:
    made = tiny_model(tie_word_embeddings=True)
    made.network.save_pretrained(tmp_path / "other")
    made.tokenizer.save_pretrained(tmp_path / "other")
    other = load(tmp_path / "other")
    with pytest.raises(ContractError, match="was trained on"):
        ChatCondition(other, adapters=adapters).invoke("x", by("yes"))
    with pytest.raises(SettingsError, match="the adapter 'yes' is on"):
        ChatCondition(other, adapters={"yes": load(adapters["yes"])}).invoke("x", by("yes"))


def test_an_edited_one_is_refused(base: LocalModel, adapters: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "edited"
    copy.mkdir()
    for file in adapters["yes"].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    contract = json.loads((copy / FILE).read_text())
    (copy / FILE).write_text(json.dumps({**contract, "rows": 1_000_000}))
    with pytest.raises(ContractError, match="edited after it was saved"):
        ChatCondition(base, adapters={"edited": copy}).invoke("x", by("edited"))


def test_a_loaded_model_may_be_one(base: LocalModel, adapters: dict[str, Path]) -> None:
    tuned = load(adapters["yes"], base=base)
    llm = ChatCondition(base, adapters={"mine": tuned}, max_tokens=4)
    assert (
        llm.bind(adapter="mine").invoke("What is 1?").content
        == ChatCondition(tuned, max_tokens=4).invoke("What is 1?").content
    )
    assert ChatCondition(base, adapters={"mine": tuned}, adapter="mine").prompt.input_variables == ["q"]


def test_traces_name_the_adapted_model(base: LocalModel, adapters: dict[str, Path]) -> None:
    llm = ChatCondition(base, adapters=adapters)
    assert llm._get_ls_params(adapter="yes")["ls_model_name"] == f"{base.name} + lora"
    assert llm._get_ls_params()["ls_model_name"] == base.name


def test_the_base_stays_a_base(base: LocalModel, adapters: dict[str, Path]) -> None:
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    Adapters(adapters).on(base, "yes").generate("What is 1?")
    assert all(torch.equal(before[name], tensor) for name, tensor in base.network.state_dict().items())
