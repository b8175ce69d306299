"""What is timed against each other: a model's window as a graph, and its stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.harness.sessions import open_session
from runtime.stream import Stream
from runtime.timing import Samples
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.series import Series


class WindowForecast(torch.nn.Module):
    """The forecast after a window from zero state: what one deploys without a step.

    With ``usual`` in place of the fill ``forecast``, for which a window is cut wherever a reading is missing: no graph
    of fixed shape does that.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        fill = checkpoint.model.config.fill
        self.model = checkpoint.with_fill("usual" if fill == "forecast" else fill).model
        self.eval()

    def forward(self, values: torch.Tensor, observed: torch.Tensor, time_of_week: torch.Tensor) -> torch.Tensor:
        """Return [batch, horizon, node, target] from inputs [batch, time, node, feature]."""
        inputs, last = StepInputs(values, observed, time_of_week), torch.tensor([values.shape[1] - 1])
        forecast: torch.Tensor = self.model(inputs, self.model.initial_lines(len(values)), issued=last)[0]
        return forecast[:, 0]


def window_inputs(series: Series, length: int) -> StepInputs:
    """Return the first window of a series, [batch, time, …]."""
    rows = slice(0, length)
    return StepInputs(
        torch.from_numpy(series.values[None, rows]),
        torch.from_numpy(series.observed[None, rows].astype(np.float32)),
        torch.from_numpy(series.time_of_week()[None, rows, None]),
    )


def window_call(model: WindowForecast, inputs: StepInputs) -> Callable[[], Any]:
    """Export the window as one graph and return a call that runs it on one thread."""
    program = torch.onnx.export(model, tuple(inputs), dynamo=True, external_data=False, verbose=False)
    assert program is not None
    session = open_session(program.model_proto)
    feed = {entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def streaming(bundle: Bundle, series: Series, threads: int) -> Callable[[], Any]:
    """Return a call that pushes the next interval of the series, over and over, with a running clock."""
    stream = Stream.open(bundle, threads=threads)
    values = np.where(series.observed, series.values, np.nan)
    clock = itertools.count()

    def push() -> Any:
        t = next(clock)
        return stream.push(values[t % len(values)], t * series.interval_s)

    return push


def burst(push: Callable[[], Any], count: int) -> Callable[[], Any]:
    """Return a call that pushes ``count`` intervals."""

    def pushes() -> None:
        for _ in range(count):
            push()

    return pushes


def microseconds(samples: Mapping[str, Samples]) -> dict[str, list[float]]:
    """Return the raw samples as a result keeps them."""
    return {name: (one.nanoseconds / 1000).round(1).tolist() for name, one in samples.items()}
