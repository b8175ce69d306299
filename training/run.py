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

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, Signal, SRNNRunConfig, TrainingConfig
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.memory import DAYS_BEFORE
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from training import transfer
from training.baselines import damped_departure
from training.course import Network
from training.history import Epoch, best_epoch, seconds_spent
from training.loop import Trainer
from training.perceptrons import fixed, perceptron_training, perceptrons
from training.preparation import build_model, normalised, prepare_signal
from training.protocols import Split, choose_protocol
from training.reference import reference_stream
from training.resume import StateFile, run_identity
from training.sensors import sensor_statistics
from training.usual_days import LEAST_DAYS, UsualDays
from training.validation import Validation
from training.week_before import WeekBefore

#: Apart from the seeds of a run and of its epochs.
_MEMBER_SEEDS = 1_000_003


@dataclass(frozen=True)
class Prepared:
    """A run before its first update.

    Attributes:
        config: with the architecture, targets and epochs of this run, and the fill of its checkpoint.
        networks: the recording's, then the others, with models on the device of the run that have their first weights.
    """

    config: RunConfig | SRNNRunConfig
    networks: tuple[Network, ...]

    @property
    def model(self) -> Forecaster:
        """The model of the recording's network."""
        return self.networks[0].model

    @property
    def split(self) -> Split:
        """The split of the recording."""
        return self.networks[0].split


