"""Prompts as JSON, and what stays behind when they are saved: code.

    save_prompt(prompt, "qa.json")
    prompt = load_prompt("qa.json")

A saved prompt is data: its templates reach no attribute, import or file, whoever wrote the file (`sandbox.py`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from condition.errors import ConditionError, PromptError
from condition.prompts.braces import check_widths
from condition.prompts.compose import Joined, Partial, PipelinePrompt
from condition.prompts.copies import MOST, multiplies
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.history import History
from condition.prompts.lost import LostPrompt, code_in, lost_parser
from condition.prompts.sandbox import check_jinja
from condition.prompts.saved_parsers import parser_from_json, parser_to_json
from condition.prompts.saved_selectors import example_from_json, example_to_json, selector_from_json, selector_to_json
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import APART, Told
from condition.protocols import Prompt
from condition.types import Message

VERSION = 2
"""1 had the kinds chat, text and code, and no number."""


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """What `prompt_from_json` reads. Of a prompt, or a part of one, that is code only the names are kept.

    Warns where a parser is code: the prompt comes back without it.
    """
    saved = _written(prompt)
    if lost := lost_parser(saved):
        warnings.warn(
            f"the parser {lost} is code and not saved: answers will not be parsed where this is loaded. "
            "Use one of condition.prompts.parse, or give the prompt again there with model.with_prompt(prompt)",
            stacklevel=2,
        )
    return saved


def _written(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, ChatPrompt | TextPrompt):
        code = prompt.inputs.__qualname__ if prompt.inputs else None
        if not _may_be_read(prompt):
            name = f"{type(prompt).__qualname__} with a template that reaches into its values"
            return {"kind": "code", "name": name, "variables": sorted(prompt.variables)}
        parse = {} if prompt.parse is None else {"parse": parser_to_json(prompt.parse)}
        return {**prompt.to_json(), **parse, **({"inputs": code} if code else {})}
    if isinstance(prompt, LostPrompt):
        return {"kind": "code", "name": prompt.name, "variables": sorted(prompt.variables)}
    made = _made_of_prompts(prompt)
    if made is None or multiplies(made):
        return {"kind": "code", "name": type(prompt).__qualname__, "variables": sorted(prompt.variables)}
    return {**made, "version": VERSION}


def prompt_from_json(saved: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` wrote. One that was code is a `LostPrompt`, which says what to do.

    Raises PromptError for anything else, and for what a later version has written.
    """
    try:
        if saved.get("version", 1) > VERSION:
            raise PromptError(
                f"this prompt was saved by a later version of condition (format {saved['version']}, known: {VERSION}): "
                "update condition to read it"
            )
        if saved["kind"] == "code" or saved.get("inputs"):
            name = saved["name"] if saved["kind"] == "code" else f"a prompt with the input model {saved['inputs']}"
            return LostPrompt(name, saved.get("variables", ()))
        if saved["kind"] not in _READERS:
            raise PromptError(
                f"a saved prompt can't be read: its kind is {saved['kind']!r}, not one of {', '.join(_READERS)}"
            )
        prompt = _READERS[saved["kind"]](saved)
        if multiplies(saved):
            raise PromptError(
                f"a prompt from a file may write its words {MOST:,} times at most: here prompts within prompts "
                "multiply them. Make this prompt in Python instead, if you trust it"
            )
        return prompt
    except PromptError:
        raise
    except (ConditionError, KeyError, TypeError, ValueError, AttributeError, ValidationError, RecursionError) as error:
        raise PromptError(f"a saved prompt can't be read: {error!r}") from error


def save_prompt(prompt: Prompt, file: str | Path) -> None:
    """Write a prompt as JSON. Raises PromptError where part of it is code, which would be lost, and where it can't."""
    saved = _written(prompt)
    if lost := code_in(saved):
        raise PromptError(
            f"{lost} is code or holds values that JSON can't, such as a tuple, which would come back as a list: "
            "save the rest without it, and make that part in Python"
        )
    text = json.dumps(saved, ensure_ascii=False, indent=2) + "\n"
    half = Path(f"{file}.half")  # a full disk leaves what was there before
    try:
        # Half a character, which UTF-8 can't write, is kept as its escape.
        half.write_bytes(text.encode("utf-8", "backslashreplace"))
        half.replace(file)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise PromptError(f"{file} can't be written: {error}") from error


def load_prompt(file: str | Path) -> Prompt:
    """The prompt that `save_prompt` wrote. Raises PromptError where the file is missing or holds no prompt."""
    try:
        saved = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PromptError(f"{file} can't be read as a prompt: {error}") from error
    return prompt_from_json(saved)


def prompt_of(saved: Mapping[str, Any] | None) -> Prompt | None:
    """The prompt of a tuned model, which may have none. Warns where its parser was code, and is lost."""
    if saved is None:
        return None
    prompt = prompt_from_json(saved)
    if lost := lost_parser(saved):
        warnings.warn(
            f"this model was tuned with the parser {lost}, which is code and was not saved with it: "
            "its answers are not parsed until you give the prompt again with model.with_prompt(prompt)",
            stacklevel=2,
        )
    return prompt


