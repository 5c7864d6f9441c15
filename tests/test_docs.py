"""Runs the Python fences of the README and the documentation, each file as one script.

The fences of a file share their names, and run in an empty folder. A fence below `<!-- skip: reason -->` is left out.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^[ ]*<!--[ ]*skip:(?P<reason>.*?)-->[ ]*\n+)?"
    r"^(?P<indent>[ ]*)(?P<ticks>```+)python\b[^\n]*\n"
    r"(?P<code>.*?)"
    r"^(?P=indent)(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Fence:
    """Code of a page; `line` is the number of its first line there."""

    code: str
    line: int
    skip: str | None


def fences(text: str) -> list[Fence]:
    return [
        Fence(
            code=textwrap.dedent(match["code"]),
            line=text.count("\n", 0, match.start("code")) + 1,
            skip=match["reason"] and match["reason"].strip(),
        )
        for match in FENCE.finditer(text)
    ]


PAGES_WITH_CODE = [page for page in PAGES if fences(page.read_text(encoding="utf-8"))]


@pytest.mark.real
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fences(page.read_text(encoding="utf-8"))
    shown = [fence for fence in found if fence.skip is None]
    if not shown:
        pytest.skip("; ".join(fence.skip for fence in found if fence.skip))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for fence in shown:
        source = "\n" * (fence.line - 1) + fence.code  # so that a traceback names the line of the page
        exec(compile(source, str(page), "exec", dont_inherit=True), names)


def test_fences_are_found_with_line_and_skip() -> None:
    text = (
        "# Page\n\n```python\na = 1\n```\n\n"
        "<!-- skip: needs a GPU -->\n\n```python\nb = 2\n```\n\n"
        "- item\n  ```python\n  c = 3\n  ```\n\n```bash\nls\n```\n"
    )
    assert fences(text) == [
        Fence("a = 1\n", 4, None),
        Fence("b = 2\n", 10, "needs a GPU"),
        Fence("c = 3\n", 15, None),
    ]


def test_a_skip_says_why() -> None:
    for page in PAGES_WITH_CODE:
        for fence in fences(page.read_text(encoding="utf-8")):
            assert fence.skip != "", f"{page.name}:{fence.line}: skipped without a reason"
