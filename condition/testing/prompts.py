"""Inputs to messages: nothing of a value is lost, and nothing is missed in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from condition.errors import PromptError
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.testing.promises import Promises
from condition.testing.samples import NASTY
from condition.types import Message, Messages


def check_prompt(prompt: object, inputs: Mapping[str, object] | None = None, *, hidden: Collection[str] = ()) -> None:
    """The promises of a Prompt, or of a LangChain template: variables, messages, values as they are, what is missing.

    `inputs` fill it; by default each variable gets a word. `hidden` names variables of which the messages need not
    show the value, such as what a retriever looks for.
    """
    try:
        made = as_prompt(prompt)
    except PromptError as error:
        raise AssertionError(f"Prompt {type(prompt).__name__}: it is a prompt. Seen: {error}") from error
    own = Promises(Prompt, made)
    names = made.variables
    own.keeps(isinstance(names, frozenset), "variables is a frozenset", type(names).__name__)
    own.all_are(names, str, "variables are names")
    given = dict(inputs) if inputs is not None else {name: f"word{i}" for i, name in enumerate(sorted(names))}
    own.keeps(names <= given.keys(), "it needs no more than it was given", f"variables {set(names)}, inputs {given}")
    first = _messages(own, made, given)
    own.keeps(_messages(own, made, given) == first, "the same inputs give the same messages", "others")
    turned = dict(reversed(given.items()))
    own.keeps(_messages(own, made, turned) == first, "the order of the inputs means nothing", "other messages")
    more = {**given, "an_input_of_no_use": "unused"}
    own.keeps(_messages(own, made, more) == first, "inputs that it does not use change nothing", "other messages")
    for name in sorted(names):
        _is_missed(own, made, given, name)
        if isinstance(given[name], str) and name not in hidden:
            _is_shown(own, made, given, name)


def _messages(own: Promises, prompt: Prompt, inputs: Mapping[str, object]) -> Messages:
    found = own.call(f"format takes {', '.join(inputs) or 'nothing'}", prompt.format, **inputs)
    own.keeps(isinstance(found, tuple), "format gives a tuple of messages", type(found).__name__)
    own.keeps(len(found) > 0, "format gives at least one message", "none")
    own.all_are(found, Message, "a message is a Message")
    return found


def _is_missed(own: Promises, prompt: Prompt, inputs: Mapping[str, object], name: str) -> None:
    """An error that says which variable it is."""
    rest = {one: value for one, value in inputs.items() if one != name}
    promise = f"without {name!r} format raises an error that names it"
    error = own.refuses(promise, prompt.format, **rest)
    named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error))
    own.keeps(named is not None, promise, f"{type(error).__name__}: {error}")


def _is_shown(own: Promises, prompt: Prompt, inputs: Mapping[str, object], name: str) -> None:
    """Values stand in the messages as they are, as often as any other."""
    marker = "qWx Zvk"
    times = _words(_messages(own, prompt, {**inputs, name: marker})).count(marker)
    promise = f"the value of {name!r} is in the messages as it is"
    own.keeps(times > 0, promise, f"{marker!r} gave no message that holds it; name it in hidden= if that is meant")
    others = [f"{{{one}}}" for one in sorted(prompt.variables)]
    for value in (*NASTY, *others, *(f"{{{one}}}" for one in others)):
        words = _words(_messages(own, prompt, {**inputs, name: value}))
        own.keeps(words.count(value) >= times, promise, f"{value!r} became {words!r}")


def _words(messages: Messages) -> str:
    return "\0\0".join(message.content for message in messages)