def _made_of_prompts(prompt: Prompt) -> dict[str, Any] | None:
    """The parts of a prompt that is made of others; None where it is code."""
    if isinstance(prompt, Joined):
        return {"kind": "joined", "parts": [_written(part) for part in prompt.parts]}
    if isinstance(prompt, Partial):
        pairs = _histories(prompt.prompt)  # which takes a list for a pair as well
        values = {name: _listed(value) if name in pairs else value for name, value in prompt.values.items()}
        return {"kind": "partial", "prompt": _written(prompt.prompt), "values": values} if _is_json(values) else None
    if isinstance(prompt, PipelinePrompt):
        # A list keeps the order of the parts wherever the JSON has been.
        parts = [[name, _written(part)] for name, part in prompt.parts.items()]
        return {"kind": "pipeline", "prompt": _written(prompt.prompt), "parts": parts}
    if isinstance(prompt, History):
        return {"kind": "history", "name": prompt.name, "optional": prompt.optional, "last": prompt.last}
    if isinstance(prompt, Told):
        return {"kind": "told", "prompt": _written(prompt.prompt), "words": prompt.words, "gap": prompt.gap}
    return _few_shot(prompt) if isinstance(prompt, FewShotPrompt) else None


def _few_shot(prompt: FewShotPrompt) -> dict[str, Any] | None:
    selector = None if prompt.selector is None else selector_to_json(prompt.selector, prompt.examples)
    examples = [example_to_json(example) for example in prompt.examples]
    if (
        callable(prompt.order)
        or (prompt.selector is not None and selector is None)
        or not _is_json([examples, selector])
    ):
        return None
    return {
        "kind": "few-shot",
        "prompt": _written(prompt.prompt),
        "examples": examples,
        "selector": selector,
        "k": prompt.k,
        "order": prompt.order,
        "rationale": prompt.rationale,
        "instruction": None if prompt.instruction is None else _written(prompt.instruction),
        "separator": prompt.separator,
        "seed": prompt.seed,
    }


def _read_few_shot(saved: Mapping[str, Any]) -> Prompt:
    examples = [example_from_json(example) for example in saved["examples"]]
    _check(saved["rationale"])
    return FewShotPrompt(
        prompt_from_json(saved["prompt"]),
        examples,
        selector=None if saved["selector"] is None else selector_from_json(saved["selector"], examples),
        k=saved["k"],
        order=saved["order"],
        rationale=saved["rationale"],
        instruction=None if saved["instruction"] is None else prompt_from_json(saved["instruction"]),
        separator=saved["separator"],
        seed=saved["seed"],
    )


def _read_text(saved: Mapping[str, Any]) -> Prompt:
    _check(saved["template"], saved["format"])
    return TextPrompt(saved["template"], template_format=saved["format"], parse=_parser(saved))


def _read_chat(saved: Mapping[str, Any]) -> Prompt:
    for message in saved["messages"]:
        _check(message.get("template", ""), saved["format"])
    parts = [Message(m["role"], m["text"]) if "text" in m else (m["role"], m["template"]) for m in saved["messages"]]
    return ChatPrompt(parts, template_format=saved["format"], parse=_parser(saved))


def _parser(saved: Mapping[str, Any]) -> Callable[[str], Any] | None:
    return parser_from_json(saved["parse"]) if saved.get("parse") else None


_READERS: dict[str, Callable[[Mapping[str, Any]], Prompt]] = {
    "chat": _read_chat,
    "text": _read_text,
    "joined": lambda saved: Joined([prompt_from_json(part) for part in saved["parts"]]),
    "partial": lambda saved: Partial(prompt_from_json(saved["prompt"]), saved["values"]),
    "pipeline": lambda saved: PipelinePrompt(
        prompt_from_json(saved["prompt"]), {name: prompt_from_json(part) for name, part in saved["parts"]}
    ),
    "history": lambda saved: History(saved["name"], optional=saved["optional"], last=saved["last"]),
    "few-shot": _read_few_shot,
    "told": lambda saved: Told(prompt_from_json(saved["prompt"]), saved["words"], saved.get("gap", APART)),
}


def _may_be_read(prompt: ChatPrompt | TextPrompt) -> bool:
    templates = (
        [prompt.template] if isinstance(prompt, TextPrompt) else [m[1] for m in prompt.messages if isinstance(m, tuple)]
    )
    try:
        for template in templates:
            _check(template, prompt.template_format)
    except PromptError:
        return False
    return True


def _check(template: object, template_format: object = "f-string") -> None:
    if isinstance(template, str):
        (check_jinja if template_format == "jinja2" else check_widths)(template)


def _is_json(value: object) -> bool:
    """Whether a value comes back as it was: a tuple would be a list, and the prompt would say another thing."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _histories(prompt: Prompt) -> set[str]:
    """The variables whose values are messages."""
    inner = prompt.parts if isinstance(prompt, Joined) else [prompt.prompt] if isinstance(prompt, Partial) else []
    return set().union(*map(_histories, inner)) | ({prompt.name} if isinstance(prompt, History) else set())


def _listed(value: object) -> object:
    return list(map(_listed, value)) if isinstance(value, list | tuple) else value
