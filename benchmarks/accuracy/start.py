"""What a start from other networks is worth: each of the five sets left out, the start trained on the other four.

    python -m benchmarks.accuracy.start [--set metr-la …] [--on pemsd7-m …] [--start-minutes 30] [--minutes 1]
                                        [--long 10] [--seeds 1]

On the set left out: the start as it is, trained on for some minutes, and models from random weights after as many and
after more. All have the preset default, as a recording of its length has it. Where several features are recorded, the
forecast one alone is read, so that the sets have one each. Errors are of the test span, the state carried. The time is
that of the processor, on one thread. A run, and a start in out/starts, is kept as soon as it is done.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.five_sets import NAMES, SETS, Recording, settings
from benchmarks.harness.command import Command
from benchmarks.harness.page import errors_cell, machine, measured_on, page, table
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import small_recording
from benchmarks.harness.workbench import ROOT
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNRunConfig
from stunet_deploy.graph.files import SensorGraph, read_graph
from stunet_deploy.series.series import Series
from training.baselines import damped_departure
from training.evaluation import evaluate
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

MODULE = "benchmarks.accuracy.start"


@dataclass(frozen=True)
class Start:
    """A model trained on several sets, for one that is left out.

    Attributes:
        left_out: chooses the architecture.
        on: trained on, the checkpoint is of the first.
        minutes: CPU time of the training.
        seed: of the training.
    """

    left_out: Recording
    on: tuple[Recording, ...]
    minutes: float
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what the start is known by."""
        names = [recording.name for recording in self.on]
        return {"on": names, "start_minutes": self.minutes, "start_config": asdict(config_of(self.left_out))}

    def file(self, folder: Path) -> Path:
        """Return where it is kept."""
        known = json.dumps([self.left_out.name, self.seed, self.identity()], sort_keys=True)
        return folder / f"{self.left_out.name}-{hashlib.sha256(known.encode()).hexdigest()[:12]}.pt"

    def train(self, folder: Path) -> float:
        """Train and keep it; return the CPU seconds that it took."""
        torch.set_num_threads(1)
        begin = time.process_time()
        (series, graph), *others = map(network, self.on)
        run = TrainingRun(
            *(series, graph, config_of(self.left_out)),
            others=others,
            seed=self.seed,
            max_minutes=self.minutes,
            clock=time.process_time,
        )
        self.file(folder).parent.mkdir(parents=True, exist_ok=True)
        run.run().save(self.file(folder))
        return time.process_time() - begin


