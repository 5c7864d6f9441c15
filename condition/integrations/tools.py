"""Tool calls and structured answers: schemas become words of the prompt and a grammar, so that the JSON always fits.

A tool call is one line of JSON, `{"name": "add", "arguments": {"a": 1, "b": 2}}`, and the system message says so. By
the grammar an answer begins with `{` where it is a call, and only there. One call is made at a time. JSON that the
token limit cuts off is no call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import uuid4

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import RootModel

from condition.control.combined import Combined
from condition.control.grammar import Grammar, JSONSchema
from condition.errors import ControlError, PromptError, SettingsError
from condition.integrations.schemas import hoisted
from condition.models.local import LocalModel
from condition.protocols import Control
from condition.types import Message, Messages

ToolLike = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
_CHOICES = ("auto", "any", "none")
_MUST = "Call one of these functions to help with the request."
_CALL = 'To call one, answer with JSON only: {"name": <function name>, "arguments": <its arguments as a JSON object>}'
"""Near to what models are tuned on that know tools."""


class Tools(NamedTuple):
    """What an answer may be: a call of a tool, text, or JSON that fits a schema."""

    tools: tuple[Mapping[str, Any], ...] = ()
    """In OpenAI's form."""
    choice: str = "auto"
    """auto, any, none, or the name of the tool that is to be called."""
    schema: Mapping[str, Any] | None = None
    """Of the answer where it is no call."""
    told: bool = True
    """Whether the prompt shows that schema."""

    @property
    def offered(self) -> tuple[Mapping[str, Any], ...]:
        """The functions that may be called."""
        functions = [tool["function"] for tool in self.tools]
        if self.choice in _CHOICES:
            return () if self.choice == "none" else tuple(functions)
        return tuple(function for function in functions if function["name"] == self.choice)

    @property
    def control(self) -> Control | None:
        """The grammar of the answer."""
        schemas = [_call_schema(function) for function in self.offered]
        if self.schema is not None and self.choice in ("auto", "none"):
            schemas.append(dict(self.schema))
        if not schemas:
            return None
        may_talk = bool(self.offered) and self.choice == "auto" and self.schema is None
        return _grammar(json.dumps(hoisted(schemas)), may_talk=may_talk)

    @property
    def instruction(self) -> str:
        """What the system message says of it."""
        parts = []
        if self.offered:
            listed = "\n".join(json.dumps(function, ensure_ascii=False) for function in self.offered)
            may = "You may call one of these functions to help with the request." if self.choice == "auto" else _MUST
            parts.append(f"{may}\n<tools>\n{listed}\n</tools>\n{_CALL}")
        if self.schema is not None and self.told and self.choice in ("auto", "none"):
            parts.append(f"Answer with JSON only, by this schema:\n{json.dumps(self.schema, ensure_ascii=False)}")
        return "\n\n".join(parts)


def tools_of(tools: Sequence[ToolLike] | None, choice: object, response_format: object) -> Tools:
    """The tools of a call, as LangChain and OpenAI name them. Raises SettingsError for what can't be used."""
    known = [_as_tool(tool) for tool in tools or ()]
    names = [tool["function"]["name"] for tool in known]
    schema, told = _answer_schema(response_format)
    return Tools(tuple(known), _as_choice(choice, names), schema, told)


def instructed(model: LocalModel, messages: Messages, instruction: str) -> Messages:
    """Messages with an instruction, in turns that the model's chat template takes.

    The instruction ends the system message. Where a template knows no tools or no system message, the user says it.
    """
    if not instruction and all(message.role != "tool" for message in messages):
        return messages
    turns = _with_system(messages, instruction) if instruction else messages
    spoken = tuple(Message("user", m.content) if m.role == "tool" else m for m in turns)
    for asked in (turns, spoken):
        try:
            model.render(asked)
        except PromptError:
            continue
        return asked
    return _without_system(spoken)


def read_call(text: str, tools: Tools, why: str | None = None) -> AIMessage:
    """An answer as a message: text, a tool call, or an invalid call where JSON was cut off; `why` says by what."""
    offered = {function["name"] for function in tools.offered}
    if not offered or not text.startswith("{"):
        return AIMessage(text)
    try:
        said = json.loads(text)
    except ValueError as error:
        reason = f"the JSON was cut off by {why}" if why else f"the JSON can't be read: {error}"
        wrong = InvalidToolCall(type="invalid_tool_call", name=None, args=text, id=_new_id(), error=reason)
        return AIMessage(text, invalid_tool_calls=[wrong])
    if said.keys() == {"name", "arguments"} and said["name"] in offered:
        return AIMessage("", tool_calls=[ToolCall(name=said["name"], args=said["arguments"], id=_new_id())])
    return AIMessage(text)


