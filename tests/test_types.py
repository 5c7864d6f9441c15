from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from condition import types, values
from condition.adapters.lora import LoRA
from condition.errors import DataError, SettingsError
from condition.models.quantize import Quantization
from condition.training.settings import Settings
from condition.types import (
    Answer,
    Completion,
    Example,
    Feedback,
    Message,
    Options,
    Ranking,
    Rendered,
    Sampling,
    Score,
    Span,
    Usage,
    Value,
    Verdict,
)

# One of each, with all fields set.
VALUES = [
    Message("user", "hi"),
    Example({"question": "q"}, "a", "because", "7"),
    Ranking({"question": "q"}, ("best", "worst")),
    Feedback({"question": "q"}, "an answer", True),
    Sampling(max_tokens=4, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, n=2, stop=("\n",), seed=1),
    Usage(input_tokens=1, output_tokens=2, computed_tokens=3, saved_tokens=4, seconds=0.5),
    Completion("hi", (1, 2), -0.5, "length", Usage(input_tokens=1), (-0.2, -0.3)),
    Score(-1.5, 2, 5),
    Answer("a", "because", 0.5, (Completion("a"),), Usage(input_tokens=1), 7),
    Verdict(False, ("spam",), "it sells"),
    Rendered(ids=(1, 2), spans=(Span("user", 0, 1), Span("stop", 1, 2)), labels=(-100, 2)),
]
NAMES = [type(v).__name__ for v in VALUES]


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
class TestEveryValue:
    def test_is_frozen(self, value: Value) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, next(iter(type(value).model_fields)), None)

    def test_refuses_unknown_fields(self, value: Value) -> None:
        refused = (ValidationError, TypeError, SettingsError)
        with pytest.raises(refused, match=r"not permitted|unexpected keyword|no setting 'colour'"):
            type(value).model_validate({**dict(value), "colour": "red"})

    def test_comes_back_from_json(self, value: Value) -> None:
        assert type(value).model_validate_json(value.model_dump_json()) == value

    def test_comes_back_from_pickle(self, value: Value) -> None:
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - written in this line

    def test_copies_with_a_change(self, value: Value) -> None:
        assert value.model_copy() == value


def test_every_value_type_is_in_the_table() -> None:
    public = {
        t for t in vars(types).values() if isinstance(t, type) and issubclass(t, Value) and t not in (Value, Options)
    }
    assert public == {type(v) for v in VALUES}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Message("robot", "x"),  # type: ignore[arg-type]
        lambda: Message("user", 5),  # type: ignore[arg-type]
        lambda: Completion("x", finish_reason="tired"),  # type: ignore[arg-type]
    ],
)
def test_wrong_values_are_refused(wrong: Callable[[], Value]) -> None:
    with pytest.raises(ValidationError):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Example("a", "b"), r"Example\.inputs = 'a': .*(mapping|dictionary).*\. Write Example\(\{'question'"),
        (lambda: Example({"q": 1}, 5), r"Example\.target = 5: .*string.*\. Write Example"),
        (lambda: Ranking("a", ("b", "c")), r"Ranking\.inputs = 'a': .*(mapping|dictionary).*\. Write Ranking"),
        (lambda: Ranking({}, ("only one",)), r"Ranking\.candidates = .*at least 2.*\. Write Ranking"),
    ],
)
def test_wrong_rows_are_data_errors_that_show_a_right_one(wrong: Callable[[], Value], message: str) -> None:
    with pytest.raises(DataError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, r"^Sampling\.max_tokens = 0: "),
        ({"n": 0}, r"^Sampling\.n = 0: Input should be greater than or equal to 1$"),
        ({"stop": 3}, r'^Sampling\.stop = 3: give a text or several, such as \["\\n"\]$'),
        ({"temperature": -0.1}, r"^Sampling\.temperature = -0\.1: "),
        ({"temperature": float("inf")}, r"^Sampling\.temperature = inf: "),
        ({"top_p": 0.0}, r"^Sampling\.top_p = 0\.0: "),
        ({"top_p": 1.1}, r"^Sampling\.top_p = 1\.1: "),
        ({"top_k": -1}, r"^Sampling\.top_k = -1: "),
        ({"min_p": 1.1}, r"^Sampling\.min_p = 1\.1: "),
        ({"stop": ("",)}, "^Sampling: an empty stop text would end every completion"),
        ({"max_new_tokens": 5}, r"^Sampling has no setting 'max_new_tokens'; did you mean 'max_tokens'\?$"),
    ],
)
def test_wrong_sampling_is_a_settings_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Sampling(**settings)


