"""References of one test are no other test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from condition.training import references


@pytest.fixture(autouse=True)
def own_references(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that references are kept in."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(references, "cache_folder", lambda: folder)
    return folder / "references"
