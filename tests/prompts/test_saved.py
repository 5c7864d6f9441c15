from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from condition.errors import PromptError
from condition.prompts.bm25 import BM25Selector
from condition.prompts.compose import PipelinePrompt
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.history import History
from condition.prompts.lost import LostPrompt
from condition.prompts.parse import first_of, last_number
from condition.prompts.saved import load_prompt, prompt_from_json, prompt_of, prompt_to_json, save_prompt
from condition.prompts.selectors import BalancedSelector, FixedSelector, LengthSelector, RandomSelector
from condition.prompts.similarity import DiverseSelector, MMRSelector, SemanticSelector
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import Told
from condition.protocols import Prompt
from condition.types import Example, Message, Messages


class Inputs(BaseModel):
    question: str
    tone: str = "brief"


class Own:
    variables = frozenset({"question"})

    def format(self, **inputs: object) -> Messages:
        return (Message("user", str(inputs["question"])),)


def saved(prompt: Prompt) -> Prompt:
    return prompt_from_json(json.loads(json.dumps(prompt_to_json(prompt))))


@pytest.mark.parametrize("prompt", [Own(), ChatPrompt([("user", "{question} {tone}")], inputs=Inputs)])
def test_a_prompt_that_is_code_is_never_guessed(prompt: Any) -> None:
    again = saved(saved(prompt))
    assert isinstance(again, LostPrompt)
    with pytest.raises(PromptError, match="with_prompt"):
        again.format(question="?")


def test_a_template_comes_back_the_same() -> None:
    prompt = ChatPrompt([("system", "{{braces}}"), ("user", "{question}"), Message("assistant", "{literal}")])
    assert saved(prompt).format(question="{x}") == prompt.format(question="{x}")


POOL = [Example({"q": f"word{i} {i}"}, "ab"[i % 2], f"because {i}", str(i)) for i in range(6)]
QA = ChatPrompt([("system", "s {{x}}"), ("user", "{q}")])
MADE: dict[str, Prompt] = {
    "joined": ChatPrompt([("system", "a")]) + History("past", optional=True, last=2) + "{q}",
    "joined text": TextPrompt("a ") + TextPrompt("{{ q }}", template_format="jinja2"),
    "partial": ChatPrompt([("user", "{q} {tone}")]).partial(tone="{brief}"),
    "partial history": (ChatPrompt([("system", "a")]) + History("past") + "{q}").partial(past=[("user", "{1}")]),
    "pipeline": PipelinePrompt(TextPrompt("{b}|{q}"), {"z": TextPrompt("[{q}]"), "b": TextPrompt("<{z}>")}),
    "few-shot": FewShotPrompt(QA, POOL, k=3, order="random", seed=4, rationale=True, instruction="Do {this}"),
    "few-shot text": FewShotPrompt(TextPrompt("Q: {q}\nA:"), POOL, separator="\n---\n"),
    "fixed": FewShotPrompt(QA, POOL, selector=FixedSelector(POOL[2:]), k=2),
    "random": FewShotPrompt(QA, POOL, selector=RandomSelector(POOL, 5), k=2),
    "balanced": FewShotPrompt(QA, POOL, selector=BalancedSelector(POOL, BM25Selector(POOL, k1=1.0)), k=2),
    "bm25": FewShotPrompt(QA, POOL, selector=BM25Selector(POOL, b=0.1, on="q"), k=2, order="nearest-first"),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_prompt_made_of_prompts_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    prompt, file = MADE[kind], tmp_path / "prompt.json"
    save_prompt(prompt, file)
    again = load_prompt(file)
    assert type(again) is type(prompt)
    assert again.variables == prompt.variables
    for q in ("word3 3", "word1 and {q}", "é\u202e"):
        row: dict[str, Any] = {"q": q, "past": [("user", "1"), ("assistant", "{2}")], "this": "it"}
        assert again.format(**row) == prompt.format(**row)
    assert prompt_to_json(again) == prompt_to_json(prompt)


@pytest.mark.parametrize("selector", [SemanticSelector(POOL), MMRSelector(POOL, diversity=0.2), DiverseSelector(POOL)])
def test_selectors_by_meaning_are_kept_with_the_embedded_encoder(selector: Any) -> None:
    again = saved(FewShotPrompt(QA, POOL, selector=selector, k=2))
    assert isinstance(again, FewShotPrompt)
    assert type(again.selector) is type(selector)
    assert getattr(again.selector, "diversity", None) == getattr(selector, "diversity", None)


@given(st.text(), st.text())
def test_examples_of_any_words_come_back(q: str, target: str) -> None:
    again = saved(FewShotPrompt(QA, [Example({"q": q}, target)]))
    assert isinstance(again, FewShotPrompt)
    assert again.examples == (Example({"q": q}, target),)


class Mine:
    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        return POOL[:k]


@pytest.mark.parametrize(
    "prompt",
    [
        FewShotPrompt(QA, POOL, selector=Mine()),
        FewShotPrompt(QA, POOL, selector=LengthSelector(POOL, 50, len)),
        FewShotPrompt(QA, POOL, order=lambda shown: shown),
        FewShotPrompt(QA, [Example({"q": object()}, "x")]),
        ChatPrompt([("user", "{q} {now}")]).partial(now=lambda: "noon"),
        ChatPrompt([("user", "{question} {tone}")], inputs=Inputs),
        ChatPrompt([("system", "a")]) + Own(),
        ChatPrompt([("user", "{{ q.title }}")], template_format="jinja2"),
        FewShotPrompt(TextPrompt("{{ q.title }}", template_format="jinja2"), POOL),
    ],
    ids=lambda prompt: type(prompt).__name__,
)
def test_code_is_not_written_to_a_file_and_never_guessed(prompt: Prompt, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="is code or holds values that JSON can't"):
        save_prompt(prompt, tmp_path / "prompt.json")
    assert not (tmp_path / "prompt.json").exists()
    with pytest.raises(PromptError, match="with_prompt"):
        saved(prompt).format(q="x", question="x", tone="y")


def shout(text: str) -> str:
    return text.upper()


def around(parse: Any) -> list[Prompt]:
    """Prompts of every kind that has the parser of a prompt within."""
    chat, text = ChatPrompt([("user", "{q}")], parse=parse), TextPrompt("{q}", parse=parse)
    pipeline = PipelinePrompt(chat, {"q": TextPrompt("{x}")})
    return [chat, text, FewShotPrompt(chat, POOL), chat + "{x}", chat.partial(q="x"), pipeline, Told(text, "Well?")]


@pytest.mark.parametrize("prompt", around(last_number), ids=lambda prompt: type(prompt).__name__)
def test_a_known_parser_is_kept(prompt: Prompt, tmp_path: Path) -> None:
    save_prompt(prompt, tmp_path / "prompt.json")
    assert load_prompt(tmp_path / "prompt.json").parse is last_number  # type: ignore[attr-defined]


@pytest.mark.parametrize("parse", [shout, first_of(last_number, shout)], ids=["own", "within"])
@pytest.mark.parametrize("place", range(7))
def test_a_parser_is_not_lost_without_a_word(place: int, parse: Any, tmp_path: Path) -> None:
    prompt = around(parse)[place]
    with pytest.raises(PromptError, match="the parser shout is code"):
        save_prompt(prompt, tmp_path / "prompt.json")
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match=r"the parser shout is code and not saved.*model\.with_prompt"):
        contract = prompt_to_json(prompt)
    with pytest.warns(UserWarning, match="tuned with the parser shout, which is code"):
        again = prompt_of(contract)
    assert again is not None
    assert again.variables == prompt.variables
    assert again.parse is None  # type: ignore[attr-defined]


