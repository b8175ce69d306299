"""A training run, from a recording and its graph to a checkpoint: prepare, fit, checkpoint."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, Signal, SRNNRunConfig
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.memory import DAYS_BEFORE
from stunet_deploy.models.sensors import SensorStatistics
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.st_graph.files import st_graph_of_sensors
from training import transfer
from training.history import Epoch, best_epoch, seconds_spent
from training.loop import Trainer
from training.protocols import Split, choose_protocol, normalisation
from training.resume import StateFile, run_identity
from training.sensors import sensor_statistics
from training.usual_days import LEAST_DAYS, UsualDays
from training.week_before import WeekBefore

REFERENCE_INTERVALS = 1_300
REFERENCE_BYTES = 64_000_000
#: Windows an update while a network without encoder is trained, and its share of a limited training time.
ALONE_BATCH, ALONE_SHARE = 32, 0.3
#: Physical limits lie this factor beyond the extremes of the training span.
HEADROOM = 1.2


@dataclass(frozen=True)
class Prepared:
    """A run before its first update.

    Attributes:
        config: with the architecture, targets and epochs of this run, and the fill of its checkpoint.
        split: of the recording.
        model: with its first weights, on the device of the run.
        usual, week_before: for a model that has a profile or a memory, see :class:`training.objective.Objective`.
    """

    config: RunConfig | SRNNRunConfig
    split: Split
    model: Forecaster
    usual: Tensor | None
    week_before: WeekBefore | None


@dataclass(frozen=True)
class Fit:
    """The result of the training loop.

    Attributes:
        history: the log, an entry per epoch.
        best_epoch: its epoch with the smallest validation error; 0 for none.
        validation_mae: that error.
    """

    history: Sequence[Epoch]
    best_epoch: int
    validation_mae: float


@dataclass(frozen=True)
class TrainingRun:
    """A training on the training span of a recording; the labels of the test span are not used.

    Attributes:
        series: the whole recording.
        graph: of the same sensors in the same order.
        config: architecture, training, targets and split; its class determines the model family.
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
        DataError: the graph has other sensors.
        ConfigError: an unknown device, no time or no epochs to train.
    """

    series: Series
    graph: SensorGraph
    config: RunConfig | SRNNRunConfig
    _: KW_ONLY
    types: Mapping[str, str] | None = None
    start: Checkpoint | None = None
    epochs: int | None = None
    seed: int = 0
    max_minutes: float | None = None
    state_file: Path | None = None
    resume: bool = False
    report: Callable[[Epoch], None] = lambda epoch: None
    device: str = "cpu"
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if len(self.graph.adjacency) != len(self.series.sensor_ids):
            raise DataError(
                f"a graph of {len(self.graph.adjacency)} sensors for a series of {len(self.series.sensor_ids)}",
                "the same sensors",
                "give the graph of this network with --graph",
            )
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ConfigError(
                f"max_minutes = {self.max_minutes}", "a positive number of minutes", "give --max-minutes more"
            )
        _check_device(self.device)
        if self.epochs == 0 and self.start is None:
            raise ConfigError(
                "no epochs and no trained model", "at least one epoch", "give --epochs more, or --start-from"
            )
        if self.epochs == 0 and self.resume:
            raise ConfigError("no epochs to resume", "at least one epoch", "leave out --resume, or --epochs 0")

    def run(self) -> Checkpoint:
        """Prepare, fit and return the checkpoint.

        Raises:
            DataError: the recording is too short.
            ConfigError: an unknown target, a training that diverges, or a ``start`` of another family, architecture,
                kind of data or with other types.
            CheckpointError: nothing to resume from, or another run's state.
        """
        prepared = self.prepare()
        return self.checkpoint(prepared, self.fit(prepared))

    def prepare(self) -> Prepared:
        """Return split, normalisation, profiles and the model with its first weights; see :meth:`run` for errors."""
        config = self.config
        if self.epochs:
            config = replace(config, training=replace(config.training, epochs=self.epochs, updates=0))
        if self.start is not None:
            config = transfer.continued(config, self.start, self.series)
        if config.training.threads:
            torch.set_num_threads(config.training.threads)
        split = choose_protocol(self.series, config.protocol, config.model.window, config.model.horizon)
        signal = prepare_signal(self.series, split, config.targets, literature=config.model.fill == "zeros")
        days = None
        if config.model.profile:
            remembers = isinstance(config, RunConfig) and config.model.memory
            days = UsualDays.of(self.series, split.train_rows, signal.targets, DAYS_BEFORE if remembers else ())
            if remembers and len(days.training) < LEAST_DAYS:
                raise ConfigError(
                    f"memory = true with {len(days.training)} training days",
                    f"at least {LEAST_DAYS}, to tell what is usual without the days that are remembered",
                    "leave memory out of the config, or give a longer recording",
                )
        start = None if self.start is None else transfer.structural(self.start)
        trained = config
        if isinstance(config, RunConfig) and config.model.fill == "forecast":
            # The fill has no weights of its own; `last` is known for a whole chunk at once and learns at least as well.
            trained = replace(config, model=replace(config.model, fill="last"))
        torch.manual_seed(self.seed)
        model = build_model(
            trained,
            self.graph,
            self.series.sensor_ids,
            signal,
            profile=None if days is None else _normalised(days.table, signal, signal.target_index),
            types=self.types,
            directed=None if start is None else transfer.is_directed(start.graph),
            sensors=sensor_statistics(self.series, split.train_rows, signal, days),
        )
        if days is not None and model.profile is not None and model.profile.damping is not None:
            with torch.no_grad():
                model.profile.damping.copy_(torch.from_numpy(days.damping(split)))
        if start is not None:
            transfer.take_weights(cast(StructuralRNN, model), start)
        usual = None if days is None else _normalised(days.of_row, signal, signal.target_index)
        week_before = None
        if days is not None and isinstance(model, STUNet) and model.memory is not None:
            week_before = WeekBefore.of(model.memory, signal, self.series, days)
        return Prepared(config, split, model.to(self.device), usual, week_before)

    def fit(self, prepared: Prepared) -> Fit:
        """Train the prepared model in place; with 0 epochs only validate it."""
        model, split, training = prepared.model, prepared.split, prepared.config.training
        state_file = None
        if self.state_file is not None:
            origin = "" if self.start is None else transfer.weights_hash(transfer.structural(self.start))
            identity = run_identity(model, self.series, split, training, self.seed, origin)
            state_file = StateFile(self.state_file, identity)
        spent = 0.0 if self.resume or self.epochs == 0 else self._fit_alone(prepared)
        trainer = Trainer(
            model,
            self.series,
            split,
            training,
            self.seed,
            max_minutes=self.max_minutes,
            spent=spent,
            state_file=state_file,
            report=self.report,
            usual=prepared.usual,
            week_before=prepared.week_before,
            clock=self.clock,
        )
        if self.resume:
            trainer.resume()
        if self.epochs == 0:
            return Fit((), 0, trainer.validate())
        history = trainer.run()
        best = best_epoch(history)
        return Fit(history, best.epoch, best.validation_mae)

    def _fit_alone(self, prepared: Prepared) -> float:
        """Train the part of an ST-UNet that knows a sensor alone, from windows; return the seconds that it took.

        It learns from many issue times at once what the recurrent layers would take long to find.
        """
        training = prepared.config.training
        alone = prepared.model.alone() if isinstance(prepared.model, STUNet) else None
        if alone is None or not training.alone:
            return 0.0
        trainer = Trainer(
            alone.to(self.device),
            self.series,
            prepared.split,
            replace(training, regime="window", batch=ALONE_BATCH, accumulate=1, updates=training.alone),
            self.seed,
            max_minutes=None if self.max_minutes is None else ALONE_SHARE * self.max_minutes,
            usual=prepared.usual,
            week_before=prepared.week_before,
            clock=self.clock,
        )
        return seconds_spent(trainer.run())

    def checkpoint(self, prepared: Prepared, fit: Fit) -> Checkpoint:
        """Return the fitted model with its site, reference stream and provenance."""
        series, graph, split = self.series, self.graph, prepared.split
        site = series.site
        if graph.latitude is not None and graph.longitude is not None:
            site = replace(site, latitude=tuple(graph.latitude.tolist()), longitude=tuple(graph.longitude.tolist()))
        provenance: dict[str, Any] = {
            "data": series.source,
            "graph": graph.source,
            "protocol": split.protocol,
            "train_rows": [split.train_rows.start, split.train_rows.stop],
            "test_start": split.test_start,
            "config": asdict(prepared.config.training),
            "seed": self.seed,
            "max_minutes": self.max_minutes,
            "epochs": len(fit.history),
            "best_epoch": fit.best_epoch,
            "validation_mae": fit.validation_mae,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        }
        if self.start is not None:
            provenance["start"] = transfer.provenance(self.start)
        reference = replace(reference_stream(series, split), site=site)
        trained = Checkpoint(prepared.model.cpu().eval(), reference, provenance)
        return trained.with_fill(prepared.config.model.fill)


def build_model(
    config: RunConfig | SRNNRunConfig,
    graph: SensorGraph,
    sensor_ids: tuple[str, ...],
    signal: Signal,
    *,
    profile: Float[Tensor, "slot node target"] | None = None,
    types: Mapping[str, str] | None = None,
    directed: bool | None = None,
    sensors: SensorStatistics | None = None,
) -> Forecaster:
    """Return an untrained model on the graph of a sensor network.

    Args:
        config: its class determines the model family.
        graph: of the sensors ``sensor_ids``.
        sensor_ids: in the order of the node axis.
        signal: normalisation, targets and limits.
        profile: table of a model that has a profile; see :class:`training.usual_days.UsualDays`.
        types, directed: see :func:`stunet_deploy.st_graph.files.st_graph_of_sensors`.
        sensors: for an ST-UNet, statistics of every sensor.

    Raises:
        ConfigError: types of sensors for a family that has none.
        DataError: a sensor without a type.
    """
    if isinstance(config, SRNNRunConfig):
        st_graph = st_graph_of_sensors(graph.adjacency, sensor_ids, len(signal.features), types, directed)
        return StructuralRNN(config.model, st_graph, signal, profile)
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
    return STUNet(config.model, hierarchy, signal, profile, sensors)


def _normalised(physical: NDArray[np.floating], signal: Signal, features: Sequence[int]) -> Tensor:
    """Return readings [..., feature] of the named features in normalised units."""
    mean, std = (np.array(each)[list(features)] for each in (signal.mean, signal.std))
    return torch.from_numpy(((physical - mean) / std).astype(np.float32))


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
    """Return names, limits and normalisation of the features, from the training span alone.

    Args:
        series, split: the recording and its split.
        targets: names of the features to forecast; empty for all.
        literature: see :func:`training.protocols.normalisation`.
    """
    mean, std = normalisation(series, split, literature=literature)
    values, observed = series.values[split.train_rows], series.observed[split.train_rows]
    # No copies: a recording may be large.
    low = values.min((0, 1), where=observed, initial=np.inf).astype(np.float64)
    high = values.max((0, 1), where=observed, initial=-np.inf).astype(np.float64)
    # Negative readings are only possible where training saw some.
    low = np.where(low < 0, HEADROOM * low, 0.0)
    high = np.maximum(high + (HEADROOM - 1) * np.abs(high), low + std)
    statistics = (tuple(column.tolist()) for column in (mean, std, low, high))
    return Signal(series.features, targets or series.features, *statistics)


def reference_stream(series: Series, split: Split) -> Series:
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
    return Series(values, observed, series.timestamps[rows].copy(), series.site, series.source)
