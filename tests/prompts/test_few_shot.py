"""Examples before the question: where they stand, in which order, and what is never among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from condition.errors import PromptError
from condition.prompts.few_shot import RECALLED, FewShotPrompt, following
from condition.prompts.history import History
from condition.prompts.selectors import RandomSelector
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import Told
from condition.types import Example, Message, Messages

QA = ChatPrompt([("system", "Be {tone}."), ("user", "{q}")])
TEXT = TextPrompt("Q: {q}\nA:")
SHOTS = [Example({"q": f"{i}+1"}, str(i + 1), f"Add 1 to {i}.", f"e{i}") for i in range(4)]
nasty = st.one_of(
    st.text(),
    st.text(alphabet="{}%#$[]()'\"\\ax\n\t\0\x1b\u202e\u2067\u200b\u05d0"),
    st.sampled_from(
        ["{q}", "{{q}}", "{", "{{ q }}", "{% raw %}", "{# c #}", "{q.__class__}", "\u202eabc", "\x00\x1b[0m"]
    ),
)


class Ranked:
    """Knows nothing of the item: gives the first k, best first."""

    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples

    def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
        return self.examples[:k]


def said(messages: Messages) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in messages]


def asked(messages: Messages) -> list[str]:
    return [m.content for m in messages if m.role == "user"]


def test_examples_are_turns_behind_one_system_message() -> None:
    messages = FewShotPrompt(QA, SHOTS[:2]).format(tone="brief", q="7+1")
    assert said(messages) == [
        ("system", "Be brief."),
        ("user", "0+1"),
        ("assistant", "1"),
        ("user", "1+1"),
        ("assistant", "2"),
        ("user", "7+1"),
    ]


def test_examples_are_text_before_text() -> None:
    (message,) = FewShotPrompt(TEXT, SHOTS[:2], instruction="Add {{1}}.").format(q="7+1")
    assert message == Message("text", "Add {1}.\n\nQ: 0+1\nA: 1\n\nQ: 1+1\nA: 2\n\nQ: 7+1\nA:")


def test_an_instruction_joins_the_system_message() -> None:
    messages = FewShotPrompt(QA, SHOTS[:1], instruction="Add {what}.").format(tone="brief", q="7+1", what="one")
    assert messages[0] == Message("system", "Add one.\n\nBe brief.")
    assert FewShotPrompt(QA, SHOTS[:1], instruction="Add {what}.").variables == {"tone", "q", "what"}


@pytest.mark.parametrize(
    ("before", "words", "follows"),
    [("A:", "1", " 1"), ("A: ", "1", "1"), ("A:\n", "1", "1"), ("A:", "\n1", "\n1"), ("", "1", " 1"), ("A:", "", "")],
)
def test_a_target_follows_with_one_space(before: str, words: str, follows: str) -> None:
    assert following(before, words) == follows


@given(q=nasty, target=nasty, rationale=nasty.filter(bool), item=nasty)
def test_values_are_never_parsed_twice(q: str, target: str, rationale: str, item: str) -> None:
    example = Example({"q": q}, target, rationale)
    for kind, chat, text in (
        ("f-string", "{q}", "<{q}> "),
        ("jinja2", "{{ q }}", "<{{ q }}> "),
    ):
        shots: Any = ChatPrompt([("user", chat)], template_format=kind)  # type: ignore[arg-type]
        messages = FewShotPrompt(shots, [example], rationale="{rationale}|{target}").format(q=item)
        shown = [] if item == q else [("user", q), ("assistant", f"{rationale}|{target}")]
        assert said(messages) == [*shown, ("user", item)]
        words: Any = TextPrompt(text, template_format=kind)  # type: ignore[arg-type]
        (message,) = FewShotPrompt(words, [example]).format(q=item)
        assert message.content == ("" if item == q else f"<{q}> {target}\n\n") + f"<{item}> "


def test_a_value_of_ten_megabytes() -> None:
    big = "{q} {{q}} {% x %} %s é\u202e\n" * 450_000
    assert len(big.encode()) > 10_000_000
    messages = FewShotPrompt(QA, [Example({"q": big}, big)]).format(tone="brief", q="{q}")
    assert [m.content for m in messages] == ["Be brief.", big, big, "{q}"]


class TestTheItemItself:
    def test_is_found_by_its_inputs(self) -> None:
        assert asked(FewShotPrompt(QA, SHOTS).format(tone="x", q="2+1")) == ["0+1", "1+1", "3+1", "2+1"]

    def test_another_takes_its_place(self) -> None:
        assert asked(FewShotPrompt(QA, SHOTS, k=2).format(tone="x", q="0+1")) == ["1+1", "2+1", "0+1"]

    def test_is_found_by_its_id(self) -> None:
        assert asked(FewShotPrompt(QA, SHOTS).format(tone="x", q="two and one", id="e2"))[:-1] == ["0+1", "1+1", "3+1"]

    def test_is_left_out_of_what_a_foreign_selector_gives_and_made_up_for(self) -> None:
        shots = FewShotPrompt(QA, SHOTS, selector=Ranked(SHOTS), k=2)
        assert asked(shots.format(tone="x", q="0+1")) == ["2+1", "1+1", "0+1"]

    def test_no_more_than_asked_are_shown_of_a_selector_that_gives_all(self) -> None:
        class All:
            def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
                return SHOTS

        shots = FewShotPrompt(QA, SHOTS, selector=All(), k=2)
        assert asked(shots.format(tone="x", q="1+1")) == ["2+1", "0+1", "1+1"]

    def test_an_example_of_the_same_words_with_another_id_is_left_out_too(self) -> None:
        assert asked(FewShotPrompt(QA, SHOTS[:2]).format(tone="x", q="0+1", id="other")) == ["1+1", "0+1"]


class TestOrder:
    def order(self, **options: Any) -> list[str]:
        return asked(FewShotPrompt(QA, SHOTS, **options).format(tone="x", q="9+1"))[:-1]

    def test_as_given_without_a_selector(self) -> None:
        for order in ("nearest-last", "nearest-first"):
            assert self.order(order=order, k=3) == ["0+1", "1+1", "2+1"]

    def test_nearest_last_and_first(self) -> None:
        assert self.order(selector=Ranked(SHOTS), k=3) == ["2+1", "1+1", "0+1"]
        assert self.order(selector=Ranked(SHOTS), k=3, order="nearest-first") == ["0+1", "1+1", "2+1"]

    def test_a_seed_gives_one_permutation(self) -> None:
        assert self.order(order="random", seed=1) == self.order(order="random", seed=1)
        orders = {tuple(self.order(order="random", seed=seed)) for seed in range(20)}
        assert len(orders) > 5
        assert all(sorted(order) == sorted(e.inputs["q"] for e in SHOTS) for order in orders)

    def test_a_function(self) -> None:
        assert self.order(order=lambda shown: shown[::2]) == ["0+1", "2+1"]

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(PromptError, match="'nearest-last', 'nearest-first', 'random'"):
            self.order(order="nearest")


def test_the_reasoning_is_shown_where_it_is_asked_for() -> None:
    def answer(rationale: Any) -> str:
        return FewShotPrompt(QA, SHOTS[:1], rationale=rationale).format(tone="x", q="9+1")[2].content

    assert answer(False) == "1"
    assert answer(True) == "Add 1 to 0. The answer is 1."
    assert answer(RECALLED) == "Evidence: Add 1 to 0.\nAnswer: 1"


def test_a_prompt_with_history_keeps_it_behind_the_examples() -> None:
    shots = ChatPrompt([("system", "s")]) + FewShotPrompt([("user", "{q}")], SHOTS[:1]) + History() + "{q}?"
    messages = FewShotPrompt([("user", "{q}")], SHOTS[:1]).format(q="9+1")
    assert said(messages) == [("user", "0+1"), ("assistant", "1"), ("user", "9+1")]
    assert shots.variables == {"history", "q"}


def test_other_prompts_are_written_whole_for_each_example() -> None:
    template = ChatPromptTemplate([("system", "s"), ("human", "{q}")])
    partial = ChatPrompt([("system", "Be {tone}."), ("user", "{q}")]).partial(tone="brief")
    for prompt, system in ((template, "s"), (partial, "Be brief.")):
        assert said(FewShotPrompt(prompt, SHOTS[:1]).format(q="9+1")) == [
            ("system", system),
            ("user", "0+1"),
            ("assistant", "1"),
            ("user", "9+1"),
        ]


def test_an_input_model_gives_defaults_to_examples_too() -> None:
    class Inputs(BaseModel):
        q: str
        unit: str = "m"

    prompt = ChatPrompt([("user", "{q} {unit}")], inputs=Inputs)
    assert asked(FewShotPrompt(prompt, SHOTS[:1]).format(q="9+1")) == ["0+1 m", "9+1 m"]


def test_an_input_model_decides_what_none_means_in_examples_too() -> None:
    class Inputs(BaseModel):
        q: str
        unit: str | None

    words = "{{ q }}{% if unit %} {{ unit }}{% endif %}"
    prompt = ChatPrompt([("user", words)], inputs=Inputs, template_format="jinja2")
    shots = FewShotPrompt(prompt, [Example({"q": "0+1", "unit": None}, "1")])
    assert asked(shots.format(q="9+1", unit="m")) == ["0+1", "9+1 m"]


def test_the_examples_of_an_item_can_be_fixed_for_others() -> None:
    shots = FewShotPrompt(QA, SHOTS, selector=Ranked(SHOTS), k=2, instruction="Add.", rationale=True)
    fixed = shots.fixed({"tone": "x", "q": "0+1"})
    assert asked(fixed.format(tone="x", q="N/A")) == ["2+1", "1+1", "N/A"]
    assert fixed.format(tone="x", q="N/A")[:-1] == shots.format(tone="x", q="0+1")[:-1]
    nothing = FewShotPrompt(QA, SHOTS[:1], instruction="Add.").fixed({"tone": "x", "q": "0+1"})
    assert said(nothing.format(tone="x", q="N/A")) == [("system", "Add.\n\nBe x."), ("user", "N/A")]


def test_fixed_text_keeps_its_separator() -> None:
    shots = FewShotPrompt(TEXT, SHOTS, k=2, separator="\n--\n")
    assert shots.fixed({"q": "9+1"}).format(q="8+1")[0].content == "Q: 0+1\nA: 1\n--\nQ: 1+1\nA: 2\n--\nQ: 8+1\nA:"


def test_an_instruction_is_of_the_format_of_its_prompt() -> None:
    text = TextPrompt("Q: {{ q }}", template_format="jinja2")
    (message,) = FewShotPrompt(text, SHOTS[:1], instruction="Add {{ what }}.").format(q="9+1", what="{one}")
    assert message.content == "Add {one}.\n\nQ: 0+1 1\n\nQ: 9+1"
    chat = ChatPrompt([("user", "{{ q }}")], template_format="jinja2")
    messages = FewShotPrompt(chat, SHOTS[:1], instruction="Add {{ what }}.").format(q="9+1", what="{one}")
    assert messages[0] == Message("system", "Add {one}.")


def test_an_instruction_is_text_where_the_text_prompt_stands_within_another() -> None:
    for prompt in (Told(TEXT, "Think."), TEXT + " ", TextPrompt("Q: {q} {unit}\nA:").partial(unit="m")):
        (message,) = FewShotPrompt(prompt, SHOTS[:1], instruction="Be {tone}.").format(q="9+1", tone="<|im_end|>")
        assert message.content.startswith("Be <|im_end|>.\n\nQ: 0+1")
        start, stop = message.values[0]
        assert message.content[start:stop] == "<|im_end|>"
    jinja = ChatPrompt([("user", "{{ q }} {{ unit }}")], template_format="jinja2").partial(unit="m")
    messages = FewShotPrompt(jinja, SHOTS[:1], instruction="Be {{ tone }}.").format(q="9+1", tone="brief")
    assert messages[0] == Message("system", "Be brief.")


def test_what_came_from_values_is_known_in_text() -> None:
    (message,) = FewShotPrompt(TEXT, SHOTS[:1]).format(q="9+1")
    assert [message.content[start:stop] for start, stop in message.values] == ["0+1", " 1", "9+1"]


def test_the_selectors_examples_are_the_prompts() -> None:
    shots = FewShotPrompt(QA, selector=RandomSelector(SHOTS, on="q"), k=1)
    assert shots.examples == tuple(SHOTS)
    with pytest.raises(PromptError, match="example 1 has no 'q'"):
        FewShotPrompt(QA, selector=RandomSelector([Example({"x": "1"}, "2")]), k=1)


def test_a_selector_that_has_no_examples_to_show_is_asked_for_a_number() -> None:
    class Own:
        def select(self, inputs: Mapping[str, object], /, k: int) -> list[Example]:
            return SHOTS[:k]

    assert len(FewShotPrompt("{q}", selector=Own(), k=2).format(q="x")) == 5
    with pytest.raises(PromptError, match=r"how many examples is the selector to choose.*give k="):
        FewShotPrompt("{q}", selector=Own())


def test_a_preview_needs_no_values() -> None:
    shots = FewShotPrompt(QA, SHOTS, selector=Ranked(SHOTS), k=1)
    assert [m.content for m in shots.preview()] == ["Be {tone}.", "0+1", "1", "{q}"]
    assert shots.preview(tone="x", q="9+1") == shots.format(tone="x", q="9+1")
    assert "<pre" in shots._repr_html_()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FewShotPrompt(QA, []), "no examples to choose from"),
        (lambda: FewShotPrompt(QA, None), "a list of Example, not NoneType"),  # type: ignore[arg-type]
        (lambda: FewShotPrompt(QA, [{"q": "1"}]), "an example is an Example, not dict"),  # type: ignore[list-item]
        (lambda: FewShotPrompt(QA, [SHOTS[0], Example({"question": "1"}, "2")]), "example 2 has no 'q', which the"),
        (
            lambda: FewShotPrompt(QA, [Example({"q": "1"}, "2", id="x")], rationale=True),
            r"example 1 \(x\) has no ratio",
        ),
        (lambda: FewShotPrompt(QA, SHOTS, rationale="{why} {target}"), "may use"),
        (lambda: FewShotPrompt(QA, [SHOTS[0], Example({"q": None}, "2")]), "example 2 has None as 'q'"),
        (lambda: FewShotPrompt(QA, [Example({"q": float("nan")}, "2")]), "example 1 has nan as 'q'"),
        (lambda: FewShotPrompt(QA, SHOTS, selector="semantic", k=2), "'semantic' is no selector"),  # type: ignore[arg-type]
        (lambda: FewShotPrompt(QA, SHOTS, separator=None), "separator=None"),  # type: ignore[arg-type]
        (lambda: FewShotPrompt(QA, SHOTS, k=-1), "k=-1"),
        (lambda: FewShotPrompt(QA, SHOTS, k=True), "k=True"),
        (lambda: FewShotPrompt([("system", "s")], SHOTS), "system messages only"),
    ],
)
def test_what_can_not_be_shown_is_refused_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()


def test_no_examples_by_number_is_the_prompt_itself() -> None:
    assert FewShotPrompt(QA, SHOTS, k=0).format(tone="x", q="9+1") == QA.format(tone="x", q="9+1")
