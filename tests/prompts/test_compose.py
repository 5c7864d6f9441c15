"""Prompts made of prompts: sums, partials, pipelines, and how they look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from condition.errors import PromptError
from condition.prompts.compose import Joined, PipelinePrompt
from condition.prompts.fill import fill
from condition.prompts.history import History
from condition.prompts.template import ChatPrompt, TextPrompt, as_prompt
from condition.protocols import Prompt
from condition.types import Message, Messages

SYSTEM, ASK = ChatPrompt([("system", "Be {tone}.")]), ChatPrompt([("user", "{q}")])
nasty = st.text() | st.text(alphabet="{}%#xq \n\x00\u202e") | st.sampled_from(["{q}", "{{q}}", "{% x %}", "{a.b}"])


class Own:
    variables = frozenset({"q"})

    def format(self, **inputs: object) -> Messages:
        return (Message("user", f"own {inputs.pop('q')}{''.join(inputs)}"),)


def said(messages: Messages) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in messages]


class TestSums:
    def test_chat_prompts_become_one(self) -> None:
        both = SYSTEM + ASK
        assert isinstance(both, ChatPrompt)
        assert said(both.format(tone="brief", q="{x}")) == [("system", "Be brief."), ("user", "{x}")]

    def test_text_prompts_become_one(self) -> None:
        both = TextPrompt("a {x} ") + TextPrompt("b") + " {y}"
        assert isinstance(both, TextPrompt)
        assert both.format(x=1, y="{x}") == (Message("text", "a 1 b {x}"),)

    @pytest.mark.parametrize(
        "other",
        [
            "{q}",
            ("user", "{q}"),
            [("user", "{q}")],
            ASK,
            PromptTemplate.from_template("{q}"),
            ChatPromptTemplate([("human", "{q}")]),
        ],
        ids=lambda other: type(other).__name__,
    )
    def test_what_may_stand_on_the_right(self, other: Any) -> None:
        right = [other] if isinstance(other, tuple) else other
        assert said((SYSTEM + right).format(tone="x", q="1")) == [("system", "Be x."), ("user", "1")]

    def test_what_may_stand_on_the_left(self) -> None:
        left = [("system", "s")]
        assert said((left + ASK).format(q="1")) == [("system", "s"), ("user", "1")]
        assert ("a " + TextPrompt("{q}")).format(q="1") == (Message("text", "a 1"),)

    def test_a_message_is_taken_as_it_is(self) -> None:
        assert said((SYSTEM + Message("user", "{q}")).format(tone="x")) == [("system", "Be x."), ("user", "{q}")]
        assert said((History() + Message("user", "{q}")).format(history=[])) == [("user", "{q}")]

    def test_formats_may_differ(self) -> None:
        both = ASK + ChatPrompt([("assistant", "{{ q }}")], template_format="jinja2")
        assert isinstance(both, Joined)
        assert said(both.format(q="{{ q }}")) == [("user", "{{ q }}"), ("assistant", "{{ q }}")]

    def test_an_input_model_stays_with_its_part(self) -> None:
        class Inputs(BaseModel):
            tone: str = "kind"

        both = ChatPrompt([("system", "Be {tone}.")], inputs=Inputs) + ASK
        assert said(both.format(q="1")) == [("system", "Be kind."), ("user", "1")]

    def test_the_last_parser_is_kept(self) -> None:
        both = ChatPrompt([("system", "s")], parse=str) + ChatPrompt([("user", "{q}")], parse=int)
        assert both.parse is int
        assert (both + History()).parse is int

    def test_a_prompt_of_ones_own_gets_its_own_variables_only(self) -> None:
        both = SYSTEM + Own()
        assert both.variables == {"tone", "q"}
        assert said(fill(both, {"tone": "x", "q": "1", "more": "2"})) == [("system", "Be x."), ("user", "own 1")]

    def test_what_has_a_default_there_need_not_be_given(self) -> None:
        class Greeting:
            variables = frozenset({"name"})

            def format(self, *, name: str = "you") -> Messages:
                return (Message("user", f"Hello {name}"),)

        both = SYSTEM + Greeting()
        assert said(both.format(tone="x")) == [("system", "Be x."), ("user", "Hello you")]

    def test_sums_are_flat(self) -> None:
        parts = (History() + ASK) + (History("more") + SYSTEM)
        assert isinstance(parts, Joined)
        assert [type(p) for p in parts.parts] == [History, ChatPrompt, History, ChatPrompt]

    def test_text_and_turns_do_not_mix(self) -> None:
        with pytest.raises(PromptError, match="can't be joined: make all parts of one kind"):
            (TextPrompt("a") + ASK).format(q="1")

    @pytest.mark.parametrize("make", [lambda: SYSTEM + 5, lambda: Joined([]), lambda: SYSTEM + "{q"])
    def test_what_is_no_prompt_is_refused(self, make: Callable[[], object]) -> None:
        with pytest.raises(PromptError):
            make()


class TestPartial:
    def test_values_that_are_known(self) -> None:
        prompt = (SYSTEM + ASK).partial(tone="{brief}")
        assert prompt.variables == {"q"}
        assert said(prompt.format(q="1")) == [("system", "Be {brief}."), ("user", "1")]
        assert prompt.partial(q="2").format() == prompt.format(q="2")

    def test_they_stand_where_a_row_has_a_column_of_that_name(self) -> None:
        assert fill(SYSTEM.partial(tone="brief"), {"tone": "long"}) == (Message("system", "Be brief."),)

    def test_a_function_is_called_for_each_prompt(self) -> None:
        count = iter(range(9))
        prompt = ASK.partial(q=lambda: next(count))
        assert [prompt.format()[0].content for _ in range(3)] == ["0", "1", "2"]

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(PromptError, match="does not use 'x'; it has 'q'"):
            ASK.partial(x=1)

    @given(nasty, nasty)
    def test_values_are_never_parsed(self, a: str, b: str) -> None:
        prompt = TextPrompt("<{a}|{b}>").partial(a=a)
        assert prompt.format(b=b)[0].content == f"<{a}|{b}>"


class TestPipeline:
    def test_the_words_of_one_prompt_are_a_value_of_another(self) -> None:
        prompt = PipelinePrompt(
            TextPrompt("{intro}\n{examples}\nQ: {q}"),
            {"intro": TextPrompt("You are {person}."), "examples": TextPrompt("{intro} E.g. {q}?")},
        )
        assert prompt.variables == {"person", "q"}
        assert prompt.format(person="{Ada}", q="1") == (
            Message("text", "You are {Ada}.\nYou are {Ada}. E.g. 1?\nQ: 1"),
        )

    def test_a_chat_prompt_gives_its_words(self) -> None:
        prompt = PipelinePrompt(ASK, {"q": SYSTEM + ASK})
        assert said(prompt.format(tone="x", q="1")) == [("user", "Be x.\n\n1")]

    def test_a_part_that_nothing_uses_is_refused(self) -> None:
        with pytest.raises(PromptError, match="nothing uses the words of 'intro'"):
            PipelinePrompt(ASK, {"intro": SYSTEM})

    @given(nasty)
    def test_words_are_never_parsed_again(self, value: str) -> None:
        prompt = PipelinePrompt(
            TextPrompt("[{{ b }}]", template_format="jinja2"), {"a": TextPrompt("<{q}>"), "b": TextPrompt("({a})")}
        )
        assert prompt.format(q=value)[0].content == f"[(<{value}>)]"


class TestLangChain:
    made: dict[str, Prompt] = {  # noqa: RUF012
        "sum": SYSTEM + ASK,
        "own": SYSTEM + Own(),
        "known there": SYSTEM + ChatPromptTemplate([("user", "{q} {unit}")]).partial(unit="m"),
        "history": SYSTEM + History(optional=True) + ASK,
        "partial": (SYSTEM + ASK).partial(tone="x"),
        "pipeline": PipelinePrompt(SYSTEM + ASK, {"tone": ChatPrompt([("user", "kind and {how}")])}),
    }

    @pytest.mark.parametrize("name", made)
    def test_there_and_back(self, name: str) -> None:
        prompt: Any = self.made[name]
        row = {"tone": "{x}", "q": "1", "how": "good"}
        template = prompt.to_langchain()
        assert set(template.input_variables) == prompt.variables
        again = as_prompt(template)
        assert again.variables == prompt.variables
        assert again.format(**row) == prompt.format(**row)
        if name in ("partial", "pipeline"):
            assert again is prompt

    def test_a_history_is_a_placeholder_there(self) -> None:
        template = (SYSTEM + History() + ASK).to_langchain()
        assert isinstance(template, ChatPromptTemplate)
        messages = template.format_messages(tone="x", history=[HumanMessage("{hi}")], q="1")
        assert [m.content for m in messages] == ["Be x.", "{hi}", "1"]

    def test_a_prompt_stands_before_a_model_in_a_pipe(self) -> None:
        def read(value: PromptValue) -> list[str]:
            return [str(m.content) for m in value.to_messages()]

        chain = (SYSTEM + ASK).partial(tone="x") | RunnableLambda(read)
        assert chain.invoke({"q": "1"}) == ["Be x.", "1"]
        words = TextPrompt("{a}{b}").partial(a="{") | RunnableLambda(read)
        assert words.invoke({"b": "}"}) == ["{}"]


class TestPreview:
    def test_names_stand_for_values(self) -> None:
        prompt = SYSTEM + History() + ChatPrompt([("user", "{q:.2f} {n!r}")])
        assert said(prompt.preview()) == [("system", "Be {tone}."), ("user", "{history}"), ("user", "{q} {n}")]
        assert said(prompt.preview(tone="x", history=[]))[0] == ("system", "Be x.")
        assert said(SYSTEM.partial(tone="x").preview()) == [("system", "Be x.")]
        pipeline = PipelinePrompt(ASK, {"q": SYSTEM})
        assert said(pipeline.preview()) == [("user", "Be {tone}.")]
        assert said((SYSTEM + Own()).preview())[1] == ("user", "own {q}")

    def test_notebooks_show_it(self) -> None:
        prompt = ChatPrompt([("user", "<b>{q}</b> ````")])
        assert "&lt;b&gt;{q}&lt;/b&gt;" in prompt._repr_html_()
        assert prompt._repr_markdown_() == "**user**\n\n`````text\n<b>{q}</b> ````\n`````"

    def test_an_input_model_that_takes_no_names_shows_the_template(self) -> None:
        class Inputs(BaseModel):
            q: int

        prompt = ChatPrompt([("user", "{q}")], inputs=Inputs)
        assert "ChatPrompt([(&#x27;user&#x27;, &#x27;{q}&#x27;)])" in prompt._repr_html_()


def test_they_print_what_they_were_made_of() -> None:
    assert repr(History() + ASK) == "History('history', optional=False, last=None) + ChatPrompt([('user', '{q}')])"
    assert repr(ASK.partial(q=1)) == "ChatPrompt([('user', '{q}')]).partial(q=1)"
    assert repr(PipelinePrompt(ASK, {"q": ASK})).startswith("PipelinePrompt(ChatPrompt")


def test_none_is_not_written_as_a_word_by_a_partial_either() -> None:
    with pytest.raises(PromptError, match="'tone' is None"):
        SYSTEM.partial(tone=None)
    with pytest.raises(PromptError, match="'tone' is nan"):
        SYSTEM.partial(tone=float("nan"))

    class Inputs(BaseModel):
        tone: str | None

    words = "Be {% if tone %}{{ tone }}{% else %}yourself{% endif %}."
    own = ChatPrompt([("system", words)], inputs=Inputs, template_format="jinja2")
    assert said(own.partial(tone=None).format()) == [("system", "Be yourself.")]


@pytest.mark.parametrize("other", ["{q}", None, [("user", "{q}")], PromptTemplate.from_template("{q}")], ids=str)
def test_a_pipeline_takes_prompts_only(other: Any) -> None:
    for make in (lambda: PipelinePrompt(other, {}), lambda: PipelinePrompt(ASK, {"q": other})):
        with pytest.raises(PromptError, match="make it a ChatPrompt or a TextPrompt first"):
            make()