def test_a_tuned_model_may_have_no_prompt() -> None:
    assert prompt_of(None) is None


@pytest.mark.parametrize("place", ["prompt", "instruction", "part", "text"])
def test_a_template_from_a_file_is_checked_wherever_it_stands(place: str, tmp_path: Path) -> None:
    messages = [{"role": "user", "template": "{{ q }}{{ q.upper() }}"}]
    hostile: dict[str, Any] = {"kind": "chat", "format": "jinja2", "messages": messages}
    made: dict[str, Any] = prompt_to_json(FewShotPrompt(QA, POOL[:1]))
    if place == "part":
        made = {"kind": "joined", "version": 2, "parts": [hostile]}
    elif place == "text":
        made = {"kind": "text", "format": "jinja2", "template": "{{ q }}{{ q.upper() }}"}
    else:
        made[place] = hostile
    (tmp_path / "prompt.json").write_text(json.dumps(made))
    with pytest.raises(PromptError, match="may only write values, loop and choose"):
        load_prompt(tmp_path / "prompt.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "later version of condition"),
        ({"kind": "poem"}, "not one of chat, text, joined"),
        ({"k": "many"}, "k='many'"),
        ({"order": "best"}, "order='best'"),
        ({"examples": []}, "no examples"),
        ({"examples": [{"inputs": {"q": "x"}}]}, "can't be read"),
        ({"examples": [{"inputs": {"q": "x"}, "target": "y", "code": "z"}]}, "can't be read"),
        ({"selector": {"kind": "mine"}}, "its kind is 'mine'"),
        ({"selector": {"kind": "semantic", "encoder": "https://x"}}, r"it has \['encoder'\]"),
        ({"selector": 5}, "can't be read"),
        ({"prompt": 5}, "can't be read"),
        ({"prompt": {**prompt_to_json(QA), "parse": {"name": "eval"}}}, "'eval' is none of final_answer"),
    ],
)
def test_a_few_shot_prompt_that_was_edited_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompt_from_json({**prompt_to_json(FewShotPrompt(QA, POOL)), **change})


