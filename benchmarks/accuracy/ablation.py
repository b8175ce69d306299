"""What each part of the preset `default` is worth: left out one at a time, real sets, some seeds, one budget of time.

    python -m benchmarks.accuracy.ablation [--set metr-la pemsd7-m hangzhou] [--seeds 3] [--minutes 3] [--jobs 2]

Every row of the tables differs from the first in what it names, and in nothing else: same data, same split, same CPU
minutes, same seeds. A run is kept as soon as it is done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.accuracy.five_sets import NAMES, REGIMES, Recording, chosen_recordings, scored, settings
from benchmarks.harness.command import Command
from benchmarks.harness.page import errors_cell, machine, page, table
from benchmarks.harness.store import Store
from stunet_deploy.config import VARIANTS, RunConfig

#: One of five minutes, one of weekdays, one of counts.
USUAL_SETS = ("metr-la", "pemsd7-m", "hangzhou")


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Attributes:
        title: what differs from the first row.
        model, training: the settings that differ.
        preset: that they differ from.
    """

    title: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "default"


ROWS = (
    Row("ST-UNet, preset default"),
    Row("without the graph and the U (preset small)", preset="small"),
    Row("without pooling and dilation (GCGRU)", VARIANTS["GCGRU"]),
    Row("without pooling (T-UNet)", VARIANTS["T-UNet"]),
    Row("without dilation (S-UNet)", VARIANTS["S-UNet"]),
    Row("with the paper's three polynomials", {"chebyshev_order": 3}),
    Row("without the perceptron", {"lags": 0, "memory": False}),
    Row("the perceptron not first", training={"alone": 0}),
    Row("without the memory of a week", {"memory": False}),
    Row("without what sensors have in common", {"common": False}),
    Row("without the time", {"time_features": "none"}),
    Row("the time of day at one frequency", {"harmonics": 1}),
    Row("without changes of readings", {"changes": False}),
    Row("the profile ahead for the graph's layers too", {"profile_ahead": True}),
    Row("gaps filled with the last reading", {"fill": "last"}),
    Row("without dropout", training={"dropout": 0.0}),
    Row("without compressed inputs", {"compress": False}),
    Row("without statistics of sensors", {"static_features": False}),
    Row("departures in one unit", {"sensor_scale": False}),
    Row("start at the reading, not damped", {"damped": False}),
    Row("four perceptrons (preset best)", {"members": 4}),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command("benchmarks.accuracy.ablation", __doc__)
    command.option("--set", USUAL_SETS, "which recordings", choices=NAMES)
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--minutes", 3.0, "CPU time of a training", quick=0.05)
    command.option("--jobs", 2, "runs at a time, one thread each")
    command.option("--rows", len(ROWS), "only so many rows of the tables, from the first on", quick=2)
    command.run(measure, report, arguments)


def config_of(recording: Recording, row: Row) -> RunConfig:
    """Return the configuration of a row."""
    base = settings(recording, row.preset)
    assert isinstance(base, RunConfig)
    return replace(base, model=replace(base.model, **row.model), training=replace(base.training, **row.training))


def identify(recording: Recording, row: Row, seed: int, minutes: float) -> dict[str, Any]:
    """Return what a run is known by."""
    config = config_of(recording, row)
    parts = {"model": asdict(config.model), "training": asdict(config.training)}
    return {"set": recording.name, "row": row.title, "seed": seed, "minutes": minutes, "config": parts}


def run(recording: Recording, row: Row, seed: int, minutes: float) -> dict[str, Any]:
    """Train and score one model."""
    found = scored(recording, config_of(recording, row), seed, minutes)
    return {**identify(recording, row, seed, minutes), **found}


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store, rows = Store(options.out / "ablation.json"), ROWS[: options.rows]
    recordings = chosen_recordings(options)
    wanted = [
        (recording, row, seed, options.minutes)
        for seed in range(options.seeds)
        for recording in recordings
        for row in rows
    ]
    store.complete(
        wanted, identify, run, options.jobs, lambda one: f"{one['set']}, {one['row']}: {one['cpu_seconds']:.0f} s"
    )
    return {
        "minutes": options.minutes,
        "sets": {recording.name: recording.title for recording in recordings},
        "runs": [one for job in wanted for one in store.find(identify(*job))],
    }


def report(result: dict[str, Any]) -> str:
    """Return the tables as a page."""
    blocks = []
    for name, title in result["sets"].items():
        rows, first = list[list[str]](), 0.0
        for row in ROWS:
            found = [one for one in result["runs"] if (one["set"], one["row"]) == (name, row.title)]
            if not found:
                continue
            scores = [score for one in found for score in one["results"]]
            by_regime = [[score for score in scores if score["protocol"] == regime] for regime in REGIMES]
            error = float(np.mean([score["mae"] for score in by_regime[0]]))
            first = first or error
            against = f"{100 * (error / first - 1):+.1f} %" if rows else ""
            minutes = np.mean([one["cpu_seconds"] for one in found]) / 60
            cells = [errors_cell(of_regime) for of_regime in by_regime]
            rows.append([row.title, *cells, against, f"{found[0]['parameters']:,}", f"{minutes:.1f}"])
        columns = ["model", "carried", "windows", "against the first", "parameters", "CPU minutes"]
        blocks += [f"## {title}", table(columns, rows)]
    return page(
        "What each part of the model is worth",
        f"`{result['command']}`: test MAE at a quarter, half and all of the reach, mean and standard deviation over "
        f"seeds, at most {result['minutes']:g} CPU minutes a run on one thread. The fourth column compares the mean of "
        "the carried errors. A row whose part the preset leaves out of such a recording is the first row again.",
        machine(result["runs"][0]["environment"]),
        *blocks,
    )


if __name__ == "__main__":
    main()
