"""The public names: sorted, all there, and loaded only when they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import condition

ROOT = Path(condition.__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "langchain", "langchain_core", "peft", "datasets", "matplotlib")

PROBE = """
import json, sys, time
began = time.perf_counter()
import condition
print(json.dumps({"seconds": time.perf_counter() - began, "modules": sorted(sys.modules)}))
"""


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert list(condition.__all__) == sorted(set(condition.__all__))


@pytest.mark.parametrize("name", condition.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(condition, name) is not None


def test_dir_shows_every_name() -> None:
    assert set(condition.__all__) <= set(dir(condition))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        condition.no_such_name  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    print(f"import condition: {found['seconds']:.3f} s")
    assert not set(HEAVY) & set(found["modules"])