def both_controls(one: Control | None, other: Control | None) -> Control | None:
    """What both allow. Raises ControlError where a control is not of this library and can't be joined."""
    if one is None or other is None:
        return other if one is None else one
    if not hasattr(one, "followed") or not hasattr(other, "followed"):
        raise ControlError(
            f"{type(other).__name__} can't be joined with tools or a schema; use one of condition.control"
        )
    return Combined(parts=(one, other))


def schema_of(schema: Mapping[str, Any] | type) -> dict[str, Any]:
    """The JSON schema of a pydantic model, a TypedDict, an OpenAI tool, or the schema itself."""
    if isinstance(schema, Mapping) and not _is_function(schema):
        return dict(schema)  # LangChain would leave the title only of one that is no object with properties
    if isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping):
        return dict(schema["schema"])
    if isinstance(schema, type) and issubclass(schema, RootModel):
        return schema.model_json_schema()
    try:
        return convert_to_json_schema(schema)  # type: ignore[arg-type]  # it takes a TypedDict too
    except Exception as error:  # it raises many kinds
        raise SettingsError(
            f"{schema!r:.80} is no schema: give a JSON schema, a pydantic model or a TypedDict"
        ) from error


@lru_cache(maxsize=64)
def _grammar(schema: str, *, may_talk: bool) -> Control:
    """JSON that fits a schema; or else, where it may talk, text that does not begin like JSON."""
    if not may_talk:
        return JSONSchema(schema)
    guided = json.dumps({**json.loads(schema), "x-guidance": {"whitespace_pattern": " "}})
    return Grammar(f"start: TEXT | call\nTEXT: /[^{{\\s](.|\\n)*/\ncall: %json {guided}")


def _as_tool(tool: ToolLike) -> dict[str, Any]:
    try:
        found = convert_to_openai_tool(tool)
    except Exception as error:  # it raises many kinds
        raise SettingsError(
            f"{tool!r:.80} is no tool: give a function with a docstring, a LangChain tool, a pydantic "
            f"model or an OpenAI tool ({error})"
        ) from error
    if found.get("type") != "function" or not isinstance(found.get("function"), Mapping):
        raise SettingsError(f"a tool of type {found.get('type')!r} runs at a service; this model calls functions only")
    kind = (found["function"].get("parameters") or {}).get("type", "object")
    is_open = isinstance(tool, Mapping) and not _is_function(tool) and "properties" not in tool
    if kind != "object" or is_open:
        raise SettingsError(
            f"{tool!r:.80} can't be called: a tool's arguments are an object with properties; "
            "method='json_schema' takes any schema"
        )
    return found


def _is_function(tool: Mapping[str, Any]) -> bool:
    """Whether a dict names a function, in OpenAI's form; else it is a JSON schema."""
    return "function" in tool or isinstance(tool.get("name"), str)


def _as_choice(choice: object, names: Sequence[str]) -> str:
    if isinstance(choice, Mapping):
        choice = choice.get("function", choice).get("name")
    if choice is None or choice is False:
        return "auto"
    if choice is True or choice == "required":
        choice = "any"
    if not isinstance(choice, str) or choice not in (*_CHOICES, *names):
        raise SettingsError(
            f"tool_choice={choice!r:.80}: give auto, any, none or the name of a tool ({', '.join(names)})"
        )
    if choice == "any" and not names:
        raise SettingsError("tool_choice='any' without tools: bind at least one")
    return choice


def _answer_schema(given: object) -> tuple[dict[str, Any] | None, bool]:
    """The schema of OpenAI's `response_format`, and whether the prompt is to show it."""
    if given is None:
        return None, True
    if isinstance(given, type):
        return schema_of(given), True
    if isinstance(given, Mapping) and given.get("type") == "json_schema" and isinstance(given["json_schema"], Mapping):
        return schema_of(given["json_schema"].get("schema", {})), True
    if isinstance(given, Mapping) and given.get("type") == "json_object":
        return schema_of(given.get("schema") or {"type": "object"}), False
    raise SettingsError(
        f'response_format={given!r:.80}: write {{"type": "json_schema", "json_schema": {{"schema": ...}}}}'
    )


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("parameters") or {"type": "object", "properties": {}}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": dict(arguments)},
        "required": ["name", "arguments"],
    }


def _with_system(messages: Messages, instruction: str) -> Messages:
    if messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{instruction}"), *messages[1:])
    return (Message("system", instruction), *messages)


def _without_system(messages: Messages) -> Messages:
    """The words of the system message before those of the first turn."""
    first, *others = messages
    if first.role != "system" or not others:
        return messages
    return (Message(others[0].role, f"{first.content}\n\n{others[0].content}"), *others[1:])


def _new_id() -> str:
    return f"call_{uuid4().hex}"
