"""Traffic on two single weeks: a Structural-RNN, ST-UNet and persistence, trained the same minutes of one CPU core.

    python -m benchmarks.accuracy.srnn_traffic [--seeds 3] [--minutes 3] [--folds metr-la] [--models srnn]

Needs the week files metr-la.npz and pemsd7-m.npz in the folder named by STUNET_DATA. Runs in
benchmarks/results/srnn-traffic.json are not repeated.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.accuracy.srnn_tasks import Experiment, Sections, TaskScores, reproduce
from benchmarks.harness.weeks import WEEKS, Week
from stunet_deploy.config_files import read_run_config
from stunet_deploy.graph.files import read_graph
from training.baselines import persistence
from training.evaluation import Result, evaluate
from training.history import Epoch
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.tasks.learning import Report
from training.torch_predictor import TorchPredictor

PERSISTENCE = "persistence"


@dataclass(frozen=True)
class TrafficConfig:
    """Settings of the comparison.

    Attributes:
        minutes: training time of every run, in minutes of a CPU core.
        weeks: by name.
    """

    minutes: float
    weeks: Mapping[str, Week]


def read(options: Namespace) -> TrafficConfig:
    """Return the settings that the command line gives."""
    return TrafficConfig(options.minutes, {week.name: week for week in options.weeks})


def settings(config: TrafficConfig, model: str, week: str) -> dict[str, Any]:
    """Return everything that a run depends on."""
    return {"minutes": config.minutes} | asdict(read_run_config(config.weeks[week].config(model), model))


def run(options: Namespace, config: TrafficConfig, model: str, week: str, seed: int, report: Report) -> TaskScores:
    """Train one model on a week and score it by window and carried."""
    series = config.weeks[week].series()
    if model == PERSISTENCE:
        split = choose_protocol(series, "auto", 12, 12)
        return TaskScores(_scores(evaluate(series, split, [persistence(series, split)])))

    def epoch_done(epoch: Epoch) -> None:
        report(epoch.epoch - 1, epoch.validation_mae)

    chosen = read_run_config(config.weeks[week].config(model), model)
    checkpoint = TrainingRun(
        series,
        read_graph(config.weeks[week].file, series.sensor_ids),
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
    title = WEEKS[week].title.partition(" (")[0]
    return {
        f"{title}, {regime}": {
            f"{error} {horizon}": number
            for error, numbers in scores[regime].items()
            for horizon, number in numbers.items()
        }
        for regime in ("window", "stream")
    }


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
    minutes=3.0,
    read=read,
    settings=settings,
    every=(1, "epoch"),
)

if __name__ == "__main__":
    reproduce(TRAFFIC, __doc__)
