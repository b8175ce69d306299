"""How good the presets are on five real sets, beside what needs no model: three horizons, some seeds, limited CPU time.

    python -m benchmarks.accuracy.five_sets [--set metr-la …] [--preset default small] [--seeds 3] [--minutes 10]

Every model is trained on the training span, its best epoch is chosen on the validation span, and it is scored once on
the test span, its state carried. The time is that of the processor, on one thread. Which settings a preset has was
chosen on validation spans. A run is kept as soon as it is done, and is on the page of later ones with as many minutes
while its preset has the same settings; runs found with the same settings are not repeated.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.page import errors_cell, machine, measured_on, page, table
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import small_recording
from benchmarks.harness.workbench import SHARED
from stunet_deploy.config import RunConfig, SRNNRunConfig
from stunet_deploy.config_files import PRESETS, read_run_config
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import Series, read_series
from training.baselines import baselines
from training.evaluation import Regime, evaluate
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

MODULE = "benchmarks.accuracy.five_sets"
REGIMES: tuple[Regime, ...] = ("stream", "window")


@dataclass(frozen=True)
class Recording:
    """A real recording with its graph.

    Attributes:
        name, title: in the JSON and in the tables.
        data, graph: files.
        timezone: of its times.
        targets: features forecast; empty for all.
    """

    name: str
    title: str
    data: Path
    graph: Path
    timezone: str
    targets: tuple[str, ...] = ()

    def series(self) -> Series:
        """Read the recording."""
        return read_series(self.data, timezone=self.timezone)


def _recording(name: str, title: str, data: str, graph: str, timezone: str, *targets: str) -> Recording:
    return Recording(name, title, SHARED / data, SHARED / graph, timezone, targets)


_PACIFIC = "America/Los_Angeles"
SETS = (
    _recording("metr-la", "METR-LA, one week (mph, 5 minutes)", "metr-la.npz", "metr-la.npz", _PACIFIC),
    _recording("pemsd7-m", "PeMSD7(M), one week (mph, 5 minutes)", "pemsd7-m.npz", "pemsd7-m.npz", _PACIFIC),
    _recording(
        *("aarhus", "Aarhus, two months (km/h, 5 minutes)", "aarhus.npz", "aarhus-graph.csv"),
        *("Europe/Copenhagen", "speed"),
    ),
    _recording(
        *("hangzhou", "Hangzhou metro, 25 days (passengers, 10 minutes)", "hangzhou.csv", "hangzhou-graph.csv"),
        "Asia/Shanghai",
    ),
    _recording(
        *("nycbike2", "New York bicycles, two months (hires, 30 minutes)", "nycbike2.csv", "nycbike2-graph.csv"),
        "America/New_York",
    ),
)
NAMES = tuple(recording.name for recording in SETS)
#: Families, presets and titles of the models by their names in the options.
MODELS = {name: ("stunet", name, f"ST-UNet, preset {name}") for name in PRESETS["stunet"]} | {
    "srnn": ("srnn", "default", "Structural-RNN")
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command(MODULE, __doc__)
    command.option("--set", NAMES, "which recordings", choices=NAMES)
    command.option(
        "--preset", ("default", "small"), "which presets of ST-UNet; srnn is the Structural-RNN", choices=MODELS
    )
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--minutes", 10.0, "CPU time of a training", quick=0.05)
    command.option("--jobs", 2, "runs at a time, one thread each")
    command.run(measure, report, arguments)


@cache
def settings(recording: Recording, preset: str) -> RunConfig | SRNNRunConfig:
    """Return the configuration of a run."""
    family, of_family, _ = MODELS[preset]
    config = read_run_config(None, family, of_family, days=recording.series().days)
    return replace(config, targets=recording.targets, training=replace(config.training, threads=1))


def identify(recording: Recording, preset: str, seed: int, minutes: float) -> dict[str, Any]:
    """Return what a run is known by."""
    config = settings(recording, preset)
    parts = {"model": asdict(config.model), "training": asdict(config.training)}
    return {"set": recording.name, "preset": preset, "seed": seed, "minutes": minutes, "config": parts}


def run(recording: Recording, preset: str, seed: int, minutes: float) -> dict[str, Any]:
    """Train and score one model."""
    return {
        **identify(recording, preset, seed, minutes),
        **scored(recording, settings(recording, preset), seed, minutes),
    }


def scored(recording: Recording, config: RunConfig | SRNNRunConfig, seed: int, minutes: float) -> dict[str, Any]:
    """Train a model on one thread for at most so many minutes of the processor; return its scores and what it cost."""
    torch.set_num_threads(1)
    series = recording.series()
    graph = read_graph(recording.graph, series.sensor_ids)
    begin = time.process_time()
    training = TrainingRun(series, graph, config, seed=seed, max_minutes=minutes, clock=time.process_time)
    checkpoint = training.run()
    seconds = time.process_time() - begin
    model = checkpoint.model.eval()
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    found = evaluate(series, split, [TorchPredictor(model)], targets=model.signal.targets, regimes=REGIMES)
    return {
        "cpu_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "validation_mae": checkpoint.training["validation_mae"],
        "environment": measured_on(),
        "results": [asdict(result) for result in found],
    }


def without_model(recording: Recording) -> dict[str, Any]:
    """Score the baselines of a recording, in the stream regime: they have no state."""
    series, config = recording.series(), settings(recording, "default")
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    targets = recording.targets or series.features
    found = evaluate(series, split, baselines(series, split, targets), targets=targets, regimes=("stream",))
    return {"set": recording.name, "title": recording.title, "results": [asdict(result) for result in found]}


def chosen_recordings(options: Namespace) -> list[Recording]:
    """Return the recordings that are asked for with ``--set``; in a quick run a part of the shipped one."""
    if not options.quick:
        return [recording for recording in SETS if recording.name in options.set]
    shipped = small_recording(options.out / "data" / "shipped.npz")
    return [Recording("shipped", "Freeway, simulated (km/h, 5 minutes)", shipped, shipped, "Europe/Berlin")]


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store = Store(options.out / "five_sets.json")
    recordings = chosen_recordings(options)
    wanted = [
        (recording, preset, seed, options.minutes)
        for seed in range(options.seeds)
        for recording in recordings
        for preset in options.preset
    ]
    store.complete(
        wanted, identify, run, options.jobs, lambda one: f"{one['set']}, {one['preset']}: {one['cpu_seconds']:.0f} s"
    )
    kept = [identify(recording, preset, 0, options.minutes) for recording in recordings for preset in MODELS]
    of_any_seed = [{name: part for name, part in identity.items() if name != "seed"} for identity in kept]
    return {
        "minutes": options.minutes,
        "runs": [one for identity in of_any_seed for one in store.find(identity)],
        "baselines": [without_model(recording) for recording in recordings],
    }


def report(result: dict[str, Any]) -> str:
    """Return the tables as a page."""
    blocks = []
    for known in result["baselines"]:
        still, runs = known["results"], [one for one in result["runs"] if one["set"] == known["set"]]
        rows = []
        for preset in dict.fromkeys(one["preset"] for one in runs):
            of_preset = [one for one in runs if one["preset"] == preset]
            scored = [score for one in of_preset for score in one["results"]]
            cells = [errors_cell([score for score in scored if score["protocol"] == regime]) for regime in REGIMES]
            seconds = np.mean([one["cpu_seconds"] for one in of_preset])
            rows.append([MODELS[preset][2], *cells, len(of_preset), f"{seconds / 60:.1f}"])
        for model in dict.fromkeys(score["model"] for score in still):
            rows.append([model, errors_cell([score for score in still if score["model"] == model]), "", "", ""])
        horizons = " / ".join(f"{minutes:g}" for minutes in sorted({score["horizon_minutes"] for score in still}))
        blocks.append(f"## {known['title']}")
        columns = [f"MAE at {horizons} minutes", "carried", "windows", "seeds", "CPU minutes"]
        blocks.append(table(columns, rows))
    where = result["runs"][0]["environment"]
    return page(
        "Presets on five sets",
        f"`{result['command']}`: at most {result['minutes']:g} CPU minutes a run on one thread. {machine(where)}",
        "Splits: protocol A (70/10/20 of the windows), for PeMSD7(M) B (days 5/1/1). MAE over observed labels; "
        "± is the standard deviation over seeds. The first two sets are one week of sets that are published whole: "
        "the figures do not compare with published ones.",
        *blocks,
    )


if __name__ == "__main__":
    main()
