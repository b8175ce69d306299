"""Traffic on two single weeks: a Structural-RNN, ST-UNet and persistence, trained the same minutes of one CPU core.

    python -m benchmarks.accuracy.srnn_traffic [--seeds 3] [--folds metr-la] [--models srnn] [--checkpoints DIR]

Needs the week files metr-la.npz and pemsd7-m.npz in the folder named by STUNET_DATA. Runs in
benchmarks/results/srnn-traffic.json are not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.srnn_tasks import Experiment, Sections, TaskScores, reproduce
from benchmarks.harness.weeks import TIMEZONE
from stunet_deploy.config import RunConfig, SRNNRunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from stunet_deploy.toml_files import read_toml
from training.baselines import persistence
from training.evaluation import Result, evaluate
from training.history import Epoch
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.tasks.learning import Report
from training.torch_predictor import TorchPredictor

PERSISTENCE = "persistence"
#: Title by week; a week is a file of its name and ``.npz``.
WEEKS = {"metr-la": "One week of METR-LA", "pemsd7-m": "One week of PeMSD7(M)"}


@dataclass(frozen=True)
class TrafficConfig:
    """The config file of the comparison.

    Attributes:
        minutes: training time of every run, in minutes of a CPU core.
        configs: folder of the configs of both models, such as ``metr-la.toml`` and ``metr-la-srnn.toml``.
    """

    minutes: float
    configs: Path

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"minutes = {self.minutes}", "a positive number", "correct minutes in the config file")

    def run_config(self, model: str, week: str) -> RunConfig | SRNNRunConfig:
        """Read the config of a model for a week."""
        return read_run_config(self.configs / (f"{week}.toml" if model == "stunet" else f"{week}-{model}.toml"), model)


def read_traffic_config(path: Path) -> TrafficConfig:
    """Read a config file; the folder that it names is relative to its own.

    Raises:
        ConfigError: it cannot be read, or holds something unknown.
    """
    return from_mapping(TrafficConfig, read_toml(path), folder=path.parent)


def run(folder: Path, config: TrafficConfig, model: str, week: str, seed: int, report: Report) -> TaskScores:
    """Train one model on a week and score it by window and carried."""
    path = folder / f"{week}.npz"
    series = read_series(path, timezone=TIMEZONE)
    if model == PERSISTENCE:
        split = choose_protocol(series, "auto", 12, 12)
        return TaskScores(_scores(evaluate(series, split, [persistence(series, split)])))

    def epoch_done(epoch: Epoch) -> None:
        report(epoch.epoch - 1, epoch.validation_mae)

    chosen = config.run_config(model, week)
    checkpoint = TrainingRun(
        series,
        read_graph(path, series.sensor_ids),
        chosen,
        seed=seed,
        max_minutes=config.minutes,
        report=epoch_done,
        clock=time.process_time,
    ).run()
    split = choose_protocol(series, chosen.protocol, chosen.model.window, chosen.model.horizon)
    predictor = TorchPredictor(checkpoint.model)
    scores = _scores(evaluate(series, split, [predictor], targets=checkpoint.model.signal.targets))
    return TaskScores(scores | {"epochs": checkpoint.training["epochs"]}, checkpoint)


def _scores(results: list[Result]) -> dict[str, Any]:
    """Return regime → error → horizon in minutes → number."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for one in results:
        errors = scores.setdefault(one.protocol, {"MAE": {}, "RMSE": {}})
        errors["MAE"][f"{one.horizon_minutes:g} min"] = one.mae
        errors["RMSE"][f"{one.horizon_minutes:g} min"] = one.rmse
    return dict(scores)


def sections(week: str, scores: Mapping[str, Any]) -> Sections:
    """Return the errors of a week by window, then carried."""
    return {
        f"{WEEKS[week]}, {regime}": {
            f"{error} {horizon}": number
            for error, numbers in scores[regime].items()
            for horizon, number in numbers.items()
        }
        for regime in ("window", "stream")
    }


def settings(config: TrafficConfig, model: str, week: str) -> dict[str, Any]:
    """Return everything that a run depends on."""
    return {"minutes": config.minutes} | asdict(config.run_config(model, week))


TRAFFIC = Experiment(
    "traffic",
    "Traffic on one week: Structural-RNN beside ST-UNet",
    "Errors in mph over observed labels, `window` from zero state over 12 intervals, `stream` with the state carried. "
    "Both models have the same split, seeds and minutes of one CPU core. One week of METR-LA is split 70/10/20 "
    "(protocol A), one week of PeMSD7(M) by days 5/1/1 (protocol B); neither compares with figures of the full sets.",
    ("srnn", "stunet", PERSISTENCE),
    run,
    sections,
    folds=tuple(WEEKS),
    unseeded=(PERSISTENCE,),
    read=read_traffic_config,
    settings=settings,
    every=(1, "epoch"),
)

if __name__ == "__main__":
    reproduce(TRAFFIC, __doc__)
