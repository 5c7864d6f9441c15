from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ChatMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotPromptTemplate,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from pydantic import BaseModel, Field

from condition.errors import PromptError
from condition.prompts.saved import prompt_from_json, prompt_to_json
from condition.prompts.template import (
    ChatPrompt,
    LangChainPrompt,
    TemplateFormat,
    TextPrompt,
    as_prompt,
    from_langchain_messages,
)
from condition.types import Message

nasty = st.one_of(
    st.text(),
    st.text(alphabet="{}%#$[]()'\"\\ax\n\t\0\x1b\u202e\u200b"),
    st.sampled_from(
        [
            "{x}",
            "{{x}}",
            "{",
            "}",
            "{x.__class__}",
            "{0}",
            "%s %(x)s %",
            "{{ x }}",
            "{% raw %}",
            "{# c #}",
            "${x}",
            "\x00",
        ]
    ),
)
FORMATS: list[tuple[TemplateFormat, str]] = [("f-string", "<{x}|{y}>"), ("jinja2", "<{{ x }}|{{ y }}>")]


@pytest.mark.parametrize(("kind", "template"), FORMATS)
@given(x=nasty, y=nasty)
def test_values_are_never_parsed_again(kind: TemplateFormat, template: str, x: str, y: str) -> None:
    chat = ChatPrompt([("system", template), ("user", template)], template_format=kind)
    text = TextPrompt(template, template_format=kind)
    wanted = f"<{x}|{y}>"
    assert chat.format(x=x, y=y) == (Message("system", wanted), Message("user", wanted))
    assert text.format(x=x, y=y) == (Message("text", wanted),)


@given(nasty)
def test_the_words_of_a_message_are_no_template(words: str) -> None:
    prompt = ChatPrompt([Message("system", words), ("user", "{x}")])
    assert prompt.variables == {"x"}
    assert prompt.format(x="1") == (Message("system", words), Message("user", "1"))


@pytest.mark.parametrize(("kind", "template"), FORMATS)
def test_a_value_of_ten_megabytes(kind: TemplateFormat, template: str) -> None:
    big = "{{x}} %s é\n" * 1_000_000
    for role in ("user", "text"):
        (message,) = ChatPrompt([(role, template)], template_format=kind).format(x=big, y="")
        assert message.content == f"<{big}|>"
        assert role == "user" or message.values == ((1, 1 + len(big)), (2 + len(big), 2 + len(big)))


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "text"])
def test_every_role_as_template_and_as_message(role: Any) -> None:
    assert ChatPrompt([(role, "a {x}")]).format(x=1) == (Message(role, "a 1"),)
    assert ChatPrompt([Message(role, "a {x}")]).format() == (Message(role, "a {x}"),)


def test_the_role_names_of_langchain_are_understood() -> None:
    prompt = ChatPrompt([("human", "{x}"), ("ai", "ok")])
    assert prompt.format(x="hi") == (Message("user", "hi"), Message("assistant", "ok"))


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("{x:.2f}", 1.234, "1.23"),
        ("{x!r}", "a", "'a'"),
        ("{x:>4}", 7, "   7"),
        ("{x}", None, "None"),
        ("{x}", [1, "{y}"], "[1, '{y}']"),
        ("{{x}} {x}", "1", "{x} 1"),
    ],
)
def test_f_strings_format_as_in_python_in_both_prompts(template: str, value: object, text: str) -> None:
    assert ChatPrompt([("user", template)]).format(x=value)[0].content == text
    assert TextPrompt(template).format(x=value)[0].content == text


def test_jinja_loops_over_values() -> None:
    prompt = ChatPrompt([("user", "{% for p in passages %}[{{ p }}]{% endfor %}")], template_format="jinja2")
    assert prompt.variables == {"passages"}
    assert prompt.format(passages=["{{ a }}", "b"])[0].content == "[{{ a }}][b]"


class Reachable:
    secret = "s3cret"

    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize(
    "template",
    [
        "{{ x.__class__ }}",
        "{{ x['__class__'] }}",
        "{{ x|attr('__class__') }}",
        "{{ x.__class__.__mro__[1].__subclasses__() }}",
        "{{ x.__init__.__globals__ }}",
        "{{ ''.__class__.__base__ }}",
        "{{ x.__str__.__func__.__globals__['__builtins__'] }}",
    ],
)
def test_jinja_templates_can_not_reach_into_python(template: str) -> None:
    for make in (
        lambda: ChatPrompt([("user", template)], template_format="jinja2"),
        lambda: TextPrompt(template, template_format="jinja2"),
    ):
        prompt = make()
        try:
            (message,) = prompt.format(x=Reachable()) if prompt.variables else prompt.format()
        except PromptError:
            continue
        assert message.content == ""


