"""The runs that a table needs, the stored runs that count for it, and tables of runs made up by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.accuracy.srnn_activity import ACTIVITY
from benchmarks.accuracy.srnn_anticipation import ANTICIPATION
from benchmarks.accuracy.srnn_motion import MOTION
from benchmarks.accuracy.srnn_tasks import Experiment, report
from benchmarks.accuracy.srnn_trajectories import TRAJECTORIES
from stunet_deploy.config import SRNNConfig
from training.tasks.settings import TaskConfig, TaskTraining

CONFIG = TaskConfig("pedestrians", SRNNConfig(), TaskTraining(noise=((250, 0.01),)))


def a_run(experiment: Experiment, model: str, fold: str, seed: int, scores: dict[str, Any]) -> dict[str, Any]:
    known = experiment.identity(CONFIG, model, fold, seed)
    return known | {"scores": scores, "parameters": 1234, "cpu_seconds": 90.0}


def test_what_is_not_random_runs_once() -> None:
    assert MOTION.jobs(2) == [
        ("srnn", "all", 0),
        ("lstm", "all", 0),
        ("zero-velocity", "all", 0),
        ("srnn", "all", 1),
        ("lstm", "all", 1),
    ]
    assert len(TRAJECTORIES.jobs(3)) == 5 * (2 * 3 + 1)
    assert TRAJECTORIES.jobs(1, ["srnn"], ["eth"]) == [("srnn", "eth", 0)]


def test_a_run_is_known_by_its_settings() -> None:
    known = ANTICIPATION.identity(CONFIG, "srnn", "1", 0)
    other = TaskConfig("pedestrians", SRNNConfig(horizon=3))

    assert known["config"]["training"]["noise"] == ((250, 0.01),)
    assert ANTICIPATION.identity(CONFIG, "srnn", "1", 1) != known
    assert ANTICIPATION.identity(other, "srnn", "1", 0) != known
    assert MOTION.identity(other, "zero-velocity", "all", 0) == MOTION.identity(CONFIG, "zero-velocity", "all", 0)


def test_the_mean_over_scenes_needs_every_scene() -> None:
    scenes = TRAJECTORIES.folds
    runs = [
        a_run(TRAJECTORIES, "srnn", scene, seed, {"ADE": 1.0 + seed, "FDE": 2.0}) for seed in (0, 1) for scene in scenes
    ]
    runs.append(a_run(TRAJECTORIES, "lstm", "eth", 0, {"ADE": 3.0, "FDE": 4.0}))

    text = report(TRAJECTORIES, runs)

    assert f"| srnn | {'1.50 ±0.71 | ' * 6}".rstrip() in text
    assert "| lstm | 3.00 | – | – | – | – | – |" in text
    assert "| srnn | 1,234 | 10 | 1.5 |" in text


def test_motion_is_tabled_by_action_and_horizon() -> None:
    errors = {action: {"2": 0.5, "25": 1.5} for action in ("walking", "mean", "jumping")}

    text = report(MOTION, [a_run(MOTION, "srnn", "all", 0, {"euler error": errors})])

    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## mean over the actions", "## jumping", "## walking"]
    assert "| model | 80 ms | 1000 ms |" in text
    assert text.count("| srnn | 0.50 | 1.50 |") == 3


def test_published_figures_stand_in_their_columns() -> None:
    scores = {"precision": 0.8, "recall": 0.7, "time": 3.0, "f1": 0.75, "false_alarms": 0.1}

    text = report(ANTICIPATION, [a_run(ANTICIPATION, "srnn", "1", 0, scores)])

    assert "| srnn | 0.80 | 0.70 | 3.00 | 0.75 | 0.10 |" in text
    assert "| *published* | 0.90 | 0.87 | 3.2 |  |  |" in text


def test_generated_data_are_called_generated() -> None:
    assert "GENERATED" in report(ACTIVITY, [])
