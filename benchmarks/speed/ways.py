"""What benchmarks time against each other: an untrained model of a real network, its window as a graph, its stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNRunConfig, STUNetConfig
from stunet_deploy.graph.files import read_graph
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.series import Series
from training.protocols import protocol_a
from training.run import build_model, prepare_signal, reference_stream


class WindowForecast(torch.nn.Module):
    """The forecast after a window from zero state: what one deploys without a step.

    With ``last`` in place of the fill ``forecast``, for which a window is cut wherever a reading is missing: no graph
    of fixed shape does that.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = (checkpoint.with_fill("last") if checkpoint.model.config.fill == "forecast" else checkpoint).model
        self.eval()

    def forward(self, values: torch.Tensor, observed: torch.Tensor, time_of_week: torch.Tensor) -> torch.Tensor:
        """Return [batch, horizon, node, target] from inputs [batch, time, node, feature]."""
        inputs, last = StepInputs(values, observed, time_of_week), torch.tensor([values.shape[1] - 1])
        forecast, _ = self.model(inputs, self.model.initial_lines(len(values)), issued=last)
        return forecast[:, 0]


def st_unet(hidden: int) -> RunConfig:
    """Return the default ST-UNet with so many channels."""
    return RunConfig(model=STUNetConfig(hidden=hidden))


def random_checkpoint(series: Series, data: Path, config: RunConfig | SRNNRunConfig) -> Checkpoint:
    """Return an untrained model of the series' network, what starts at zero randomised."""
    graph = read_graph(data, series.sensor_ids)
    split = protocol_a(series)
    torch.manual_seed(0)
    model = build_model(config, graph, series.sensor_ids, prepare_signal(series, split, ())).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return Checkpoint(model, reference_stream(series, split), {"note": "random weights, for timing"})


def window_session(model: WindowForecast, inputs: tuple[torch.Tensor, ...]) -> Callable[[], Any]:
    """Export the window as one graph and return a call that runs it on one thread."""
    program = torch.onnx.export(model, inputs, dynamo=True, external_data=False, verbose=False)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
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
