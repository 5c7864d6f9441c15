"""Every kind of adapter behind LangChain: the folder, the model in memory, and one of several on a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from condition.adapters.full import FullFineTuning
from condition.adapters.registry import KeptAdapter, attached
from condition.errors import SettingsError
from condition.integrations.langchain import ChatCondition
from condition.models.load import load
from condition.models.local import LocalModel
from condition.types import Sampling
from tests.adapters.test_every_adapter import ADAPTERS, filled

QUESTIONS = ["What is the sky?", "When was the bridge at Orla built, and of what?"]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_it_is_served_as_it_was_tuned(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    adapter: KeptAdapter = ADAPTERS[kind]
    base = load(tiny_folder)
    network = filled(attached(adapter, base.network, base.tokenizer))
    tuned = LocalModel(network, base.tokenizer, source=base.source, prompt=None)
    expected = [c.text for [c] in tuned.generate(QUESTIONS, Sampling(max_tokens=8))]
    plain = [c.text for [c] in base.generate(QUESTIONS, Sampling(max_tokens=8))]
    assert expected != plain
    tuned.save_pretrained(tmp_path / "saved")

    for served in (tuned, tmp_path / "saved"):
        llm = ChatCondition(served, max_tokens=8)
        assert [answer.text for answer in llm.batch(QUESTIONS)] == expected
        assert "".join(chunk.text for chunk in llm.stream(QUESTIONS[0])) == expected[0]

    llm = ChatCondition(base, max_tokens=8, adapters={"mine": tmp_path / "saved"})
    asked = {"configurable": {"adapter": "mine"}}
    if isinstance(adapter, FullFineTuning):
        with pytest.raises(SettingsError, match="holds all of its weights and goes on no base"):
            llm.invoke(QUESTIONS[0], asked)
        return
    assert [llm.invoke(question, asked).text for question in QUESTIONS] == expected
    assert [llm.invoke(question).text for question in QUESTIONS] == plain
