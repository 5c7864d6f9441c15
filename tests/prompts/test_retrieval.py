"""Passages in prompts: what is looked for, how it is numbered, and that it is never taken from the row."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from condition.errors import PromptError
from condition.prompts.bm25 import BM25Selector
from condition.prompts.few_shot import RECALLED, FewShotPrompt
from condition.prompts.fill import fill
from condition.prompts.retrieval import RetrievalPrompt
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.types import Example

QA = ChatPrompt([("system", "Answer from the sources."), ("user", "{passages}\n\n{question}")])
EVIDENCE = TextPrompt("Evidence: {passages}\nQuestion: {question}\nAnswer:")
BOOK = {
    "bridge": [Document("Built of {oak}.", metadata={"source": "orla.txt"}), Document("Rebuilt in 1784.")],
    "letter": [Document("{{ a letter }}")],
}
asked: list[str] = []


def find(query: str) -> list[Document]:
    asked.append(query)
    return next((found for word, found in BOOK.items() if word in query), [])


retriever = RunnableLambda(find)


def test_passages_are_numbered_with_their_sources() -> None:
    prompt = RetrievalPrompt(QA, retriever)
    assert prompt.variables == {"question"}
    messages = prompt.format(question="Who built the bridge?")
    assert messages[1].content == "[1] Built of {oak}. (orla.txt)\n\n[2] Rebuilt in 1784.\n\nWho built the bridge?"
    assert prompt.sources(question="Who built the bridge?") == BOOK["bridge"]
    assert RetrievalPrompt(QA, retriever, k=1).format(question="bridge")[1].content.count("[") == 1


def test_a_real_retriever_of_a_vector_store() -> None:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_texts(["one", "two", "three"])
    prompt = RetrievalPrompt(QA, store.as_retriever(search_kwargs={"k": 1}))
    assert prompt.format(question="two")[1].content == "[1] two\n\ntwo"


def test_the_query_is_a_template() -> None:
    qa = ChatPrompt([("user", "{passages} {question} {tone}")])
    with pytest.raises(PromptError, match=r"Give query=, a template of \['question', 'tone'\]"):
        RetrievalPrompt(qa, retriever)
    prompt = RetrievalPrompt(qa, retriever, query="{topic}: {question}")
    assert prompt.variables == {"question", "tone", "topic"}
    asked.clear()
    prompt.format(question="{oak}?", tone="x", topic="bridge")
    assert asked == ["bridge: {oak}?"]


def test_passages_of_the_row_are_not_used_for_the_item() -> None:
    row = {"question": "a letter", "passages": "the answer, from the row"}
    assert "[1] {{ a letter }}" in fill(RetrievalPrompt(QA, retriever), row)[1].content
    assert "from the row" not in fill(RetrievalPrompt(QA, retriever), row)[1].content


def test_open_book_examples_carry_their_own_evidence() -> None:
    shots = [Example({"question": "Old?", "passages": "[1] Yes."}, "yes")]
    (message,) = RetrievalPrompt(FewShotPrompt(EVIDENCE, shots), retriever).format(question="a letter")
    assert message.content == (
        "Evidence: [1] Yes.\nQuestion: Old?\nAnswer: yes\n\nEvidence: [1] {{ a letter }}\nQuestion: a letter\nAnswer:"
    )


def test_or_evidence_is_found_for_them_too() -> None:
    shots = [Example({"question": "bridge?"}, "oak")]
    messages = FewShotPrompt(RetrievalPrompt(QA, retriever), shots).format(question="a letter")
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1].content.startswith("[1] Built of {oak}.")


def test_closed_book_examples_recall_their_evidence() -> None:
    shots = [Example({"question": "Old?"}, "yes", "It is from 1784.")]
    messages = FewShotPrompt([("user", "{question}")], shots, rationale=RECALLED).format(question="New?")
    assert messages[1].content == "Evidence: It is from 1784.\nAnswer: yes"


def test_nothing_found_is_an_error_unless_it_may_be() -> None:
    with pytest.raises(PromptError, match=r"nothing was found for 'unknown'.*allow_none=True"):
        RetrievalPrompt(QA, retriever).format(question="unknown")
    assert RetrievalPrompt(QA, retriever, allow_none=True).format(question="unknown")[1].content == "\n\nunknown"


def test_a_retriever_that_fails_is_named() -> None:
    def broken(query: str) -> list[Document]:
        raise ConnectionError("no route")

    with pytest.raises(PromptError, match="the retriever RunnableLambda failed for 'x': no route"):
        RetrievalPrompt(QA, RunnableLambda(broken)).format(question="x")


def test_a_preview_looks_for_nothing() -> None:
    asked.clear()
    assert [m.content for m in RetrievalPrompt(QA, retriever).preview()] == [
        "Answer from the sources.",
        "{passages}\n\n{question}",
    ]
    assert asked == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetrievalPrompt(QA, 5), "int is no retriever"),  # type: ignore[arg-type]
        (lambda: RetrievalPrompt("{question}", retriever), r"no place for the passages: write \{passages\}"),
        (lambda: RetrievalPrompt(QA, retriever, k=0), "k=0"),
        (
            lambda: RetrievalPrompt(QA, RunnableLambda(lambda q: [q])).format(question="x"),  # type: ignore[arg-type,misc]
            "gave str, not LangChain Documents",
        ),
    ],
)
def test_what_can_not_be_used_is_refused(make: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()


@pytest.mark.parametrize("shown", ["all", "chosen"])
def test_an_item_is_not_among_its_own_examples_whatever_was_found_for_it(shown: str) -> None:
    """The passages that are found differ from those of the example, and so do not tell whether it is the item."""
    rows = [
        Example({"passages": f"own {thing}", "question": f"Who built the {thing}?"}, thing)
        for thing in ("bridge", "letter", "mill")
    ]
    few = FewShotPrompt(QA, rows, selector=BM25Selector(rows) if shown == "chosen" else None, k=2)
    messages = fill(RetrievalPrompt(few, retriever), rows[0].inputs)
    assert {m.content for m in messages if m.role == "assistant"} == {"letter", "mill"}
    assert messages[-1].content.startswith("[1] Built of {oak}. (orla.txt)")
    fixed = RetrievalPrompt(few, retriever).fixed(rows[0].inputs)
    assert {m.content for m in fixed.format(question="the letter") if m.role == "assistant"} <= {"letter", "mill"}