@dataclass(frozen=True)
class Fit:
    """The result of the training loop.

    Attributes:
        history: the log, an entry per epoch.
        best_epoch: its epoch with the smallest validation error; 0 where a start or the perceptron alone is better.
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
        start: a model trained on another network, whose weights are the first ones; its architecture is taken over,
            what is fitted to a recording is that of this one. See :func:`training.transfer.continued`.
        others: recordings and graphs of further networks, for an ST-UNet: it learns from all of them, and the
            checkpoint is of the first. Targets are at the same places of their features.
        epochs: in place of the config's; 0 uses ``start`` on this network as it is.
        seed: of initial weights and of everything random in training.
        max_minutes, clock: see :class:`training.loop.Trainer`.
        state_file: where the run can be resumed from after a kill.
        resume: continue from ``state_file``.
        report: called after every epoch.
        device: a torch device.

    Raises:
        DataError: a graph has other sensors.
        ConfigError: an unknown device, no time or no epochs to train, several networks for a Structural-RNN.
    """

    series: Series
    graph: SensorGraph
    config: RunConfig | SRNNRunConfig
    _: KW_ONLY
    types: Mapping[str, str] | None = None
    start: Checkpoint | None = None
    others: Sequence[tuple[Series, SensorGraph]] = ()
    epochs: int | None = None
    seed: int = 0
    max_minutes: float | None = None
    state_file: Path | None = None
    resume: bool = False
    report: Callable[[Epoch], None] = lambda epoch: None
    device: str = "cpu"
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        for series, graph in ((self.series, self.graph), *self.others):
            if len(graph.adjacency) != len(series.sensor_ids):
                raise DataError(
                    f"a graph of {len(graph.adjacency)} sensors for a series of {len(series.sensor_ids)}",
                    "the same sensors",
                    "give the graph of this network with --graph",
                )
        if self.others and isinstance(self.config, SRNNRunConfig):
            raise ConfigError(
                f"{1 + len(self.others)} networks for a Structural-RNN", "an ST-UNet, or one network", "give one --data"
            )
        if self.others and self.epochs == 0:
            raise ConfigError(
                f"no epochs on {1 + len(self.others)} networks",
                "at least one epoch",
                "give --epochs more, or one --data",
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
        networks = [self._network(config, self.series, self.graph)]
        for series, graph in self.others:
            first = networks[0].model
            same = replace(config, targets=transfer.corresponding(first, series))
            networks.append(self._network(same, series, graph))
            transfer.share_weights(networks[-1].model, first)
        return Prepared(config, tuple(networks))

    def _network(self, config: RunConfig | SRNNRunConfig, series: Series, graph: SensorGraph) -> Network:
        """Return a network with a model of its own, which has its first weights."""
        split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
        signal = prepare_signal(series, split, config.targets, literature=config.model.fill == "zeros")
        series = series.within(signal.low, signal.high)  # what a stream drops is not learnt from
        days = self._usual_days(config, series, split, signal) if config.model.profile or self.others else None
        profile = days if config.model.profile else None
        start = None if self.start is None else self.start.model
        trained = config
        if isinstance(config, RunConfig) and config.model.fill == "forecast":
            # The fill has no weights of its own, and `usual` is known for a whole chunk at once.
            trained = replace(config, model=replace(config.model, fill="usual"))
        torch.manual_seed(self.seed)
        model = build_model(
            trained,
            graph,
            series.sensor_ids,
            signal,
            profile=None if profile is None else normalised(profile.table, signal, signal.target_index),
            types=self.types,
            directed=transfer.is_directed(start.graph) if isinstance(start, StructuralRNN) else None,
            sensors=sensor_statistics(series, split.train_rows, signal, profile),
        )
        if profile is not None and model.profile is not None and model.profile.damping is not None:
            with torch.no_grad():
                model.profile.damping.copy_(torch.from_numpy(profile.damping(split)))
        if start is not None:
            transfer.take_weights(model, start)
        usual = None if profile is None else normalised(profile.of_row, signal, signal.target_index)
        week_before = None
        if profile is not None and isinstance(model, STUNet) and model.memory is not None:
            week_before = WeekBefore.of(model.memory, signal, series, profile)
        yardstick = 1.0
        if self.others:  # compared by what each is better than a table
            known = damped_departure(series, split, signal.targets, days)
            yardstick = Validation.of(series, split, "window").error(known, signal.targets) or 1.0
        return Network(model.to(self.device), series, split, usual, week_before, yardstick=yardstick)

    def _usual_days(self, config: RunConfig | SRNNRunConfig, series: Series, split: Split, signal: Signal) -> UsualDays:
        """Return the usual days; of a model that is trained to remember, without the days that it looks up."""
        remembers = isinstance(config, RunConfig) and config.model.memory and self.epochs != 0
        days = UsualDays.of(series, split.train_rows, signal.targets, DAYS_BEFORE if remembers else ())
        if remembers and len(days.training) < LEAST_DAYS:
            raise ConfigError(
                f"memory = true with {len(days.training)} training days",
                f"at least {LEAST_DAYS}, to tell what is usual without the days that are remembered",
                "leave memory out of the config, start from a model without, or give a longer recording",
            )
        return days

    def fit(self, prepared: Prepared) -> Fit:
        """Train the prepared model in place; with 0 epochs only validate it."""
        training = prepared.config.training
        state_file = None
        if self.state_file is not None:
            origin = "" if self.start is None else transfer.weights_hash(self.start.model)
            parts = [
                run_identity(network.model, network.series, network.split, training, self.seed, origin)
                for network in prepared.networks
            ]
            state_file = StateFile(self.state_file, "\n".join(parts))
        began, as_it_is = self.clock(), None
        if self.start is not None and not self.resume:
            as_it_is = self._trainer(prepared.networks, training)
            as_it_is.keep()
            if self.epochs == 0:
                return Fit((), 0, as_it_is.best)
        spent = 0.0
        if not self.resume:
            spent = self.clock() - began + self._fit_alone(prepared)
        learnt = [
            weight
            for networks in self._perceptrons(prepared)
            for network in networks
            for weight in cast(STUNet, network.model).decoder.parameters()
        ]
        with fixed(learnt):  # the rest of the network learns what these do not know
            trainer = self._trainer(
                prepared.networks,
                training,
                max_minutes=self.max_minutes,
                spent=spent,
                state_file=state_file,
                report=self.report,
            )
            if as_it_is is not None:
                trainer.best, trainer.best_weights = as_it_is.best, as_it_is.best_weights
            if self.resume:
                trainer.resume()
            elif learnt:
                trainer.keep()
            history = trainer.run()
        best = best_epoch(history)
        number, error = best.epoch if best.validation_mae == trainer.best else 0, trainer.best
        if self.others:  # that of the log is a mean over the networks
            error = trainer.processes.of_first(lambda: trainer.validation.mae(prepared.model))
        return Fit(history, number, error)

    def _perceptrons(self, prepared: Prepared) -> list[list[Network]]:
        """Return the networks of every perceptron that is trained first; none for ``alone = 0``."""
        return perceptrons(prepared.networks) if prepared.config.training.alone else []

    def _fit_alone(self, prepared: Prepared) -> float:
        """Train the part of an ST-UNet that knows a sensor alone, from windows; return the seconds that it took.

        It learns from many issue times at once what the recurrent layers would take long to find. Of several members
        each is trained by itself: they err differently, and their mean errs less.
        """
        members, seconds = self._perceptrons(prepared), 0.0
        for number, networks in enumerate(members):
            windows, sensors = len(prepared.split.train), len(self.series.sensor_ids)
            config = perceptron_training(prepared.config.training, sensors, windows)
            # As much of a limited time as the rest of the network.
            minutes = None if self.max_minutes is None else self.max_minutes / (1 + len(members))
            seed = self.seed + _MEMBER_SEEDS * number
            profiles = [network.model.profile for network in networks if network.model.profile is not None]
            shared = [weight for profile in profiles for weight in profile.parameters()]
            with fixed(shared if number else []):  # after the first member
                seconds += seconds_spent(self._trainer(networks, config, max_minutes=minutes, seed=seed).run())
        return seconds

    def _trainer(self, networks: Sequence[Network], training: TrainingConfig, **options: Any) -> Trainer:
        first, *others = networks
        return Trainer(
            first.model,
            first.series,
            first.split,
            training,
            options.pop("seed", self.seed),
            usual=first.usual,
            week_before=first.week_before,
            yardstick=first.yardstick,
            others=others,
            clock=self.clock,
            **options,
        )

    def checkpoint(self, prepared: Prepared, fit: Fit) -> Checkpoint:
        """Return the fitted model with its site, reference stream and provenance."""
        series, graph, split = self.series, self.graph, prepared.split
        site = series.site
        if graph.latitude is not None and graph.longitude is not None:
            known = not np.isnan(graph.latitude).any()  # a map shows every sensor, or there is none
            site = replace(
                site,
                latitude=tuple(graph.latitude.tolist()) if known else None,
                longitude=tuple(graph.longitude.tolist()) if known else None,
            )
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
        if self.others:
            provenance["beside"] = [
                {"data": series.source, "graph": graph.source, "sensors": len(series.sensor_ids)}
                for series, graph in self.others
            ]
        if self.start is not None:
            provenance["start"] = transfer.provenance(self.start)
        reference = replace(reference_stream(series, split), site=site)
        trained = Checkpoint(prepared.model.cpu().eval(), reference, provenance)
        return trained.with_fill(prepared.config.model.fill)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise ConfigError(
            f"device {device!r} ({str(error).splitlines()[0]})",
            "a device that torch can use here, such as cpu",
            "choose another --device",
        ) from error