@pytest.mark.parametrize("template", ["{x.secret}", "{x[secret]}", "{x.__class__}", "{x!r:{y.__class__}}"])
def test_f_strings_can_not_reach_into_python(template: str) -> None:
    with pytest.raises(PromptError, match="can't be used"):
        ChatPrompt([("user", template)])
    with pytest.raises(PromptError, match="can't be used"):
        TextPrompt(template)


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("{context.x}", r"\{context\.x\} reaches into a value\. Write \{context_x\} and"),
        ("{x[0]}", r"\{x\[0\]\} reaches into a value\. Write \{x_0\} and"),
        ("{0}", "a variable has a name"),
        ("{x:{y}}", r"not allowed\. Check the template"),
    ],
)
def test_each_wrong_name_has_its_own_advice(template: str, advice: str) -> None:
    with pytest.raises(PromptError, match=advice) as caught:
        ChatPrompt([("user", template)])
    assert ".." not in str(caught.value)
    assert "Double a brace" not in str(caught.value)


JSON = 'Return {"answer": "..."} for {question}'


def test_json_in_doubled_braces_is_words() -> None:
    prompt = ChatPrompt([("user", 'Return {{"answer": "..."}} for {question}')])
    assert prompt.format(question="q") == (Message("user", 'Return {"answer": "..."} for q'),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChatPrompt([]), "takes a list of"),
        (lambda: ChatPrompt("hello"), "takes a list of"),
        (lambda: ChatPrompt(7), "takes a list of"),
        (lambda: ChatPrompt([("robot", "x")]), "unknown role 'robot': use system, user"),
        (lambda: ChatPrompt(["x"]), "pair or a Message, not 'x'"),
        (lambda: ChatPrompt([("user", 5)]), "pair or a Message"),
        (lambda: ChatPrompt([("user", "{x")]), "Double a brace"),
        (lambda: ChatPrompt([("user", "x}")]), "Double a brace"),
        (lambda: ChatPrompt([("user", "{}")]), "name"),
        (lambda: ChatPrompt([("user", "{0}")]), r"write \{question\}, not \{0\}"),
        (lambda: ChatPrompt([("user", "{ q }")]), r"' q ' is no name of a variable: write \{q\}, without the spaces"),
        (lambda: ChatPrompt([("user", JSON)]), r"""'"answer"' is no name of a variable.*Double a brace"""),
        (lambda: TextPrompt(JSON), r"""'"answer"' is no name of a variable.*Double a brace"""),
        (lambda: TextPrompt("{a-b}"), "'a-b' is no name of a variable.*column"),
        (lambda: ChatPrompt([("user", "{{ x")], template_format="jinja2"), "unexpected end"),
        (lambda: ChatPrompt([("user", "{{x}}")], template_format="mustache"), "use f-string or jinja2"),
        (lambda: TextPrompt("{{x}}", template_format="mustache"), "use f-string or jinja2"),
        (lambda: TextPrompt(["x"]), "takes one string, not list"),
        (lambda: TextPrompt("{x"), "Double a brace"),
        (lambda: TextPrompt("{}"), "name"),
        (lambda: as_prompt(5), "int is no prompt"),
        (lambda: as_prompt(None), "NoneType is no prompt"),
        (lambda: as_prompt(b"hello"), "bytes is no prompt"),
        (lambda: as_prompt([]), "takes a list of"),
    ],
)
def test_what_is_no_prompt_is_refused_when_it_is_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()


@pytest.mark.parametrize("prompt", [ChatPrompt([("user", "{a} {b}")]), TextPrompt("{a} {b}"), as_prompt("{a} {b}")])
def test_missing_values_are_named(prompt: ChatPrompt | TextPrompt) -> None:
    with pytest.raises(PromptError, match=r"no value for 'a', 'b'; given: nothing"):
        prompt.format()
    with pytest.raises(PromptError, match=r"no value for 'b'; given: 'a', 'c'"):
        prompt.format(a=1, c=2)


def test_values_that_the_template_does_not_use_are_left_out() -> None:
    assert ChatPrompt([("user", "{a}")]).format(a=1, b=2) == (Message("user", "1"),)


@pytest.mark.parametrize("name", ["template", "kwargs", "cls", "inputs"])
def test_variables_with_the_names_of_parameters(name: str) -> None:
    for prompt in (ChatPrompt([("user", f"{{{name}}}")]), TextPrompt(f"{{{name}}}")):
        (message,) = prompt.format(**{name: "v"})
        assert message.content == "v"


class Question(BaseModel):
    question: str = Field(min_length=1)
    passages: list[str] = []
    hops: int = 1


