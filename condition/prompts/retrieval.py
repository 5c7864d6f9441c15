"""Passages in a prompt, found for each item by a LangChain retriever.

    qa = ChatPrompt([("system", "Answer from the sources."), ("user", "{passages}\\n\\n{question}")])
    open_book = RetrievalPrompt(qa, store.as_retriever())
    open_book.format(question="Who built the bridge?")      # "[1] The bridge … (orla.txt)\\n\\n[2] …"
    open_book.sources(question="Who built the bridge?")              # the documents, in the same order

Open-book, with examples: `RetrievalPrompt(FewShotPrompt(qa, examples), retriever)` takes each example's passages from
its own inputs, `FewShotPrompt(RetrievalPrompt(qa, retriever), examples)` finds passages for the examples too. In text,
`TextPrompt("Evidence: {passages}\\nQuestion: {question}\\nAnswer:")` is the evidence-question-answer form of Lazaridou
et al. 2022, arXiv 2203.05115. Closed-book, where the model recalls the evidence itself, is
`FewShotPrompt(…, rationale=RECALLED)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from condition.errors import ConditionError, PromptError
from condition.prompts.compose import Composable, chooses, filled, fixed, previewed
from condition.prompts.examples import Found
from condition.prompts.template import TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Messages


def numbered(documents: Sequence[Document]) -> str:
    """Passages with numbers, and their source where metadata names one."""
    return "\n\n".join(
        f"[{i}] {d.page_content}" + (f" ({d.metadata['source']})" if d.metadata.get("source") else "")
        for i, d in enumerate(documents, 1)
    )


@final
class RetrievalPrompt(Composable):
    """A prompt one of whose variables, `name`, is what a retriever finds for each item.

    `query` says what to look for: a template of the prompt's variables; by default the only other variable. `k` keeps
    the first passages. `write` makes them text. The passages are always looked for: a value given for `name` is not
    used. Raises PromptError for a prompt without `name` and, in `format`, where nothing is found and `allow_none` is
    not set, or where the retriever fails.
    """

    def __init__(
        self,
        prompt: Any,
        retriever: Runnable[str, Sequence[Document]],
        *,
        name: str = "passages",
        query: str | None = None,
        k: int | None = None,
        write: Callable[[Sequence[Document]], str] = numbered,
        allow_none: bool = False,
    ) -> None:
        self.prompt: Prompt = as_prompt(prompt)
        if not callable(getattr(retriever, "invoke", None)):
            raise PromptError(
                f"{type(retriever).__name__} is no retriever: give one of LangChain's, such as store.as_retriever()"
            )
        if name not in self.prompt.variables:
            raise PromptError(
                f"the prompt has no place for the passages: write {{{name}}} in it, or say name=…; "
                f"it has {', '.join(map(repr, sorted(self.prompt.variables))) or 'no variables'}"
            )
        if k is not None and k < 1:
            raise PromptError(f"k={k}: give 1 or more passages, or None for all that the retriever finds")
        others = sorted(self.prompt.variables - {name})
        if query is None and len(others) != 1:
            raise PromptError(f"what is to be looked for? Give query=, a template of {others}, such as '{{question}}'")
        self.retriever = retriever
        self.name = name
        self.query = TextPrompt(f"{{{others[0]}}}" if query is None else query)
        self.k = k
        self.write = write
        self.allow_none = allow_none
        self.parse = getattr(self.prompt, "parse", None)

    @property
    def variables(self) -> frozenset[str]:
        return (self.prompt.variables - {self.name}) | self.query.variables

    def sources(self, /, **inputs: object) -> list[Document]:
        """The documents for an item, as they are numbered in its prompt."""
        asked = self.query.format(**inputs)[0].content
        try:
            found = list(self.retriever.invoke(asked))
        except ConditionError:
            raise
        except Exception as error:  # a retriever is another's code, and may ask a server
            raise PromptError(
                f"the retriever {type(self.retriever).__name__} failed for {asked!r:.80}: {error}"
            ) from error
        if other := [d for d in found if not isinstance(d, Document)]:
            raise PromptError(f"the retriever gave {type(other[0]).__name__}, not LangChain Documents")
        if not found and not self.allow_none:
            raise PromptError(
                f"nothing was found for {asked!r:.80}: the model would answer from memory. "
                "Set allow_none=True if it may, or look at the retriever"
            )
        return found[: self.k]

    def format(self, /, **inputs: object) -> Messages:
        return filled(self.prompt, self._row(inputs))

    def preview(self, /, **inputs: object) -> Messages:
        if not self.variables - inputs.keys():
            return self.format(**inputs)
        return previewed(self.prompt, {n: v for n, v in inputs.items() if n != self.name})

    @property
    def chooses(self) -> bool:
        return chooses(self.prompt)

    def fixed(self, inputs: Mapping[str, object], /) -> RetrievalPrompt:
        shown = self._row(inputs) if self.chooses else inputs
        return RetrievalPrompt(
            fixed(self.prompt, shown),
            self.retriever,
            name=self.name,
            query=self.query.template,
            k=self.k,
            write=self.write,
            allow_none=self.allow_none,
        )

    def _row(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """The inputs and the passages; an item is among its own examples whatever was found for it."""
        return {**inputs, self.name: Found(self.write(self.sources(**inputs)))}

    def read(self, other: object, /) -> Prompt:
        return self.prompt.read(other) if isinstance(self.prompt, Composable) else as_prompt(other)

    def __repr__(self) -> str:
        return f"RetrievalPrompt({self.prompt!r}, {type(self.retriever).__name__})"
