"""The prompt that a model was tuned with, as a LangChain template."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import BasePromptTemplate

from condition.errors import PromptError
from condition.integrations.langchain import ChatCondition
from condition.models.local import LocalModel
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.types import Sampling


@pytest.fixture
def llm(embedded: LocalModel) -> ChatCondition:
    return ChatCondition(embedded, max_tokens=5)


@pytest.mark.real
class TestPrompt:
    PROMPT = ChatPrompt([("system", "Answer from the passage."), ("user", "{context}\n\n{question}")])
    INPUTS: ClassVar = {"context": "Ada {was} born in 1815.", "question": "When was Ada born?"}

    @pytest.mark.parametrize("prompt", [PROMPT, TextPrompt("{context}\nQ: {question}\nA:")], ids=["chat", "text"])
    def test_through_the_template_it_answers_as_the_tuned_model(self, embedded: LocalModel, prompt: Any) -> None:
        tuned = embedded.with_prompt(prompt)
        llm = ChatCondition(tuned, max_tokens=5)
        assert isinstance(llm.prompt, BasePromptTemplate)
        assert llm.prompt.input_variables == ["context", "question"]
        chain = llm.prompt | llm | StrOutputParser()
        assert chain.invoke(self.INPUTS) == tuned.invoke(self.INPUTS, Sampling(max_tokens=5)).text

    def test_it_is_a_template_as_others(self, embedded: LocalModel) -> None:
        prompt = ChatCondition(embedded.with_prompt(self.PROMPT)).prompt
        half = prompt.partial(context="C")
        assert half.input_variables == ["question"]
        assert half.invoke({"question": "Q"}).to_messages()[1].content == "C\n\nQ"
        assert "Answer from the passage." in prompt.pretty_repr()

    def test_a_missing_value_is_named_with_those_given(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded.with_prompt(self.PROMPT), max_tokens=1)
        for call in ((llm.prompt | llm).invoke, lambda given: asyncio.run(llm.prompt.ainvoke(given))):
            with pytest.raises(PromptError, match=r"^no value for 'context'; given: 'contxt', 'question'$"):
                call({"contxt": "C", "question": "Q"})
        with pytest.raises(PromptError, match="no value for 'question'; given: nothing"):
            llm.prompt.partial(context="C").invoke({})
        with pytest.raises(TypeError, match="Expected mapping type"):  # LangChain's own
            llm.prompt.invoke("C")  # type: ignore[arg-type]
        assert llm.prompt.partial(context="C").invoke("Q").to_messages()[1].content == "C\n\nQ"  # type: ignore[arg-type]

    def test_without_one_there_is_none(self, llm: ChatCondition) -> None:
        with pytest.raises(PromptError, match="no prompt of its own"):
            _ = llm.prompt
