"""Answers as values of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough

from condition.errors import ModelError, SettingsError
from condition.integrations.tools import schema_of


def response_format(schema: Mapping[str, Any] | type, method: str) -> dict[str, Any]:
    """What asks for JSON, in OpenAI's form. Raises SettingsError for an unknown method, and for what is no schema."""
    if method == "json_schema":
        found = schema_of(schema)
        return {"type": "json_schema", "json_schema": {"name": found.get("title", "answer"), "schema": found}}
    if method == "json_mode":
        return {"type": "json_object", "schema": schema_of(schema)}
    raise SettingsError(f"method={method!r}: give json_schema, json_mode or function_calling")


def parser(
    bound: Runnable[LanguageModelInput, AIMessage], schema: Mapping[str, Any] | type, *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """A bound model whose messages become values; with `include_raw` a dict of raw, parsed and parsing_error."""
    read = RunnableLambda(lambda message: value_of(message, schema), name="parse")
    if not include_raw:
        return bound | read
    good = RunnablePassthrough.assign(parsed=itemgetter("raw") | read, parsing_error=lambda _: None)
    bad = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | good.with_fallbacks([bad], exception_key="parsing_error")


def value_of(message: AIMessage, schema: Mapping[str, Any] | type) -> Any:
    """The value of a message. Raises ModelError for JSON that was cut off, and where the schema's checks refuse it."""
    if message.tool_calls:
        found = message.tool_calls[0]["args"]
    else:
        try:
            found = json.loads(message.text)
        except ValueError as error:
            reason = message.response_metadata.get("finish_reason")
            cut = "it was cut off at max_tokens: raise it" if reason == "length" else f"it ended by {reason!r}"
            raise ModelError(f"the answer is no whole JSON, {cut}; it begins {message.text!r:.80}") from error
    if not isinstance(schema, type):
        return found
    make = getattr(schema, "model_validate", getattr(schema, "parse_obj", None))  # pydantic 2, or 1
    try:
        return found if make is None else make(found)
    except ValueError as error:
        raise ModelError(f"{schema.__name__} refuses the answer {found!r:.80}: {error}") from error
