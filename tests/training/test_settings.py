"""What can be set, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from condition.errors import SettingsError
from condition.training.settings import Settings


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learnin_rate": 1e-3}, "Settings has no setting 'learnin_rate'; did you mean 'learning_rate'"),
        ({"batchsize": 4}, "did you mean 'batch_size'"),
        ({"xyzzy": 4}, "known: epochs, max_steps"),
        ({"epochs": 0}, r"Settings\.epochs = 0"),
        ({"batch_size": 0}, r"Settings\.batch_size = 0"),
        ({"learning_rate": "fast"}, r"Settings\.learning_rate = 'fast'"),
        ({"schedule": "cosin"}, r"Settings\.schedule = 'cosin'"),
        ({"precision": "fp8"}, r"Settings\.precision = 'fp8'"),
        ({"too_long": "cut"}, r"Settings\.too_long = 'cut'"),
        ({"warmup": 1.0}, r"Settings\.warmup"),
        ({"patience": 0}, r"Settings\.patience"),
        ({"at_once": 0}, "at_once is a number of rows, 1 or more, or 'auto'"),
        ({"at_once": "most"}, r"^Settings\.at_once = 'most': at_once is a number of rows, 1 or more, or 'auto'$"),
        ({"at_once": 2.5}, "at_once is a number of rows"),
        ({"at_once": True}, "at_once is a number of rows"),
        ({"report_to": None}, r"Settings\.report_to = None: give names, such as 'wandb' or .*, or leave it out"),
        ({"packing": True, "order": "by-length"}, "packing puts rows together by how they begin, order='by-length' by"),
        ({"neftune": 0}, r"Settings\.neftune"),
        ({"quantization_aware": 5}, r"Settings\.quantization_aware"),
        ({"optimizer": "lion"}, r"Settings\.optimizer"),
    ],
)
def test_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings(**options)


def test_every_wrong_one_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(epochs=-1, seed="x")
    assert "Settings.epochs" in str(caught.value)
    assert "Settings.seed" in str(caught.value)


def test_one_tracker_is_a_list_of_one() -> None:
    assert Settings(report_to="tensorboard").report_to == ("tensorboard",)
    assert Settings(report_to=["tensorboard", "wandb"]).report_to == ("tensorboard", "wandb")


def test_a_path_is_a_folder_too() -> None:
    assert Settings(output=Path("runs/x")).output == str(Path("runs/x"))
    assert Settings(output="runs/x").output == "runs/x"
    with pytest.raises(SettingsError, match=r"Settings\.output = 5"):
        Settings(output=5)


def test_frozen_and_documented() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().epochs = 3  # type: ignore[misc]  # the point of the test
    assert Settings.model_fields["save_every"].description
