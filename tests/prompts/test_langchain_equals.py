"""Each example of LangChain's prompt documentation beside its equal here; docs/prompts.md has the list.

The classes follow its pages: the concept page (templates and placeholders), and the how-to guides on partials,
composition, few-shot examples (text and chat), example selectors, multimodal prompts and saving. The words that come
out are compared with LangChain's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.example_selectors import (
    LengthBasedExampleSelector,
    MaxMarginalRelevanceExampleSelector,
    SemanticSimilarityExampleSelector,
)
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

import condition as cd
from condition.prompts.compose import PipelinePrompt
from condition.prompts.history import History
from condition.prompts.saved import load_prompt, save_prompt
from condition.types import Messages

ANTONYMS = [
    {"input": "happy", "output": "sad"},
    {"input": "tall", "output": "short"},
    {"input": "energetic", "output": "lethargic"},
    {"input": "sunny", "output": "gloomy"},
    {"input": "windy", "output": "calm"},
]
SHOTS = [cd.Example({"input": pair["input"]}, pair["output"]) for pair in ANTONYMS]
PAIR = PromptTemplate.from_template("Input: {input}\nOutput: {output}")
ASK = cd.TextPrompt("Input: {input}\nOutput:")
EMBEDDINGS = DeterministicFakeEmbedding(size=32)


def words(messages: Messages) -> str:
    return "".join(m.content for m in messages)


def turns(messages: Messages) -> list[tuple[str, str]]:
    names = {"user": "human", "assistant": "ai"}
    return [(names.get(m.role, m.role), m.content) for m in messages]


def theirs(template: Any, **values: object) -> list[tuple[str, Any]]:
    return [(m.type, m.content) for m in template.format_messages(**values)]


def few_shot_text(**options: Any) -> FewShotPromptTemplate:
    return FewShotPromptTemplate(
        example_prompt=PAIR,
        prefix="Give the antonym of every input",
        suffix="Input: {input}\nOutput:",
        input_variables=["input"],
        **options,
    )


def ours(**options: Any) -> cd.FewShotPrompt:
    return cd.FewShotPrompt(ASK, SHOTS, instruction="Give the antonym of every input", order="nearest-first", **options)


class TestTemplates:
    def test_a_string_template(self) -> None:
        template = PromptTemplate.from_template("Tell me a {adjective} joke about {content}.")
        prompt = cd.TextPrompt("Tell me a {adjective} joke about {content}.")
        values = {"adjective": "funny", "content": "chickens"}
        assert words(prompt.format(**values)) == template.format(**values)
        assert words(cd.as_prompt(template).format(**values)) == template.format(**values)

    def test_jinja2(self) -> None:
        jinja = "Tell me a {{ adjective }} joke about {{ content }}"
        template = PromptTemplate.from_template(jinja, template_format="jinja2")
        prompt = cd.TextPrompt(jinja, template_format="jinja2")
        assert words(prompt.format(adjective="funny", content="hens")) == template.format(
            adjective="funny", content="hens"
        )

    def test_chat_messages(self) -> None:
        pairs = [
            ("system", "You are a helpful AI bot. Your name is {name}."),
            ("human", "Hello, how are you doing?"),
            ("ai", "I'm doing well, thanks!"),
            ("human", "{user_input}"),
        ]
        values = {"name": "Bob", "user_input": "What is your name?"}
        assert turns(cd.ChatPrompt(pairs).format(**values)) == theirs(ChatPromptTemplate(pairs), **values)

    def test_a_placeholder_for_messages(self) -> None:
        template = ChatPromptTemplate([("system", "Be helpful"), MessagesPlaceholder("msgs"), ("human", "{q}")])
        prompt = cd.ChatPrompt([("system", "Be helpful")]) + History("msgs") + "{q}"
        said = [HumanMessage("What's 5 + 2"), AIMessage("5 + 2 is 7")]
        assert turns(prompt.format(msgs=said, q="times 4?")) == theirs(template, msgs=said, q="times 4?")

    def test_messages_of_their_classes(self) -> None:
        template = SystemMessage("You are a nice pirate") + HumanMessage("hi") + AIMessage("what?") + "{input}"
        prompt = cd.ChatPrompt([SystemMessage("You are a nice pirate")]) + HumanMessage("hi") + AIMessage("what?")
        assert turns((prompt + "{input}").format(input="ahoy {x}")) == theirs(template, input="ahoy {x}")
        assert turns((History("said") + HumanMessage("{x}")).format(said=[])) == [("human", "{x}")]

    def test_mustache_is_taken_as_it_is(self) -> None:
        text = PromptTemplate.from_template("Tell me about {{topic}}", template_format="mustache")
        chat = ChatPromptTemplate([("human", "Tell me about {{topic}}")], template_format="mustache")
        for template in (text, chat):
            assert turns(cd.as_prompt(template).format(topic="{{cats}}")) == [("human", "Tell me about {{cats}}")]

    def test_a_placeholder_written_as_a_pair_says_what_it_is_here(self) -> None:
        with pytest.raises(cd.PromptError, match=r"is a place for messages: write prompt \+ History"):
            cd.ChatPrompt([("placeholder", "{msgs}")])

    def test_the_last_messages_of_a_placeholder(self) -> None:
        template = ChatPromptTemplate([MessagesPlaceholder("history", n_messages=1)])
        said = [("system", "You are an AI assistant."), ("human", "Hello!")]
        assert turns(History(last=1).format(history=said)) == theirs(template, history=said)

    def test_invoked_in_a_pipe(self) -> None:
        prompt = cd.ChatPrompt([("user", "Tell me about {topic}")])
        echo: RunnableLambda[Any, str] = RunnableLambda(lambda value: str(value.to_string()))
        template = ChatPromptTemplate([("human", "Tell me about {topic}")])
        assert (prompt | echo).invoke({"topic": "cats"}) == (template | echo).invoke({"topic": "cats"})


class TestPartials:
    def test_with_strings(self) -> None:
        template = PromptTemplate.from_template("{foo}{bar}").partial(foo="foo")
        assert words(cd.TextPrompt("{foo}{bar}").partial(foo="foo").format(bar="baz")) == template.format(bar="baz")

    def test_with_functions(self) -> None:
        def today() -> str:
            return "2 March"

        template = PromptTemplate.from_template("Tell me a {adjective} joke about the day {date}").partial(date=today)
        prompt = cd.TextPrompt("Tell me a {adjective} joke about the day {date}").partial(date=today)
        assert words(prompt.format(adjective="funny")) == template.format(adjective="funny")

    def test_given_when_the_template_is_made(self) -> None:
        known: dict[str, Any] = {"foo": "foo", "day": lambda: "2 March"}
        template = PromptTemplate(template="{foo}{bar} {day}", input_variables=["bar"], partial_variables=known)
        prompt = cd.as_prompt(template)
        assert prompt.variables == {"bar"}
        assert words(prompt.format(bar="{baz}")) == template.format(bar="{baz}") == "foo{baz} 2 March"
        assert words(cd.TextPrompt("{foo}{bar} {day}").partial(**known).format(bar="{baz}")) == "foo{baz} 2 March"


class TestComposition:
    def test_string_prompts(self) -> None:
        template: Any = (
            PromptTemplate.from_template("Tell me a joke about {topic}") + ", make it funny" + "\n\nand in {language}"
        )
        prompt = cd.TextPrompt("Tell me a joke about {topic}") + ", make it funny" + "\n\nand in {language}"
        values = {"topic": "sports", "language": "spanish"}
        assert words(prompt.format(**values)) == template.format(**values)

    def test_chat_prompts(self) -> None:
        template = ChatPromptTemplate([SystemMessage("You are a nice pirate")]) + HumanMessage("hi")
        template = template + AIMessage("what?") + "{input}"
        prompt = cd.ChatPrompt([cd.Message("system", "You are a nice pirate")]) + cd.Message("user", "hi")
        both = prompt + cd.Message("assistant", "what?") + "{input}"
        assert turns(both.format(input="i said hi")) == theirs(template, input="i said hi")

    def test_a_pipeline(self) -> None:
        prompt = PipelinePrompt(
            cd.TextPrompt("{introduction}\n\n{example}\n\n{start}"),
            {
                "introduction": cd.TextPrompt("You are impersonating {person}."),
                "example": cd.TextPrompt("Here's an example:\n\nQ: {example_q}\nA: {example_a}"),
                "start": cd.TextPrompt("Now, do this for real!\n\nQ: {input}\nA:"),
            },
        )
        values = {"person": "Ada", "example_q": "Your car?", "example_a": "Tesla", "input": "Your site?"}
        assert words(prompt.format(**values)) == (
            "You are impersonating Ada.\n\nHere's an example:\n\nQ: Your car?\nA: Tesla\n\n"
            "Now, do this for real!\n\nQ: Your site?\nA:"
        )


class TestFewShot:
    def test_as_text(self) -> None:
        assert words(ours().format(input="big")) == few_shot_text(examples=ANTONYMS).format(input="big")

    def test_as_chat(self) -> None:
        examples = FewShotChatMessagePromptTemplate(
            example_prompt=ChatPromptTemplate([("human", "{input}"), ("ai", "{output}")]), examples=ANTONYMS[:2]
        )
        template = ChatPromptTemplate([("system", "Give the antonym."), examples, ("human", "{input}")])
        prompt = cd.FewShotPrompt([("system", "Give the antonym."), ("user", "{input}")], SHOTS[:2])
        assert turns(prompt.format(input="big")) == theirs(template, input="big")

    def test_one_example_by_itself(self) -> None:
        template = PromptTemplate.from_template("Question: {question}\n{answer}")
        row = {"question": "Who lived longer?", "answer": "\nFollow up: how old were they?\nSo: {Ada}\n"}
        assert words(cd.TextPrompt("Question: {question}\n{answer}").format(**row)) == template.format(**row)

    def test_as_chat_with_examples_chosen_for_each_item(self) -> None:
        selector = SemanticSimilarityExampleSelector.from_examples(
            ANTONYMS, EMBEDDINGS, InMemoryVectorStore, k=2, input_keys=["input"]
        )
        examples = FewShotChatMessagePromptTemplate(
            input_variables=["input"],
            example_selector=selector,
            example_prompt=ChatPromptTemplate([("human", "{input}"), ("ai", "{output}")]),
        )
        template = ChatPromptTemplate([("system", "Give the antonym."), examples, ("human", "{input}")])
        prompt = cd.FewShotPrompt(
            [("system", "Give the antonym."), ("user", "{input}")],
            SHOTS,
            selector=cd.SemanticSelector(SHOTS, InMemoryVectorStore(EMBEDDINGS)),
            k=2,
            order="nearest-first",
        )
        assert turns(prompt.format(input="worried")) == theirs(template, input="worried")
        assert turns(cd.as_prompt(template).format(input="worried")) == theirs(template, input="worried")

    def test_their_few_shot_prompt_is_one_of_ours(self) -> None:
        template = few_shot_text(examples=ANTONYMS)
        assert words(cd.as_prompt(template).format(input="big")) == template.format(input="big")


class TestSelectors:
    @pytest.mark.parametrize("word", ["big", "big and huge and massive and large and gigantic and tall", "big " * 25])
    def test_by_length(self, word: str) -> None:
        def count(text: str) -> int:
            return len(text.split())

        selector = LengthBasedExampleSelector(
            examples=ANTONYMS, example_prompt=PAIR, max_length=25, get_text_length=count
        )
        template = few_shot_text(example_selector=selector)
        # the two words of the template around the item count here, and not there
        own = cd.LengthSelector(SHOTS, 27, count, prompt="Input: {input}\nOutput:")
        assert words(ours(selector=own).format(input=word)) == template.format(input=word)

    @pytest.mark.parametrize("k", [1, 3])
    def test_by_similarity(self, k: int) -> None:
        selector = SemanticSimilarityExampleSelector.from_examples(
            ANTONYMS, EMBEDDINGS, InMemoryVectorStore, k=k, input_keys=["input"]
        )
        template = few_shot_text(example_selector=selector)
        own = cd.SemanticSelector(SHOTS, EMBEDDINGS)
        stored = cd.SemanticSelector(SHOTS, InMemoryVectorStore(EMBEDDINGS))
        for one in (own, stored):
            assert words(ours(selector=one, k=k).format(input="worried")) == template.format(input="worried")

    def test_by_mmr(self) -> None:
        selector = MaxMarginalRelevanceExampleSelector.from_examples(
            ANTONYMS, EMBEDDINGS, InMemoryVectorStore, k=2, fetch_k=5, input_keys=["input"]
        )
        template = few_shot_text(example_selector=selector)
        own = cd.MMRSelector(SHOTS, EMBEDDINGS, fetch=5)
        assert words(ours(selector=own, k=2).format(input="worried")) == template.format(input="worried")

    def test_by_ngram_overlap(self) -> None:
        pairs = {
            "See Spot run.": "Ver correr a Spot.",
            "My dog barks.": "Mi perro ladra.",
            "Spot can run.": "Spot corre.",
        }
        shots = [cd.Example({"input": words}, target) for words, target in pairs.items()]
        asked = {"input": "Spot can run fast."}

        def shown(**options: float) -> list[str]:
            return [e.inputs["input"] for e in cd.BM25Selector(shots, **options).select(asked, 3)]  # type: ignore[arg-type]

        # the order of their NGramOverlapExampleSelector, of the documentation of langchain-community
        assert shown() == ["Spot can run.", "See Spot run.", "My dog barks."]
        assert shown(above=0) == ["Spot can run.", "See Spot run."]  # threshold=0.0 there
        assert shown(above=1000) == []  # threshold above 1.0 there

    def test_an_example_that_is_added(self) -> None:
        new = {"input": "enthusiastic", "output": "apathetic"}
        selector = SemanticSimilarityExampleSelector.from_examples(
            ANTONYMS, EMBEDDINGS, InMemoryVectorStore, k=1, input_keys=["input"]
        )
        selector.add_example(new)
        template = few_shot_text(example_selector=selector)
        more = [*SHOTS, cd.Example({"input": new["input"]}, new["output"])]
        prompt = cd.FewShotPrompt(
            ASK,
            more,
            selector=cd.SemanticSelector(more, EMBEDDINGS),
            k=1,
            instruction="Give the antonym of every input",
        )
        assert words(prompt.format(input="passionate")) == template.format(input="passionate")

    def test_a_class_of_ones_own(self) -> None:
        class ByLength:
            def select(self, inputs: Mapping[str, object], /, k: int) -> list[cd.Example]:
                return sorted(SHOTS, key=lambda e: abs(len(e.inputs["input"]) - len(str(inputs["input"]))))[:k]

        assert words(ours(selector=ByLength(), k=1).format(input="word")).count("Input: tall") == 1


def test_pictures_are_refused() -> None:
    picture = {"type": "image", "url": "{url}"}
    template = ChatPromptTemplate([("system", "Describe it."), ("user", [picture])])
    with pytest.raises(cd.PromptError, match="reads text only"):
        cd.as_prompt(template).format(url="https://example.org/a.png")


def test_saved_and_loaded(tmp_path: Path) -> None:
    prompt = ours(k=2)
    save_prompt(prompt, tmp_path / "prompt.json")
    assert load_prompt(tmp_path / "prompt.json").format(input="big") == prompt.format(input="big")