class TestPydanticInputs:
    prompt = ChatPrompt([("user", "{question} {hops}")], inputs=Question)

    def test_values_are_converted_and_defaults_filled_in(self) -> None:
        assert self.prompt.format(question="q", hops="3") == (Message("user", "q 3"),)
        assert self.prompt.format(question="q") == (Message("user", "q 1"),)

    @pytest.mark.parametrize("inputs", [{}, {"question": ""}, {"question": "q", "hops": "many"}])
    def test_what_does_not_fit_is_refused(self, inputs: dict[str, Any]) -> None:
        with pytest.raises(PromptError, match="inputs do not fit Question"):
            self.prompt.format(**inputs)

    def test_a_template_that_asks_for_more_than_the_model_has(self) -> None:
        for make in (
            lambda: ChatPrompt([("user", "{answer}")], inputs=Question),
            lambda: TextPrompt("{answer}", inputs=Question),
        ):
            with pytest.raises(PromptError, match="uses 'answer', which Question does not have"):
                make()


PROMPTS = [
    ChatPrompt([("system", "s {a}"), Message("user", "{literal}"), ("assistant", "ok"), ("user", "{{}} {b}")]),
    ChatPrompt([("user", "{% if a %}{{ a }}{% endif %}{{ b }}")], template_format="jinja2"),
    ChatPrompt([("tool", "{a}"), ("text", "{b}"), Message("tool", "t"), Message("text", "x")]),
    TextPrompt("{a}\n{b}"),
    TextPrompt("{{ a }}{{ b }}", template_format="jinja2"),
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=repr)
class TestRoundTrips:
    def test_json(self, prompt: ChatPrompt | TextPrompt) -> None:
        again = prompt_from_json(json.loads(json.dumps(prompt_to_json(prompt))))
        assert type(again) is type(prompt)
        assert again.to_json() == prompt.to_json()
        assert again.variables == prompt.variables == {"a", "b"}
        assert again.format(a="{x}", b="é") == prompt.format(a="{x}", b="é")

    def test_langchain(self, prompt: ChatPrompt | TextPrompt) -> None:
        again = as_prompt(prompt.to_langchain())
        assert again.variables == prompt.variables
        texts = [m.content for m in prompt.format(a="{x}", b="é")]
        assert [m.content for m in again.format(a="{x}", b="é")] == texts
        if isinstance(prompt, ChatPrompt):
            assert again.format(a="{x}", b="é") == prompt.format(a="{x}", b="é")

    def test_coercion_leaves_our_own_as_they_are(self, prompt: ChatPrompt | TextPrompt) -> None:
        assert as_prompt(prompt) is prompt


@pytest.mark.parametrize(
    "saved",
    [
        {},
        [],
        None,
        {"kind": "chat"},
        {"kind": "poem", "format": "f-string", "messages": [{"role": "user", "template": "x"}]},
        {"kind": "chat", "format": "mustache", "messages": [{"role": "user", "template": "x"}]},
        {"kind": "chat", "format": "f-string", "messages": []},
        {"kind": "chat", "format": "f-string", "messages": [{"role": "robot", "template": "x"}]},
        {"kind": "chat", "format": "f-string", "messages": [{"role": "robot", "text": "x"}]},
        {"kind": "chat", "format": "f-string", "messages": [{"role": "user", "template": 5}]},
        {"kind": "text", "format": "f-string", "template": "{x"},
        {"kind": "text", "format": "f-string"},
    ],
)
def test_a_saved_prompt_that_was_edited_is_refused(saved: Any) -> None:
    with pytest.raises(PromptError):
        prompt_from_json(saved)


