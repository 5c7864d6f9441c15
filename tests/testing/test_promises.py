"""The checks are light to import, and every one is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import condition
from condition import protocols, testing
from condition.testing.promises import same

ROOT = Path(condition.__file__).resolve().parent.parent
PROBE = """
import sys
import condition.testing
from condition.testing import check_filter, check_metric, check_moderator, check_verifier
check_metric(lambda prediction, target: {"n": 1.0})
print(sorted({"pytest", "torch", "transformers", "langchain_core"} & set(sys.modules)))
"""


def test_import_loads_nothing_heavy_and_no_test_runner() -> None:
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_there_is_a_check_for_every_protocol() -> None:
    found = {p for p, value in vars(protocols).items() if getattr(value, "_is_protocol", False) and p != "Protocol"}
    assert {f"check_{name.lower()}" for name in found - {"RowProcessor"}} == set(testing.__all__)
    assert list(testing.__all__) == sorted(testing.__all__)
    assert all(callable(getattr(testing, name)) for name in testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no_such_check"):
        testing.no_such_check  # noqa: B018
    assert not set(testing.__all__) & set(condition.__all__)


def test_what_is_the_same() -> None:
    assert same({"a": [1.0, float("nan")]}, {"a": [1.0, float("nan")]})
    assert not same([1.0], [1.1], 1e-3)
    assert same([1.0], [1.0001], 1e-3)
    assert not same([1], [1, 2])
    assert not same({"a": 1}, {"b": 1})
    assert same(float("-inf"), float("-inf"), 1e-3)
