"""What training logged, line by line, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final, overload

from condition.errors import DataError, ModelError


@final
class History(Sequence[dict[str, Any]]):
    """A dict for each log line: `step`, `epoch` and what was measured (`loss`, `learning_rate`, `eval_loss` …)."""

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lines = tuple(dict(line) for line in lines)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | History:
        return History(self._lines[index]) if isinstance(index, slice) else self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"History({len(self)} lines, {', '.join(self.names()) or 'nothing measured'})"

    def names(self) -> list[str]:
        """What was measured at least once."""
        return sorted({name for line in self._lines for name in line} - {"step", "epoch"})

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one measure."""
        found = [(line["step"], line[name]) for line in self._lines if name in line]
        return [step for step, _ in found], [value for _, value in found]

    def plot(self, path: str | Path | None = None) -> Any:
        """The loss curve as a matplotlib figure, training and validation; also written to `path` if given.

        Raises DataError where no loss was logged, and ModelError where the file can't be written.
        """
        if not {"loss", "eval_loss"} & set(self.names()):
            raise DataError("there is no curve: this model was not trained here, so no loss was logged")
        from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only plots need
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for name, label, style in (("loss", "training", ".-"), ("eval_loss", "validation", "o-")):
            steps, values = self.series(name)
            if values:
                axes.plot(steps, values, style, label=label)
        axes.set(xlabel="step", ylabel="loss (nats per token)", title="Loss")
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no step 2.5
        axes.ticklabel_format(axis="y", useOffset=False)  # 10.79 is not to be read as 0.0045 and a number in a corner
        axes.grid(alpha=0.3)
        if path is not None:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=120)
            except (OSError, ValueError) as error:
                said = str(error).rstrip(".")
                raise ModelError(f"can't draw to {path}: {said}. Choose another file, such as 'loss.png'") from error
        return figure
