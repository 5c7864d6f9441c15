"""Settings that both models share: named as in `Sampling`, checked before any work, told to traces and caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from condition.errors import ContractError, ModelError, PromptError, SettingsError
from condition.integrations.langchain import ChatCondition
from condition.models.contract import Contract
from condition.models.load import load
from condition.models.local import LocalModel
from condition.types import Sampling
from tests.training.test_sft import fit


@pytest.mark.real
class TestSettings:
    def test_defaults_are_those_of_sampling(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded)
        assert {name: getattr(llm, name) for name in Sampling.model_fields} == Sampling().model_dump()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"temprature": 0.7}, "did you mean 'temperature'"),
            ({"functions": []}, "no setting 'functions'"),
            ({"temperature": -1}, "temperature = -1"),
            ({"max_tokens": "many"}, "max_tokens = 'many'"),
            ({"stop": [""]}, "empty stop"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, embedded: LocalModel, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            ChatCondition(embedded, **settings)
        llm = ChatCondition(embedded, max_tokens=1)
        with pytest.raises(SettingsError, match=message):
            llm.invoke("Hello", **{k: v for k, v in settings.items() if k != "stop"}, stop=settings.get("stop"))
        (failed,) = llm.batch(["Hello"], return_exceptions=True, **settings)
        assert isinstance(failed, SettingsError)

    def test_none_means_the_default(self, embedded: LocalModel) -> None:
        assert ChatCondition(embedded, max_tokens=None, stop=None).max_tokens == Sampling().max_tokens

    def test_a_thing_that_is_no_model_is_an_error(self) -> None:
        with pytest.raises(SettingsError, match="not int"):
            ChatCondition(3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["model", "model_name"])
    def test_the_model_by_another_name(self, name: str) -> None:
        given: dict[str, Any] = {name: "qa-lora"}
        with pytest.raises(SettingsError, match=f"no setting '{name}'; did you mean 'model_or_folder'"):
            ChatCondition(**given)

    def test_a_base_that_has_moved(self, tiny_folder: Path, tmp_path: Path) -> None:
        fit(load(tiny_folder), max_steps=1).save_pretrained(tmp_path / "tuned")
        moved = tiny_folder.rename(tmp_path / "moved")
        with pytest.raises(ContractError, match="which is gone"):
            ChatCondition(tmp_path / "tuned")
        llm = ChatCondition(str(tmp_path / "tuned"), base=moved, max_tokens=2)
        assert llm.model.source.name == str(moved)
        assert llm.invoke("Hello").response_metadata["model_name"] == llm.model.name
        for given in (llm.model, None):
            with pytest.raises(SettingsError, match=r"ChatCondition\(folder, base=\.\.\.\)"):
                ChatCondition(given, base=moved)

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError):
            ChatCondition(tmp_path)

    def test_no_model_is_the_embedded_one(self, embedded: LocalModel) -> None:
        llm = ChatCondition(max_tokens=1)
        assert llm.model.name == embedded.name
        assert isinstance(llm.invoke("Hello"), AIMessage)

    def test_two_adapters_of_one_kind_differ_for_a_cache(self, embedded: LocalModel) -> None:
        def tuned(data: str) -> ChatCondition:
            promised = Contract(
                base=embedded.source,
                tokenizer="t",
                chat_template="c",
                stop_tokens=(2,),
                dtype="float32",
                adapter={"kind": "LoRA"},
                data=data,
            )
            return ChatCondition(
                LocalModel(embedded.network, embedded.tokenizer, source=embedded.source, contract=promised)
            )

        one, other = tuned("a")._identifying_params, tuned("b")._identifying_params
        assert one["model_name"] == other["model_name"]
        assert one != other
        assert one == tuned("a")._identifying_params

    def test_traces_name_model_and_settings(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded, max_tokens=9, temperature=0.5, stop=["A"])
        told = llm._get_ls_params(stop=["B"])
        assert told == {
            "ls_provider": "condition",
            "ls_model_name": embedded.name,
            "ls_model_type": "chat",
            "ls_temperature": 0.5,
            "ls_max_tokens": 9,
            "ls_stop": ["A", "B"],
        }
        assert llm._llm_type == "condition"
        assert llm._identifying_params["max_tokens"] == 9


def test_one_text_is_not_asked_letter_by_letter(tiny_model: Any) -> None:
    with pytest.raises(PromptError, match="batch takes a list of inputs"):
        ChatCondition(tiny_model(), max_tokens=2).batch("Hello")
