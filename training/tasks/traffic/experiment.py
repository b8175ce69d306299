"""Traffic with a Structural-RNN beside ST-UNet: the same weeks, splits, seeds and training time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stunet_deploy.config import RUN_CONFIGS, RunConfig, SRNNRunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from stunet_deploy.toml_files import read_toml
from training.baselines import persistence
from training.evaluation import Predictor, Result, evaluate
from training.history import Epoch
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.tasks.learning import Outcome
from training.torch_predictor import TorchPredictor

PERSISTENCE = "persistence"
MODELS = ("srnn", "stunet", PERSISTENCE)
#: What is called what: a week, and the name of its file without ``.npz``.
WEEKS = {"metr-la": "One week of METR-LA", "pemsd7-m": "One week of PeMSD7(M)"}
TIMEZONE = "America/Los_Angeles"


@dataclass(frozen=True)
class TrafficConfig:
    """Config of the comparison.

    Attributes:
        minutes: training time of every run, in minutes of a CPU core.
        runs: per week and model family, architecture and training.
    """

    minutes: float
    runs: Mapping[str, Mapping[str, RunConfig | SRNNRunConfig]]

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"minutes = {self.minutes}", "a positive number", "correct minutes in the config file")

    def settings(self, model: str, week: str) -> dict[str, Any]:
        """Return what a run depends on."""
        return {"minutes": self.minutes} | asdict(self.runs[week][model])


def read_traffic_config(path: Path) -> TrafficConfig:
    """Read a TOML file of ``minutes`` and, per week, the config file of each model family, named from its folder.

    Raises:
        ConfigError: one cannot be read, is missing, or holds something unknown.
    """
    data = read_toml(path)
    wanted = {"minutes", *WEEKS}
    given = {week: data.get(week) for week in WEEKS}
    complete = all(isinstance(files, dict) and files.keys() == RUN_CONFIGS.keys() for files in given.values())
    if data.keys() != wanted or not isinstance(data["minutes"], int | float) or not complete:
        raise ConfigError(
            f"{path} with {', '.join(data) or 'nothing'}",
            f"{', '.join(sorted(wanted))}, a week being a table of {' and '.join(RUN_CONFIGS)}",
            "correct the config file",
        )
    runs = {
        week: {family: read_run_config(path.parent / file, family) for family, file in files.items()}
        for week, files in given.items()
        if files is not None
    }
    return TrafficConfig(float(data["minutes"]), runs)


def run_traffic(
    folder: Path, config: TrafficConfig, model: str, week: str, seed: int, report: Callable[[int, float], None]
) -> Outcome:
    """Train one model on a week and score it by window and carried.

    Args:
        folder: of the week files.
        config: training time and architectures.
        model: one of :data:`MODELS`.
        week: one of :data:`WEEKS`.
        seed: of weights and of everything random in training.
        report: called with the number of epochs made and the validation MAE.
    """
    path = folder / f"{week}.npz"
    series = read_series(path, timezone=TIMEZONE)
    graph = read_graph(path, series.sensor_ids)
    if model == PERSISTENCE:
        split = choose_protocol(series, "auto", 12, 12)
        return Outcome(_scores(evaluate(series, split, [persistence(series, split)])))

    def epoch_done(epoch: Epoch) -> None:
        report(epoch.epoch - 1, epoch.validation_mae)

    run = config.runs[week][model]
    checkpoint = TrainingRun(
        series, graph, run, seed=seed, max_minutes=config.minutes, report=epoch_done, clock=time.process_time
    ).run()
    split = choose_protocol(series, run.protocol, run.model.window, run.model.horizon)
    predictor: Predictor = TorchPredictor(checkpoint.model)
    scores = _scores(evaluate(series, split, [predictor], targets=checkpoint.model.signal.targets))
    return Outcome(scores | {"epochs": checkpoint.training["epochs"]}, checkpoint)


def _scores(results: list[Result]) -> dict[str, Any]:
    """Return regime → error → horizon in minutes → number."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for one in results:
        errors = scores.setdefault(one.protocol, {"MAE": {}, "RMSE": {}})
        errors["MAE"][f"{one.horizon_minutes:g} min"] = one.mae
        errors["RMSE"][f"{one.horizon_minutes:g} min"] = one.rmse
    return dict(scores)
