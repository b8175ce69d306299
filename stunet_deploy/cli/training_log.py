"""The log of a training: a CSV beside the model, lines or a progress bar, TensorBoard on request."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.files import replacing
from stunet_deploy.wording import in_figures
from training.history import Epoch

if TYPE_CHECKING:
    from rich.progress import Progress

COLUMNS = [field.name for field in fields(Epoch)]


class TrainingLog(ExitStack):
    """Writer of epochs to CSV, console and TensorBoard; a context manager.

    Args:
        path: the CSV, written whole after every epoch.
        console: for the progress.
        epochs: planned number, if it is known.
        resume: keep the lines that the interrupted run wrote.
        tensorboard: folder of TensorBoard's log, or None.
        unit: of the validation error; empty where it is unknown.
    """

    def __init__(
        self,
        path: Path,
        console: Console,
        epochs: int | None,
        resume: bool,
        tensorboard: Path | None,
        unit: str = "",
    ) -> None:
        super().__init__()
        self._path = path
        self._console = console
        self._epochs = epochs
        self._unit = f" {unit}" if unit else ""
        self._rows = _read(path) if resume else []
        self._best = min((float(row["validation_mae"]) for row in self._rows), default=float("inf"))
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._progress: Progress | None = None

    def __enter__(self) -> TrainingLog:
        if self._tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._tensorboard))
            self.callback(self._writer.close)
        if self._console.interactive:
            self._progress = self.enter_context(_progress(self._console))
            self._progress.add_task("training", total=self._epochs, completed=len(self._rows))
        return self

    def report(self, epoch: Epoch) -> None:
        """Log one epoch; the CSV's own entries from there on belong to an abandoned run and are replaced."""
        self._rows = [row for row in self._rows if int(row["epoch"]) < epoch.epoch] + [asdict(epoch)]
        with replacing(self._path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
        if self._writer is not None:
            for name in ("loss", "validation_mae", "learning_rate"):
                self._writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
        better = epoch.validation_mae < self._best
        self._best = min(self._best, epoch.validation_mae)
        planned = "" if self._epochs is None else f"/{self._epochs}"
        line = (
            f"epoch {epoch.epoch:3d}{planned}  loss {epoch.loss:.4f}  "
            f"validation MAE {in_figures(epoch.validation_mae, 3)}{self._unit}"
            f"{' *' if better else '  '}  {epoch.seconds:.1f} s"
        )
        if self._progress is None:
            self._console.say(line)
        else:
            task = self._progress.task_ids[0]
            self._progress.update(task, completed=epoch.epoch, description=line)


def _progress(console: Console) -> Progress:
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Terminal(file=console.err))


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if set(row) == set(COLUMNS)]
    except FileNotFoundError:
        return []
