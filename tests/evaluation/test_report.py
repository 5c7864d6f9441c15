"""The page as a browser takes it: well formed, loads nothing, runs nothing, and text from data stays text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from condition.errors import SettingsError
from condition.evaluation.charts import costs, scores, totals
from condition.evaluation.compare import compare
from condition.evaluation.comparison import Comparison
from condition.evaluation.report import SHOWN
from condition.evaluation.statistics import Estimate
from condition.evaluation.table import Method, calls, duration, markdown
from condition.evaluation.tasks.task import Task, TaskRow

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&'|\n# head"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order; keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def comparison(count: int = 12, name: str = "few-shot") -> Comparison:
    rows = [TaskRow(f"{i}{EVIL}", {EVIL: f"{EVIL} {i}", "passage": "word " * 300}, (EVIL, "b")) for i in range(count)]

    def metric(prediction: str, target: Any, /) -> Mapping[str, float]:
        return {f"f1{EVIL}": float(prediction == EVIL)}

    task = Task(f"task {EVIL}", rows, metric, prompt="{passage}")
    return compare({"zero": lambda i: "no", f"{name}{EVIL}": lambda i: EVIL}, task)


def method(name: str, score: float, **changes: Any) -> Method:
    told = {"milliseconds": 100.0, "trained_parameters": 0, "training_seconds": 0.0, **changes}
    return Method(name=name, score=Estimate(score, score - 0.1, score + 0.1, 50), **told)


PROMPT = method("long prompt", 0.5, milliseconds=2000.0)
TUNED = method(
    f"LoRA {EVIL}",
    0.7,
    trained_parameters=9_000,
    training_seconds=480.0,
    break_even=253.0,
    break_even_with="long prompt",
)


def test_nothing_from_data_becomes_markup() -> None:
    page = Page(comparison().to_html())
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "".join(page.words).count("alert('x')") > 12


def test_it_loads_nothing() -> None:
    text = comparison().to_html()
    addresses = set(re.findall(r"https?://[^\"' <)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_shows_the_rows_where_methods_disagree() -> None:
    text = comparison(SHOWN + 20).to_html()
    page = Page(text)
    assert page.tags.count("article") == SHOWN
    words = "".join(page.words)
    assert f"Where they disagree: {SHOWN + 20} of {SHOWN + 20} rows" in words
    assert f"The first {SHOWN} are shown" in words
    assert page.tags.count("details") == SHOWN  # the passage folds out
    assert Page(comparison(SHOWN + 20).to_html(shown=3)).tags.count("article") == 3


def test_it_is_written_where_asked(tmp_path: Path) -> None:
    table = comparison()
    text = table.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text


def test_a_notebook_shows_table_and_scores() -> None:
    page = Page(comparison()._repr_html_())
    assert {"table", "svg"} <= set(page.tags)
    assert not {"script", "html", "body"} & set(page.tags)


def test_a_row_of_markdown_is_one_line_with_its_cells() -> None:
    text = comparison().to_markdown()
    lines = text.split("\n\n")[0].splitlines()
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}
    assert "<script" not in text


@pytest.mark.parametrize("draw", [lambda m: scores(m, EVIL, True), lambda m: costs(m, EVIL, True), totals])
def test_charts_are_well_formed_and_inside_their_frame(draw: Any) -> None:
    root = ElementTree.fromstring(draw([PROMPT, TUNED]))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    places = [
        (name, float(value))
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy")
    ]
    assert places
    assert all(-1 <= value <= (width if "x" in name else height) + 1 for name, value in places)
    assert {e.tag.rpartition("}")[2] for e in root.iter()} <= {"svg", "style", "g", "line", "circle", "text", "title"}


def test_dots_stand_at_their_scores() -> None:
    """Two methods 20 points apart, and a third in the middle of them."""
    root = ElementTree.fromstring(scores([method("a", 0.3), method("b", 0.4), method("c", 0.5)], "f1", True))
    dots = [float(e.attrib["cx"]) for e in root.iter() if e.tag.endswith("circle")]
    assert dots[2] - dots[1] == pytest.approx(dots[1] - dots[0], abs=0.11)
    ticks = {t.text: float(t.attrib["x"]) for t in root.iter() if t.tag.endswith("text") and "x" in t.attrib}
    assert dots[1] == pytest.approx(ticks["40"], abs=0.11)


def test_lines_of_time_cross_at_the_break_even() -> None:
    root = ElementTree.fromstring(totals([PROMPT, TUNED]))
    lines = [e for e in root.iter() if e.attrib.get("stroke-width") == "2.5"]
    (x1, a1, x2, a2), (_, b1, _, b2) = ([float(e.attrib[n]) for n in ("x1", "y1", "x2", "y2")] for e in lines)
    crossing = x1 + (x2 - x1) * (a1 - b1) / ((a1 - b1) - (a2 - b2))
    assert (crossing - x1) / (x2 - x1) == pytest.approx(0.5, abs=0.01)  # twice the calls are drawn


@pytest.mark.parametrize("tuned", [{"break_even": math.inf, "break_even_with": "long prompt"}, {}])
def test_where_nothing_breaks_even_there_is_no_such_chart(tuned: dict[str, Any]) -> None:
    assert totals([PROMPT, method("LoRA", 0.7, **tuned)]) == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1.0, 1.0), (0.31, 0.3101), (0.0, 1.0), (3.5, 812.0)])
def test_any_scores_can_be_drawn(low: float, high: float) -> None:
    found = [method("a", low), method("b", high)]
    exact = [m.model_copy(update={"score": Estimate(m.score.value, m.score.value, math.inf, 3)}) for m in found]
    for methods in (found, exact):
        for percent in (True, False):
            ElementTree.fromstring(scores(methods, "f1", percent))
            ElementTree.fromstring(costs(methods, "f1", percent))


@pytest.mark.parametrize(
    ("number", "text"), [(None, "–"), (math.inf, "never"), (0, "always"), (1, "1"), (12345.0, "12,345")]
)
def test_break_even_in_words(number: float | None, text: str) -> None:
    assert calls(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.25, "0.2 s"), (90, "90 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_notes_say_what_the_numbers_are_of() -> None:
    text = markdown([PROMPT, TUNED, method("x", 0.1, stopped="surely worse than 'LoRA' after 32 rows")], True)
    assert "cheaper than 'long prompt' after 253 calls, training included" in text
    assert "x: surely worse than 'LoRA' after 32 rows. Its numbers are of the rows until then." in text


def test_pandas_and_a_picture(tmp_path: Path) -> None:
    table = comparison(name="$few$")
    frame = table.to_pandas()
    assert list(frame.index) == [m.name for m in table.methods]
    assert frame["score"].tolist() == [0.0, 1.0]
    assert {"score_low", "difference", "p_corrected", "milliseconds"} <= set(frame.columns)
    table.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_nothing_is_wanted_where_a_row_has_no_target() -> None:
    rows = [TaskRow(str(i), {"q": i}, None) for i in range(3)]
    table = compare(
        {"one": lambda i: "a", "other": lambda i: "b"},
        Task("t", rows, lambda said, target: {"a": float(said == "a")}, prompt="{q}"),
    )
    assert "wanted" not in table.to_html()


@pytest.mark.parametrize("shown", [-1, 2.5, None])
def test_rows_to_show_are_a_number(shown: Any) -> None:
    with pytest.raises(SettingsError, match=r"shown=.*: give the number of rows to show, 0 for none"):
        comparison(2).to_html(shown=shown)