def test_a_file_that_is_missing_or_no_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="can't be read as a prompt"):
        load_prompt(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(PromptError, match="can't be read"):
        load_prompt(tmp_path / "list.json")


def test_a_full_disk_leaves_the_prompt_that_was_there(tmp_path: Path) -> None:
    save_prompt(QA, tmp_path / "prompt.json")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most[1]))
    try:
        with pytest.raises(PromptError, match=r"prompt\.json can't be written"):
            save_prompt(FewShotPrompt(QA, POOL), tmp_path / "prompt.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert load_prompt(tmp_path / "prompt.json").format(q="x") == QA.format(q="x")
    assert [file.name for file in tmp_path.iterdir()] == ["prompt.json"]
    with pytest.raises(PromptError, match="can't be written"):
        save_prompt(QA, tmp_path / "nowhere" / "prompt.json")


@pytest.mark.parametrize("place", ["text", "chat", "rationale"])
def test_a_file_can_not_ask_for_gigabytes(place: str) -> None:
    wide = "{target:>10001}" if place == "rationale" else "{q:>10001}"
    chat = {"kind": "chat", "format": "f-string", "messages": [{"role": "user", "template": wide}]}
    made = {
        "text": {"kind": "text", "format": "f-string", "template": wide},
        "chat": chat,
        "rationale": {**prompt_to_json(FewShotPrompt(QA, POOL)), "rationale": wide},
    }
    with pytest.raises(PromptError, match="10,000 characters at most"):
        prompt_from_json(made[place])
    text = {"kind": "text", "format": "f-string", "template": "{q:>10000}"}
    assert len(prompt_from_json(text).format(q="x")[0].content) == 10_000


def test_a_file_of_prompts_in_prompts_in_prompts_is_refused(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"kind": "text", "format": "f-string", "template": "{x}"}
    for _ in range(5000):
        deep = {"kind": "joined", "parts": [deep]}
    for read in (prompt_from_json, prompt_of):
        with pytest.raises(PromptError, match="can't be read"):
            read(deep)
    (tmp_path / "prompt.json").write_text('{"kind": "joined", "parts": [' * 90_000)
    with pytest.raises(PromptError, match="can't be read as a prompt"):
        load_prompt(tmp_path / "prompt.json")


@pytest.mark.parametrize("parse", [5, "code", ["code"], {"name": 5}])
def test_a_parser_that_was_edited_is_refused(parse: Any) -> None:
    with pytest.raises(PromptError, match="can't be read"):
        prompt_of({"kind": "text", "format": "f-string", "template": "{x}", "parse": parse})
    assert isinstance(prompt_of({"kind": "code", "name": "Own", "parse": parse}), LostPrompt)


@pytest.mark.parametrize("value", [("a", "b"), {1: "a"}, [("user", "a")], [float("nan")]], ids=str)
def test_values_that_json_would_change_are_not_written(value: Any, tmp_path: Path) -> None:
    """A tuple would come back as a list, and stand in the prompt as one."""
    for prompt in (
        ChatPrompt([("user", "{q} {labels}")]).partial(labels=value),
        FewShotPrompt(QA, [Example({"q": value}, "x")]),
    ):
        with pytest.raises(PromptError, match="such as a tuple, which would come back as a list"):
            save_prompt(prompt, tmp_path / "prompt.json")
    save_prompt(ChatPrompt([("user", "{q} {labels}")]).partial(labels=["a", {"b": 1.5}]), tmp_path / "prompt.json")
    assert load_prompt(tmp_path / "prompt.json").format(q="x")[0].content == "x ['a', {'b': 1.5}]"


def test_a_file_of_prompts_that_multiply_each_other_is_refused(tmp_path: Path) -> None:
    def text(template: str, kind: str = "f-string") -> dict[str, Any]:
        return {"kind": "text", "format": kind, "template": template}

    def pipeline(*templates: dict[str, Any]) -> dict[str, Any]:
        *parts, last = templates
        return {"kind": "pipeline", "prompt": last, "parts": [[f"p{i}", part] for i, part in enumerate(parts)]}

    def few_shot(inner: dict[str, Any]) -> dict[str, Any]:
        return {**prompt_to_json(FewShotPrompt(TextPrompt("{q}"), POOL)), "prompt": inner}

    def doubled(times: int) -> dict[str, Any]:
        return pipeline(text("{q}"), *(text(f"{{p{i}}}{{p{i}}}") for i in range(times)))

    assert len(prompt_from_json(doubled(13)).format(q="x")[0].content) == 2**13
    loop = "{% for sign in p0 %}{{ p0 }}{% endfor %}"
    squared = pipeline(text("{q}"), text(loop, "jinja2"), text(loop.replace("p0", "p1"), "jinja2"), text("{p2}"))
    nested: dict[str, Any] = text("{q}")
    for _ in range(7):
        nested = few_shot({"kind": "joined", "parts": [nested]})
    within = pipeline(doubled(10), {"kind": "joined", "parts": [text("{p0}" * 16)]})
    for saved in (doubled(14), doubled(60), squared, nested, within):
        with pytest.raises(PromptError, match="prompts within prompts multiply"):
            prompt_from_json(saved)
    assert len(prompt_from_json(few_shot(few_shot(text("{q}")))).format(q="x")) == 1
    own: Prompt = TextPrompt("{q}")
    for _ in range(14):
        own = PipelinePrompt(TextPrompt("{q}{q}"), {"q": own})
    with pytest.raises(PromptError, match="PipelinePrompt is code"):
        save_prompt(own, tmp_path / "prompt.json")
