"""The rows of the paper's tables: a model, how it is fitted on a recording, and its scores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, cast

import torch

from benchmarks.accuracy.five_sets import Recording
from benchmarks.harness.page import measured_on
from benchmarks.harness.store import Run
from benchmarks.paper.recordings import SETS
from benchmarks.peers.models import MODELS
from benchmarks.peers.task import Task
from stunet_deploy.config import VARIANTS, RunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.graph.files import read_graph
from training.evaluation import Predictor, Regime, evaluate
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

#: Versions that the figures depend on beside those that every page names.
LIBRARIES = ("scikit-learn", "statsmodels")
#: Without a limit of time: minutes and epochs of a network that has no number of epochs of its own (the paper's).
_NO_LIMIT, _EPOCHS = 1e6, 80


@dataclass(frozen=True)
class Row:
    """A row of a table: one of the models that are compared with, or an ST-UNet.

    Attributes:
        title: in tables.
        published: title of the row of the published table that belongs to it; empty for none.
        peer: key of the model in :data:`benchmarks.peers.models.MODELS`; empty for an ST-UNet.
        preset: of an ST-UNet.
        model, training: settings in place of the preset's.
    """

    title: str
    published: str = ""
    peer: str = ""
    preset: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether a seed changes it."""
        return not self.peer or MODELS[self.peer].random

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """The regimes that it is scored in; what has no state has one."""
        return ("window",) if self.peer and self.peer != "gcgru" else ("window", "stream")


@dataclass(frozen=True)
class Budget:
    """How long a fit takes at most, where a model takes what it is given.

    Attributes:
        minutes: of the processor; 0 for no limit.
        epochs: 0 for those of the preset (the paper's are 80), and of other networks as many as there is time for.
    """

    minutes: float
    epochs: int


def _peer(title: str, key: str) -> Row:
    return Row(title, title, peer=key)


#: Tables 1 and 2. What the literature calls HA is the mean of the same time of earlier days.
COMPARISON = (
    _peer("HA", "usual-day"),
    _peer("LSVR", "lsvr"),
    _peer("ARIMA", "arima"),
    _peer("FNN", "fnn"),
    _peer("FC-LSTM", "fc-lstm"),
    _peer("STGCN", "stgcn"),
    _peer("DCRNN", "dcrnn"),
    _peer("GCGRU", "gcgru"),
    Row("ST-UNet, preset paper", "ST-UNet", preset="paper"),
    Row("ST-UNet, preset default", preset="default"),
)
#: Table 3: the paper's variants "without training tricks", and the same variants of this project's preset.
ABLATION = (
    *(
        Row(
            f"{name}, preset paper without tricks",
            name,
            preset="paper",
            model={**variant, "layer_norm": False},
            training={"teacher_forcing": "always"},
        )
        for name, variant in VARIANTS.items()
    ),
    *(Row(f"{name}, preset default", preset="default", model=variant) for name, variant in VARIANTS.items()),
)


@cache
def _extent(recording: Recording) -> tuple[int, float]:
    """Return rows and days of a recording."""
    series = recording.series()
    return len(series.timestamps), series.days


def settings(row: Row, recording: Recording) -> RunConfig:
    """Return the configuration of an ST-UNet's row on a recording."""
    config = cast(RunConfig, read_run_config(None, "stunet", row.preset, days=_extent(recording)[1]))
    changes = dict(row.model)
    if row.preset == "paper" and recording.name in SETS:
        changes["hidden"] = SETS[recording.name].channels
    model, training = replace(config.model, **changes), replace(config.training, **row.training, threads=1)
    return replace(config, model=model, training=training, targets=recording.targets)


def identify(recording: Recording, row: Row, seed: int, budget: Budget) -> Run:
    """Return what a run is known by."""
    found = {"set": recording.name, "rows": _extent(recording)[0], "row": row.title, "seed": seed, **asdict(budget)}
    if row.preset:
        config = settings(row, recording)
        found["config"] = {"model": asdict(config.model), "training": asdict(config.training)}
    return found


def run(recording: Recording, row: Row, seed: int, budget: Budget) -> Run:
    """Fit a model on the training span, and score it once on the test span."""
    torch.set_num_threads(1)
    series = recording.series()
    target = (recording.targets or series.features)[0]
    begin = time.process_time()
    fit = _fit_peer if row.peer else _train_st_unet
    predictor, found = fit(recording, row, seed, budget, target)
    seconds = time.process_time() - begin
    split = choose_protocol(series)
    results = evaluate(series, split, [predictor], targets=(target,), regimes=row.regimes)
    return {
        **identify(recording, row, seed, budget),
        **found,
        "cpu_seconds": seconds,
        "environment": measured_on(*LIBRARIES),
        "results": [asdict(result) for result in results],
    }


def _fit_peer(recording: Recording, row: Row, seed: int, budget: Budget, target: str) -> tuple[Predictor, Run]:
    series = recording.series()
    graph, split = read_graph(recording.graph, series.sensor_ids), choose_protocol(series)
    epochs = budget.epochs or (Task.epochs if budget.minutes else _EPOCHS)
    task = Task(series, split, target, graph, seed, budget.minutes or _NO_LIMIT, epochs)
    predictor = MODELS[row.peer].fit(task)
    return predictor, {"chosen": getattr(predictor, "chosen", {})}


def _train_st_unet(recording: Recording, row: Row, seed: int, budget: Budget, target: str) -> tuple[Predictor, Run]:
    series, config = recording.series(), settings(row, recording)
    training = TrainingRun(
        *(series, read_graph(recording.graph, series.sensor_ids), replace(config, targets=(target,))),
        epochs=budget.epochs or None, seed=seed, max_minutes=budget.minutes or None, clock=time.process_time,
    )  # fmt: skip
    checkpoint = training.run()
    model = checkpoint.model.eval()
    found = {name: checkpoint.training[name] for name in ("epochs", "best_epoch", "validation_mae")}
    return TorchPredictor(model), {
        "trained": found,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
