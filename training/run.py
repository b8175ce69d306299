"""One training run: from a recording and its graph to a checkpoint."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.checkpoint import Checkpoint, ReferenceStream, Site
from stunet_deploy.config import RunConfig, Signal, SRNNRunConfig
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.st_graph.files import st_graph_of_sensors
from training import transfer
from training.loop import Epoch, Trainer
from training.profile import ProfileTables, mean_readings
from training.protocols import Split, choose_protocol, normalisation

REFERENCE_INTERVALS = 1_300
REFERENCE_BYTES = 64_000_000
#: Physical limits lie this factor beyond the extremes of the training span.
HEADROOM = 1.2


def train(
    series: Series,
    graph: SensorGraph,
    config: RunConfig | SRNNRunConfig,
    *,
    types: Mapping[str, str] | None = None,
    start: Checkpoint | None = None,
    epochs: int | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    state_file: Path | None = None,
    resume: bool = False,
    report: Callable[[Epoch], None] = lambda epoch: None,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Checkpoint:
    """Train a model on the training span of a recording; no label that the test scores is ever looked at.

    Args:
        series: the whole recording.
        graph: of the same sensors in the same order.
        config: architecture, training, targets and split; its kind says which model family.
        types: type of every sensor, for a Structural-RNN; see :func:`stunet_deploy.st_graph.files.st_graph_of_sensors`.
        start: a trained Structural-RNN on a network with the same types, whose weights are the first ones; its
            architecture and targets are taken over, normalisation and limits are those of this recording.
        epochs: in place of the config's; 0 uses ``start`` on this network as it is.
        seed: of initial weights and of everything random in training.
        max_minutes, clock: see :class:`training.loop.Trainer`.
        state_file: where the run can be resumed from after a kill.
        resume: continue from ``state_file``.
        report: called after every epoch.
        device: a torch device.

    Raises:
        DataError: the graph has other sensors, or the recording is too short.
        ConfigError: an unknown target or device, no time to train, a training that diverges, or a ``start`` of
            another family, architecture, kind of data or with other types.
        CheckpointError: nothing to resume from, or another run's state.
    """
    if len(graph.adjacency) != len(series.sensor_ids):
        raise DataError(
            f"a graph of {len(graph.adjacency)} sensors for a series of {len(series.sensor_ids)}",
            "the same sensors",
            "give the graph of this network with --graph",
        )
    if max_minutes is not None and max_minutes <= 0:
        raise ConfigError(f"max_minutes = {max_minutes}", "a positive number of minutes", "give --max-minutes more")
    _check_device(device)
    if epochs == 0 and start is None:
        raise ConfigError("no epochs and no trained model", "at least one epoch", "give --epochs more, or --start-from")
    if epochs == 0 and resume:
        raise ConfigError("no epochs to resume", "at least one epoch", "leave out --resume, or --epochs 0")
    if epochs:
        config = replace(config, training=replace(config.training, epochs=epochs))
    if start is not None:
        config = transfer.continued(config, start, series)
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    fill = config.model.fill
    if isinstance(config, RunConfig) and fill == "forecast":
        # The fill has no weights of its own. `last` is known for a whole chunk at once, and learns as well or better.
        config = replace(config, model=replace(config.model, fill="last"))
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    signal = prepare_signal(series, split, config.targets, literature=config.model.fill == "zeros")
    torch.manual_seed(seed)
    tables = ProfileTables.of(series, split.train_rows, signal) if config.model.profile else None
    directed = None if start is None else transfer.is_directed(transfer.structural(start).graph)
    usual = mean_readings(series, split.train_rows, signal) if isinstance(config, RunConfig) else None
    model = build_model(config, graph, series.sensor_ids, signal, tables, types, directed, usual)
    if start is not None:
        transfer.take_weights(cast(StructuralRNN, model), transfer.structural(start))
    origin = "" if start is None else transfer.weights_hash(transfer.structural(start))
    model = model.to(device)
    trainer = Trainer(
        model, series, split, config.training, seed, max_minutes, state_file, report, tables, origin, clock
    )
    if resume:
        trainer.resume()
    if epochs == 0:
        history, best_epoch, error = [], 0, trainer.validate()
    else:
        history = trainer.run()
        best = min(history, key=lambda epoch: epoch.validation_mae)
        best_epoch, error = best.epoch, best.validation_mae
    coordinates = {
        name: None if degrees is None else tuple(degrees.tolist())
        for name, degrees in (
            ("latitude", series.latitude if graph.latitude is None else graph.latitude),
            ("longitude", series.longitude if graph.longitude is None else graph.longitude),
        )
    }
    site = Site(series.sensor_ids, series.units, series.interval_s, series.stamp, series.timezone, **coordinates)
    provenance: dict[str, Any] = {
        "data": series.source,
        "graph": graph.source,
        "protocol": split.protocol,
        "train_rows": [split.train_rows.start, split.train_rows.stop],
        "test_start": split.test_start,
        "config": asdict(config.training),
        "seed": seed,
        "max_minutes": max_minutes,
        "epochs": len(history),
        "best_epoch": best_epoch,
        "validation_mae": error,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    if start is not None:
        provenance["start"] = transfer.provenance(start)
    return Checkpoint(model.cpu().eval(), site, reference_stream(series, split), provenance).with_fill(fill)


def build_model(
    config: RunConfig | SRNNRunConfig,
    graph: SensorGraph,
    sensor_ids: tuple[str, ...],
    signal: Signal,
    tables: ProfileTables | None,
    types: Mapping[str, str] | None,
    directed: bool | None = None,
    usual: Tensor | None = None,
) -> Forecaster:
    """Return an untrained model on the graph of a sensor network; see :func:`train`, for ``directed``,
    :func:`stunet_deploy.st_graph.files.st_graph_of_sensors`, and for ``usual``, :func:`training.profile.mean_readings`.

    Raises:
        ConfigError: types of sensors for a family that does not know them.
        DataError: a sensor without a type.
    """
    table = None if tables is None else tables.whole
    if isinstance(config, SRNNRunConfig):
        st_graph = st_graph_of_sensors(graph.adjacency, sensor_ids, len(signal.features), types, directed)
        return StructuralRNN(config.model, st_graph, signal, table)
    if types is not None:
        raise ConfigError("types of sensors for an ST-UNet", "a Structural-RNN", "give --model srnn, or no --types")
    hierarchy = GraphHierarchy.build(
        graph.adjacency,
        pool_levels=[levels for levels, _ in config.model.scales],
        chebyshev_order=config.model.chebyshev_order,
        partition=config.model.partition,
        symmetrise=config.model.symmetrise,
        basis=config.model.basis,
    )
    return STUNet(config.model, hierarchy, signal, table, usual)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise ConfigError(
            f"device {device!r} ({str(error).splitlines()[0]})",
            "a device that torch can use here, such as cpu",
            "choose another --device",
        ) from error


def prepare_signal(series: Series, split: Split, targets: tuple[str, ...], *, literature: bool = False) -> Signal:
    """Return names, limits and normalisation (``literature``: see there) per feature, from the training span alone."""
    mean, std = normalisation(series, split, literature=literature)
    values, observed = series.values[split.train_rows].astype(np.float64), series.observed[split.train_rows]
    low = np.where(observed, values, np.inf).min((0, 1))
    high = np.where(observed, values, -np.inf).max((0, 1))
    # Negative readings are only possible where training saw some.
    low = np.where(low < 0, HEADROOM * low, 0.0)
    high = np.maximum(high + (HEADROOM - 1) * np.abs(high), low + std)
    return Signal(
        series.features,
        targets or series.features,
        mean=_floats(mean),
        std=_floats(std),
        low=_floats(low),
        high=_floats(high),
    )


def reference_stream(series: Series, split: Split) -> ReferenceStream:
    """Return consecutive intervals before the test span, as many as a checkpoint may hold, the latest of that length.

    In a recording with breaks, an older run of rows is better than a short one: drift takes time to show.
    """
    row_bytes = 8 + series.values[0].nbytes + series.observed[0].nbytes  # with its time
    longest = max(1, min(REFERENCE_INTERVALS, REFERENCE_BYTES // row_bytes))
    before = [
        slice(run.start, min(run.stop, split.test_start)) for run in series.segments() if run.start < split.test_start
    ]
    run = max(before, key=lambda run: (min(run.stop - run.start, longest), run.start))
    rows = slice(max(run.start, run.stop - longest), run.stop)
    observed = series.observed[rows].copy()
    values = np.where(observed, series.values[rows], 0.0).astype(np.float32)
    return ReferenceStream(series.timestamps[rows].copy(), values, observed)


def _floats(column: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(number) for number in column)