class TestFromLangChain:
    def test_a_string_is_one_user_message(self) -> None:
        assert as_prompt("Say {x}").format(x="hi") == (Message("user", "Say hi"),)

    def test_tuples_and_lists(self) -> None:
        for pairs in ([("system", "s"), ("user", "{x}")], (("system", "s"), ["user", "{x}"])):
            assert as_prompt(pairs).format(x="1") == (Message("system", "s"), Message("user", "1"))

    def test_a_prompt_template(self) -> None:
        assert as_prompt(PromptTemplate.from_template("Say {x}")).format(x="{y}") == (Message("user", "Say {y}"),)
        jinja = PromptTemplate.from_template("Say {{ x }}", template_format="jinja2")
        assert as_prompt(jinja).format(x="{{ y }}") == (Message("user", "Say {{ y }}"),)

    def test_a_partial_prompt_template(self) -> None:
        partial = PromptTemplate.from_template("{a} {b}").partial(a="1")
        prompt = as_prompt(partial)
        assert prompt.variables == {"b"}
        assert prompt.format(b="{2}") == (Message("user", "1 {2}"),)

    def test_a_chat_template_becomes_ours_and_can_be_saved(self) -> None:
        template = ChatPromptTemplate(
            [
                ("system", "s {a}"),
                HumanMessage("{literal}"),
                AIMessage("ok"),
                ("human", "{b}"),
            ]
        )
        prompt = as_prompt(template)
        assert isinstance(prompt, ChatPrompt)
        expected = (
            Message("system", "s 1"),
            Message("user", "{literal}"),
            Message("assistant", "ok"),
            Message("user", "2"),
        )
        assert prompt.format(a=1, b=2) == expected
        assert prompt.to_langchain().format_messages(a=1, b=2) == template.format_messages(a=1, b=2)

    def test_a_placeholder_takes_history(self) -> None:
        template = ChatPromptTemplate([("system", "s"), MessagesPlaceholder("history"), ("human", "{x}")])
        prompt = as_prompt(template)
        assert isinstance(prompt, LangChainPrompt)
        assert prompt.variables == {"history", "x"}
        assert prompt.to_langchain() is template
        said = [HumanMessage("{a}"), AIMessage("b")]
        expected = (Message("system", "s"), Message("user", "{a}"), Message("assistant", "b"), Message("user", "q"))
        assert prompt.format(history=said, x="q") == expected
        with pytest.raises(PromptError, match="no value for 'history'"):
            prompt.format(x="q")
        with pytest.raises(PromptError):
            prompt.format(history=5, x="q")

    def test_an_optional_placeholder_may_stay_empty(self) -> None:
        template = ChatPromptTemplate([MessagesPlaceholder("history", optional=True), ("human", "{x}")])
        assert as_prompt(template).format(x="q") == (Message("user", "q"),)

    def test_a_partial_chat_template(self) -> None:
        template = ChatPromptTemplate([("system", "{a}"), ("human", "{b}")]).partial(a="1")
        assert as_prompt(template).variables == {"b"}
        assert as_prompt(template).format(b="2") == (Message("system", "1"), Message("user", "2"))

    def test_mixed_formats_keep_their_own_way(self) -> None:
        template = ChatPromptTemplate(
            [HumanMessagePromptTemplate.from_template("{{ a }}", template_format="jinja2"), ("human", "{b}")]
        )
        assert [m.content for m in as_prompt(template).format(a="{b}", b="{{ a }}")] == ["{b}", "{{ a }}"]

    def test_a_few_shot_template(self) -> None:
        template = FewShotPromptTemplate(
            examples=[{"q": "1+1", "a": "2"}],
            example_prompt=PromptTemplate.from_template("{q}={a}"),
            suffix="{x}=",
            input_variables=["x"],
        )
        assert as_prompt(template).format(x="2+2") == (Message("user", "1+1=2\n\n2+2="),)

    def test_an_own_prompt_that_inherits_nothing(self) -> None:
        class Greeting:
            variables = frozenset({"who"})

            def format(self, **inputs: object) -> tuple[Message, ...]:
                return (Message("user", f"Hello {inputs['who']}"),)

        greeting = Greeting()
        assert as_prompt(greeting) is greeting


class TestMessages:
    def test_all_kinds(self) -> None:
        given = [
            SystemMessage("s"),
            HumanMessage("u"),
            AIMessage("a"),
            ToolMessage("t", tool_call_id="1"),
            ChatMessage("c", role="assistant"),
            HumanMessage([{"type": "text", "text": "two "}, "parts"]),
        ]
        roles = ["system", "user", "assistant", "tool", "assistant", "user"]
        texts = ["s", "u", "a", "t", "c", "two parts"]
        assert [(m.role, m.content) for m in from_langchain_messages(given)] == list(zip(roles, texts, strict=True))

    def test_an_image_is_refused(self) -> None:
        image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])
        with pytest.raises(PromptError, match="reads text only"):
            from_langchain_messages([image])

    def test_a_role_that_nobody_knows_is_refused(self) -> None:
        with pytest.raises(PromptError, match="function"):
            from_langchain_messages([FunctionMessage("f", name="f")])
        with pytest.raises(PromptError, match="critic"):
            from_langchain_messages([ChatMessage("c", role="critic")])


def test_prompts_print_what_they_were_made_from() -> None:
    assert repr(ChatPrompt([("user", "{x}")])) == "ChatPrompt([('user', '{x}')])"
    assert repr(TextPrompt("{x}")) == "TextPrompt('{x}')"


@pytest.mark.parametrize("make", [lambda t: ChatPrompt([("system", "x"), ("user", t)]), TextPrompt])
def test_jinjas_braces_beside_a_variable_are_warned_of(make: Callable[[str], Any]) -> None:
    with pytest.warns(
        UserWarning, match=r"'\{\{ q \}\}' is written as '\{ q \}' and not filled, while \{context\} is"
    ) as said:
        make("{context}\n{{ q }}")
    assert len(said) == 1
    make("{{q}} {context}")  # a word in braces is meant
    make('{{ "q": {context} }}')
    make("{{ q }}")
    ChatPrompt([("user", "{{ context }} {{ q }}")], template_format="jinja2")
