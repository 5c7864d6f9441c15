"""Tools: what the prompt says, what the grammar allows, and what becomes of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import validate
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from condition.control.grammar import Choice, JSONSchema
from condition.control.words import Words
from condition.errors import ControlError, SettingsError
from condition.integrations.langchain import ChatCondition
from condition.integrations.tools import Tools, both_controls, instructed, read_call, tools_of
from condition.models.local import LocalModel
from condition.types import Message
from tests.conftest import CHATML, TinyModel
from tests.integrations.test_langchain import full

ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Colour(BaseModel):
    """Say a colour."""

    name: str = Field(max_length=8)
    shade: str | None = None


def bound(choice: Any = None, *tools: Any) -> Tools:
    return tools_of(tools or (add, Colour), choice, None)


class TestChoice:
    @pytest.mark.parametrize(
        ("given", "choice"),
        [
            (None, "auto"),
            (False, "auto"),
            (True, "any"),
            ("required", "any"),
            ("none", "none"),
            ("add", "add"),
            ({"type": "function", "function": {"name": "add"}}, "add"),
        ],
    )
    def test_as_langchain_and_openai_say_it(self, given: Any, choice: str) -> None:
        assert bound(given).choice == choice

    @pytest.mark.parametrize(
        ("tools", "choice", "message"),
        [
            ([add], "multiply", r"tool_choice='multiply': give auto, any, none or the name of a tool \(add\)"),
            ([], "any", "without tools"),
            ([3], None, "3 is no tool"),
            ([{"type": "web_search_preview"}], None, "runs at a service"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, tiny_model: TinyModel, tools: Any, choice: Any, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            ChatCondition(tiny_model()).bind_tools(tools, tool_choice=choice)


class TestPrompt:
    def test_the_system_message_ends_with_the_tools(self, tiny_model: TinyModel) -> None:
        words = bound().instruction
        for name in ("add", "Colour", "Add two numbers.", '"a": {"type": "integer"}'):
            assert name in words
        asked = instructed(tiny_model(), (Message("system", "Be brief."), Message("user", "1 + 2?")), words)
        assert [m.role for m in asked] == ["system", "user"]
        assert asked[0].content == f"Be brief.\n\n{words}"
        assert instructed(tiny_model(), (Message("user", "x"),), words)[0] == Message("system", words)

    def test_only_what_may_be_called_is_told(self) -> None:
        assert "Colour" not in bound("add").instruction
        assert bound("none").instruction == ""

    def test_templates_that_know_no_tools_and_no_system(self, tiny_model: TinyModel) -> None:
        given = (Message("user", "1 + 2?"), Message("assistant", ADD), Message("tool", "3"))
        model = tiny_model()
        assert [m.role for m in instructed(model, given, "T")] == ["system", "user", "assistant", "tool"]
        refuses = (
            "{% for m in messages %}{% if m['role'] in REFUSED %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
        )
        for roles, wanted in (
            ("['tool']", ["system", "user", "assistant", "user"]),
            ("['tool', 'system']", ["user", "assistant", "user"]),
        ):
            model.tokenizer.chat_template = refuses.replace("REFUSED", roles) + CHATML
            own = LocalModel(model.network, model.tokenizer, source=model.source)
            asked = instructed(own, given, "T")
            assert [m.role for m in asked] == wanted
            assert asked[-1].content == "3"
            assert asked[0].content == ("T" if "system" in wanted else "T\n\n1 + 2?")
            own.render(asked)


class TestAnswer:
    """Random networks under the grammar: whatever they say fits."""

    @pytest.mark.parametrize("choice", ["any", "Colour"])
    def test_a_call_fits_its_tool(self, tiny_model: TinyModel, choice: str) -> None:
        model = tiny_model(max_position_embeddings=2048)
        llm = ChatCondition(model, max_tokens=200, temperature=1.0).bind_tools([add, Colour], tool_choice=choice)
        names = set()
        for seed in range(8):
            answer = llm.invoke("x", seed=seed)
            if not answer.tool_calls:
                assert answer.response_metadata["finish_reason"] == "length"
                continue
            (call,) = answer.tool_calls
            names.add(call["name"])
            schema = (add.args_schema if call["name"] == "add" else Colour).model_json_schema()  # type: ignore[union-attr]
            validate(call["args"], schema)
            assert call["args"].keys() <= schema["properties"].keys()
            assert (answer.content, call["type"]) == ("", "tool_call")
            assert str(call["id"]).startswith("call_")
        assert names == {"Colour"} if choice == "Colour" else names

    def test_auto_is_text_or_a_call(self, tiny_model: TinyModel) -> None:
        llm = ChatCondition(tiny_model(), max_tokens=40, temperature=1.0).bind_tools([add])
        answers = llm.batch(["x"] * 24, seed=0)
        assert all(answer.content and not answer.tool_calls for answer in answers)  # noise never begins with {
        forced = llm.bind(control=None).bound.bind_tools([add], tool_choice="add")  # type: ignore[attr-defined]
        assert forced.invoke("x", max_tokens=200).response_metadata["finish_reason"] in ("stop", "length")

    def test_what_a_text_is_read_as(self) -> None:
        call = read_call(ADD, bound())
        assert [(c["name"], c["args"]) for c in call.tool_calls] == [("add", {"a": 1, "b": 2})]
        assert call.content == ""
        assert read_call("Hello {x}", bound()).content == "Hello {x}"
        assert read_call(ADD, Tools()).content == ADD  # no tools are bound
        assert read_call(ADD, bound("none")).tool_calls == []

    @pytest.mark.parametrize("cut", range(1, len(ADD), 7))
    def test_half_a_call_is_none(self, tiny_model: TinyModel, cut: int) -> None:
        message = read_call(ADD[:cut], bound(), "max_tokens=9: raise it")
        assert message.tool_calls == []
        assert message.content == ADD[:cut]
        (wrong,) = message.invalid_tool_calls
        assert wrong["error"] == "the JSON was cut off by max_tokens=9: raise it"
        assert wrong["args"] == ADD[:cut]

    def test_cut_off_in_a_call_and_in_a_stream(self, tiny_model: TinyModel) -> None:
        llm = ChatCondition(tiny_model(), max_tokens=6).bind_tools([add], tool_choice="any")
        answer, streamed = llm.invoke("x"), full(llm.stream("x"))  # type: ignore[arg-type]  # chunks, typed as messages
        assert len(answer.invalid_tool_calls) == 1
        assert answer.tool_calls == streamed.tool_calls == []
        assert answer.content == streamed.content != ""
        assert streamed.response_metadata["finish_reason"] == "length"

    def test_a_brace_within_a_text_is_no_call(self, tiny_model: TinyModel) -> None:
        text = "Sets {a} and {b}."
        llm = ChatCondition(tiny_model(), control=Choice([text])).bind_tools([add])
        chunks = list(llm.stream("x"))
        assert any(str(chunk.content).startswith("{") for chunk in chunks)
        assert "".join(str(chunk.content) for chunk in chunks) == llm.invoke("x").content == text

    def test_a_streamed_call_is_whole(self, tiny_model: TinyModel) -> None:
        @tool
        def stop_now() -> None:
            """Stop."""

        llm = ChatCondition(tiny_model(), max_tokens=60).bind_tools([stop_now], tool_choice="any")
        chunks = list(llm.stream("x"))
        assert len(chunks) == 1
        assert [(c["name"], c["args"]) for c in full(iter(chunks)).tool_calls] == [("stop_now", {})]  # type: ignore[arg-type]
        assert chunks[0].content == ""

    def test_tools_with_a_schema_for_the_answer(self) -> None:
        asked = tools_of([add], None, {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}})
        assert isinstance(asked.control, JSONSchema)
        assert read_call("[1]", asked).content == "[1]"
        assert read_call(ADD, asked).tool_calls


def test_what_is_no_control_and_no_stop_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ControlError, match="control='yes' is no control: give one"):
        ChatCondition(tiny_model(), control="yes")
    with pytest.raises(SettingsError, match="stop=5: give a list of texts"):
        ChatCondition(tiny_model()).invoke("x", stop=5)  # type: ignore[arg-type]


def test_limits_of_a_call_are_joined() -> None:
    words = Words(ban=["never"])
    assert both_controls(None, words) is words
    joined = both_controls(bound("any").control, words)
    assert joined is not None
    assert len(joined.parts) == 2  # type: ignore[attr-defined]

    class Foreign:
        def processor(self, tokenizer: Any, /) -> Any: ...

    with pytest.raises(ControlError, match="Foreign can't be joined"):
        both_controls(Choice(["a"]), Foreign())


def test_a_control_limits_a_chat(tiny_model: TinyModel) -> None:
    llm = ChatCondition(tiny_model(), max_tokens=20, control=Choice(["yes", "no"]))
    assert llm.invoke("x").content in ("yes", "no")
    assert full(llm.stream("x")).content == llm.invoke("x").content
    assert llm.invoke("x", control=Choice(["perhaps"])).content == "perhaps"


@pytest.mark.real
class TestReal:
    def test_a_conversation_with_a_tool(self, embedded: LocalModel) -> None:
        llm = ChatCondition(embedded, max_tokens=60)
        asked: list[Any] = [SystemMessage("You are a calculator."), HumanMessage("What is 3 + 4?")]
        call = llm.bind_tools([add], tool_choice="any").invoke(asked)
        assert call.tool_calls[0]["args"] == {"a": 3, "b": 4}
        result = add.invoke(call.tool_calls[0])
        assert isinstance(result, ToolMessage)
        answer = llm.bind_tools([add], tool_choice="none").invoke([*asked, call, result])
        assert isinstance(answer, AIMessage)
        assert answer.content
        assert not answer.tool_calls

    def test_an_agent_calls_and_answers(self, embedded: LocalModel) -> None:
        @wrap_model_call
        def one_call(request: Any, handler: Any) -> Any:
            done = isinstance(request.messages[-1], ToolMessage)
            return handler(request.override(tool_choice="none" if done else "any"))

        agent = create_agent(ChatCondition(embedded, max_tokens=60), [add], middleware=[one_call])
        *_, call, result, answer = agent.invoke({"messages": [HumanMessage("What is 3 + 4?")]})["messages"]
        assert call.tool_calls[0]["args"] == {"a": 3, "b": 4}
        assert result.content == json.dumps(7)
        assert answer.content