@dataclass(frozen=True)
class Way:
    """A way to a model of a set.

    Attributes:
        recording: the set.
        start: None for random weights.
        minutes: CPU time of the training on the set; 0 for none.
        seed: of the training.
    """

    recording: Recording
    start: Start | None
    minutes: float
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what the run is known by."""
        start = {"on": []} if self.start is None else self.start.identity()
        config = asdict(config_of(self.recording))
        return {"set": self.recording.name, "minutes": self.minutes, "seed": self.seed, "config": config, **start}

    def run(self, folder: Path) -> dict[str, Any]:
        """Train and score the model."""
        torch.set_num_threads(1)
        series, graph = network(self.recording)
        config, begin = config_of(self.recording), time.process_time()
        training = TrainingRun(
            *(series, graph, config),
            start=None if self.start is None else Checkpoint.load(self.start.file(folder)),
            epochs=None if self.minutes else 0,
            seed=self.seed,
            max_minutes=self.minutes or None,
            clock=time.process_time,
        )
        checkpoint = training.run()
        seconds = time.process_time() - begin
        split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
        table_alone = damped_departure(series, split)
        found = evaluate(series, split, [TorchPredictor(checkpoint.model.eval()), table_alone], regimes=["stream"])
        return {
            **self.identity(),
            "title": self.recording.title,
            "cpu_seconds": seconds,
            "validation_mae": checkpoint.training["validation_mae"],
            "environment": measured_on(),
            "results": [asdict(result) for result in found],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command(MODULE, __doc__)
    command.option("--set", NAMES, "which sets are left out, one at a time", choices=NAMES)
    command.option("--on", NAMES, "which sets a start is trained on, beside the one left out", choices=NAMES)
    command.option("--start-minutes", 30.0, "CPU time of a start", quick=0.05)
    command.option("--minutes", 1.0, "CPU time on the set left out", quick=0.02)
    command.option("--long", 10.0, "CPU time from random weights, for comparison", quick=0.03)
    command.option("--seeds", 1, "number of seeds")
    command.option("--jobs", 2, "runs at a time, one thread each")
    command.run(measure, report, arguments)


def config_of(recording: Recording) -> RunConfig | SRNNRunConfig:
    """Return the preset as a set of one feature has it."""
    return replace(settings(recording, "default"), targets=())


def network(recording: Recording) -> tuple[Series, SensorGraph]:
    """Read a set, of several features the forecast one alone."""
    series = recording.series()
    if recording.targets:
        series = series.aligned(series.sensor_ids, recording.targets)
    return series, read_graph(recording.graph, series.sensor_ids)


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store = Store(options.out / "start.json")
    recordings: tuple[Recording, ...] = SETS
    left_out, on, folder = options.set, options.on, ROOT / "out" / "starts"
    if options.quick:
        folder = options.out / "starts"
        parts = [small_recording(options.out / "data" / f"part-{first}.npz", first=first) for first in (0, 6, 12)]
        recordings = tuple(Recording(part.stem, part.stem, part, part, "Europe/Berlin") for part in parts)
        left_out, on = ["part-0"], [recording.name for recording in recordings]
    wanted = []
    for seed in range(options.seeds):
        for recording in (one for one in recordings if one.name in left_out):
            others = tuple(one for one in recordings if one.name in on and one != recording)
            start = Start(recording, others, options.start_minutes, seed)
            wanted += [Way(recording, start, minutes, seed) for minutes in (0.0, options.minutes)]
            wanted += [Way(recording, None, minutes, seed) for minutes in (options.minutes, options.long)]
    todo = [way for way in wanted if not store.find(way.identity())]
    needed = dict.fromkeys(way.start for way in todo if way.start is not None)
    missing = [start for start in needed if not start.file(folder).is_file()]
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for trained in as_completed([pool.submit(start.train, folder) for start in missing]):
            print(f"a start: {trained.result():.0f} s", flush=True)
        for done, future in enumerate(as_completed([pool.submit(way.run, folder) for way in todo]), 1):
            one = future.result()
            store.add(one)
            print(f"{done}/{len(todo)} {one['set']}: {one['cpu_seconds']:.0f} s", flush=True)
    return {"runs": [one for way in wanted for one in store.find(way.identity())]}


def report(result: dict[str, Any]) -> str:
    """Return the tables as a page."""
    runs = result["runs"]
    blocks = []
    for name in dict.fromkeys(one["set"] for one in runs):
        of_set = [one for one in runs if one["set"] == name]
        rows = []
        for way in dict.fromkeys(map(_way, of_set)):
            same = [one for one in of_set if _way(one) == way]
            rows.append([*way, _cell(same, "stunet"), len(same)])
        rows.append(["*damped_departure*", "", _cell(of_set[:1], "damped_departure"), ""])
        horizons = sorted({score["horizon_minutes"] for score in of_set[0]["results"]})
        blocks.append(f"## {of_set[0]['title']}")
        at = " / ".join(f"{minutes:g}" for minutes in horizons)
        blocks.append(table(["weights at first", "CPU minutes", f"MAE at {at} minutes", "seeds"], rows))
    return page(
        "A start from other networks",
        f"`{result['command']}`. {machine(runs[0]['environment'])}",
        "Preset default, the state carried, on the test span of the set that the start has not seen; ± is the standard "
        "deviation over seeds. 0 minutes: only normalisation, profile and the statistics of sensors are of the set.",
        *blocks,
    )


def _way(run: dict[str, Any]) -> tuple[str, str]:
    on = ", ".join(run["on"])
    return (f"{run['start_minutes']:g} minutes on {on}" if on else "random"), f"{run['minutes']:g}"


def _cell(runs: Iterable[dict[str, Any]], model: str) -> str:
    return errors_cell([score for one in runs for score in one["results"] if score["model"] == model])


if __name__ == "__main__":
    main()
