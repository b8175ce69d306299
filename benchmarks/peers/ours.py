"""This project's presets among the models that one would compare with, each as it is deployed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers.task import Floats, Rows, Task
from export.bundle import export_bundle
from runtime.stream import Stream
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.series.series import Series
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor


@dataclass(frozen=True)
class Preset:
    """A trained preset.

    Attributes:
        checkpoint: of the training.
        name: in the results.
    """

    checkpoint: Checkpoint
    name: str = "stunet"

    def window(self, series: Series, issue: Rows, length: int) -> Iterator[Floats]:
        """Forecast at the issue rows from zero state."""
        yield from TorchPredictor(self.checkpoint.model).window(series, issue, length)

    def stream(self, series: Series, start: int, issue: Rows) -> Iterator[Floats]:
        """Forecast with the state carried."""
        yield from TorchPredictor(self.checkpoint.model).stream(series, start, issue)

    def single_forecasts(self, task: Task, number: int) -> list[float]:
        """Return the CPU time of single forecasts of all sensors, in microseconds: pushes to a stream, as deployed.

        Args:
            task: with its recording.
            number: of forecasts, of the first rows of the test span.
        """
        times = []
        with tempfile.TemporaryDirectory() as folder:
            stream = Stream.open(export_bundle(self.checkpoint, Path(folder) / "model.bundle"))
            first = int(task.split.test[0])
            for row in range(first, first + number + 1):  # the first prepares
                begin = time.process_time_ns()
                stream.push(task.series.values[row], int(task.series.timestamps[row]), task.series.observed[row])
                times.append((time.process_time_ns() - begin) / 1000)
            stream.close()
        return times[1:]


def preset(name: str, task: Task) -> Preset:
    """Train a preset of ST-UNet."""
    config = read_run_config(None, "stunet", name, days=task.series.days)
    assert isinstance(config, RunConfig)
    return Preset(trained(config.model, config.training, task))


def trained(model: STUNetConfig, training: TrainingConfig, task: Task) -> Checkpoint:
    """Train an ST-UNet with this project's training, on one thread, as long as the task allows.

    Args:
        model: its window and horizon are those of the task.
        training: its epochs count where the task has fewer.
        task: recording, target and time.
    """
    model = replace(model, window=task.split.window, horizon=task.split.horizon)
    config = RunConfig(model, replace(training, threads=1), (task.target,), task.split.protocol)
    run = TrainingRun(
        *(task.series, task.graph, config),
        epochs=task.epochs if task.epochs < training.epochs else None,
        seed=task.seed,
        max_minutes=task.minutes,
        clock=task.clock,
    )
    return run.run()
