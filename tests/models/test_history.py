"""Log lines and their picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from condition.errors import DataError, ModelError
from condition.models.history import History

LINES = [
    {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.1},
    {"step": 2, "epoch": 1.0, "loss": 1.0},
    {"step": 2, "epoch": 1.0, "eval_loss": 1.5},
]


def test_a_sequence_of_dicts() -> None:
    history = History(LINES)
    assert list(history) == LINES
    assert history[-1] == LINES[-1]
    assert list(history[:2]) == LINES[:2]
    assert history.names() == ["eval_loss", "learning_rate", "loss"]
    assert history.series("loss") == ([1, 2], [2.0, 1.0])
    assert history.series("nothing") == ([], [])
    assert repr(history) == "History(3 lines, eval_loss, learning_rate, loss)"


def test_lines_are_its_own() -> None:
    lines = [dict(line) for line in LINES]
    history = History(lines)
    lines[0]["loss"] = 9.0
    assert history[0]["loss"] == 2.0


def test_a_picture(tmp_path: Path) -> None:
    figure = History(LINES).plot(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    [axes] = figure.axes
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert list(axes.lines[0].get_ydata()) == [2.0, 1.0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats per token)")


def test_losses_close_together_are_read_as_they_are() -> None:
    figure = History([{"step": step, "loss": 10.79 + step * 1e-4} for step in range(5)]).plot()
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert all(label.get_text().startswith("10.79") for label in axes.get_yticklabels()[1:-1])


def test_where_it_is_drawn_to(tmp_path: Path) -> None:
    History(LINES).plot(tmp_path / "new" / "folder" / "loss.png")
    assert (tmp_path / "new" / "folder" / "loss.png").is_file()
    (tmp_path / "file").write_text("x")
    for wrong in ("file/loss.png", "loss.xyz"):
        with pytest.raises(ModelError, match=rf"can't draw to .*{wrong}: .*\. Choose another file, such as 'loss.png'"):
            History(LINES).plot(tmp_path / wrong)


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert repr(History()) == "History(0 lines, nothing measured)"
    with pytest.raises(DataError, match="there is no curve"):
        History().plot(tmp_path / "empty.png")
    assert not list(tmp_path.iterdir())


def test_there_is_no_half_a_step() -> None:
    for last in (2, 4, 10, 1000):
        figure = History({"step": step, "loss": 1.0} for step in range(1, last + 1)).plot()
        figure.canvas.draw()
        assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())