def test_the_defaults_of_sampling_are_the_designs() -> None:
    expected = {
        "max_tokens": 256,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "n": 1,
        "stop": (),
        "seed": None,
    }
    assert dict(Sampling()) == expected


def test_one_stop_text_may_stand_alone() -> None:
    assert Sampling(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert Sampling(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_one_category_may_stand_alone() -> None:
    assert Verdict(False, "spam").categories == Verdict(False, ["spam"]).categories == ("spam",)


def test_lists_become_tuples() -> None:
    assert Sampling(stop=["a", "b"]) == Sampling(stop=("a", "b"))
    assert hash(Sampling(stop=["a"])) == hash(Sampling(stop="a"))
    assert LoRA(whole=["lm_head"]) == LoRA(whole=("lm_head",))
    assert Settings(report_to=["wandb"]) == Settings(report_to="wandb") == Settings(report_to=("wandb",))
    assert Ranking({}, ["a", "b"], [2, 1]) == Ranking({}, ("a", "b"), (2.0, 1.0))
    assert Answer("a", candidates=[Completion("a")]).candidates == (Completion("a"),)


def test_an_answer_prints_its_text() -> None:
    assert str(Answer("Paris", reasoning="France")) == "Paris"


def test_a_pair_is_a_ranking_of_two() -> None:
    assert Ranking.pair({"q": 1}, "good", "bad") == Ranking({"q": 1}, ("good", "bad"))


counts = st.integers(0, 10**6)
usages = st.builds(Usage, input_tokens=counts, output_tokens=counts, computed_tokens=counts, saved_tokens=counts)


@given(usages, usages, usages)
def test_usage_adds_like_numbers(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a
    assert (a + b).total_tokens == a.total_tokens + b.total_tokens


@given(st.lists(st.integers(0, 99)), st.lists(st.integers(0, 99), min_size=1))
def test_prompt_ids_end_before_the_first_label(prompt: list[int], target: list[int]) -> None:
    rendered = Rendered(ids=(*prompt, *target), spans=(), labels=(*[-100] * len(prompt), *target))
    assert rendered.prompt_ids == tuple(prompt)


def test_without_labels_everything_is_prompt() -> None:
    assert Rendered(ids=(5, 6), spans=(), labels=(-100, -100)).prompt_ids == (5, 6)


class Oven(Options):
    degrees: int = 180
    grill: bool = False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degree": 200}, r"Oven has no setting 'degree'; did you mean 'degrees'\?"),
        ({"wheels": 4}, "Oven has no setting 'wheels'; known: degrees, grill"),
        ({"degrees": "hot"}, "Oven.degrees = 'hot': Input should be a valid integer"),
        ({"degree": 1, "wheels": 4}, "'degree'.*; .*'wheels'"),
    ],
)
def test_wrong_options_are_settings_errors_that_name_the_nearest(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Oven(**settings)


@pytest.mark.parametrize(
    ("owner", "theirs", "ours"),
    [
        (Settings, "lr", "learning_rate"),
        (Settings, "num_train_epochs", "epochs"),
        (Settings, "per_device_train_batch_size", "batch_size"),
        (Settings, "gradient_accumulation_steps", "accumulation"),
        (Settings, "max_seq_length", "max_length"),
        (LoRA, "r", "rank"),
        (LoRA, "lora_alpha", "alpha"),
        (Quantization, "load_in_4bit", "bits"),
    ],
)
def test_the_names_of_other_libraries_lead_to_ours(owner: type[Options], theirs: str, ours: str) -> None:
    with pytest.raises(SettingsError, match=rf"{owner.__name__} has no setting {theirs!r}; did you mean {ours!r}\?"):
        owner(**{theirs: 1})


def test_every_name_of_another_library_leads_to_a_setting_that_is_there() -> None:
    known = {name for owner in (Settings, LoRA, Quantization, Sampling) for name in owner.model_fields}
    assert set(values._ELSEWHERE.values()) <= known
    assert not values._ELSEWHERE.keys() & known


def test_only_a_name_that_the_class_has_is_offered() -> None:
    with pytest.raises(SettingsError, match="Oven has no setting 'lr'; known: degrees, grill"):
        Oven(lr=1)


def test_what_is_wrong_as_a_whole_is_said_once() -> None:
    with pytest.raises(SettingsError, match=r"^Quantization: 8 bits and kind 'nf4' do not go together"):
        Quantization(bits=8, kind="nf4")
