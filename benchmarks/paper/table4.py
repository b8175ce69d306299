"""Table 4 of the ST-UNet paper: what training costs at the size of PeMSD7(L), 1,026 stations.

    python -m benchmarks.paper.table4 [--model DCRNN "ST-UNet, preset paper" …] [--batch 8] [--updates 3]

No series of PeMSD7(L) is at hand: this is another real network of Caltrans stations, cut to its size, with the speeds
of a typical weekday and noise on them, on 44 weekdays as PeMSD7(L) has. Every model is trained in a process of its own,
on one thread: after one update, which is not counted, some are timed, and from them an epoch of all 9,010 training
windows is extrapolated. The peak is that of the process, what Python, torch and the recording take included; it grows
with the batch (the paper's is 50). A model found with the same settings is not measured again.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.page import commit, machine, measured_on, number, page, table
from benchmarks.harness.store import Run, Store
from benchmarks.harness.weeks import small_recording
from benchmarks.harness.workbench import SHARED
from benchmarks.paper.stations import DAYS, DISTRICT, STATIONS, network
from benchmarks.peers.diffusion import parameters
from benchmarks.peers.loop import Loop
from benchmarks.peers.models import MODELS
from benchmarks.peers.task import Task
from benchmarks.speed.large_graphs import in_its_own_process, peak_mb
from benchmarks.speed.training import updating
from stunet_deploy.config import VARIANTS, RunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.series.series import Series, read_series
from training.loop import Trainer
from training.protocols import choose_protocol
from training.run import TrainingRun

#: What was measured on.
REAL = (
    "No series of PeMSD7(L) is at hand. The graph is real: connected stations of the main carriageways of Caltrans "
    f"district {DISTRICT}, weights by the kernel that PeMSD7 has. The speeds are hourly medians of a typical weekday, "
    "interpolated to five minutes, with seeded noise: enough for time and memory, nothing is said about accuracy."
)
SHIPPED = "Stations of the simulated network that ships with the package: whether it runs at all."
PAGE = "paper_table4"
FILE = "pems-typical-weekday.npz"
#: Channels of the paper's networks on PeMSD7.
CHANNELS = 64
PEERS = {"FNN": "fnn", "FC-LSTM": "fc-lstm", "STGCN": "stgcn", "DCRNN": "dcrnn"}
#: Presets of this project's networks, and what differs from them.
OURS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "GCGRU, preset paper": ("paper", {**VARIANTS["GCGRU"], "hidden": CHANNELS}),
    "ST-UNet, preset paper": ("paper", {"hidden": CHANNELS}),
    "ST-UNet, preset default": ("default", {}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the models that are missing and write the table."""
    command = Command("benchmarks.paper.table4", __doc__, PAGE)
    names = (*PEERS, *OURS)
    command.option("--data", SHARED, f"folder of {FILE} (default: STUNET_DATA)")
    command.option("--model", names, "which models", choices=names)
    command.option("--batch", 8, "windows an update (the paper's: 50); preset default has one chunk", quick=3)
    command.option("--updates", 3, "updates that are timed", quick=1)
    command.run(measure, report, arguments)


def identify(model: str, stations: int, days: int, batch: int, updates: int) -> Run:
    """Return what a measurement is known by."""
    return {"model": model, "stations": stations, "days": days, "batch": batch, "updates": updates}


def measure(options: Namespace) -> dict[str, Any]:
    """Measure the models that are not stored, each in a process of its own, and return all."""
    if min(options.batch, options.updates) < 1:
        came = f"{options.updates} updates of {options.batch} windows"
        raise ConfigError(came, "at least one of both", "give --updates and --batch more")
    store, path = Store(options.out / f"{PAGE}.json"), Path(options.data) / FILE
    size = (STATIONS, DAYS)
    if options.quick:
        path, size = small_recording(options.out / "data" / "paper4.npz", sensors=12), (12, 1)
    elif not path.is_file():
        raise DataError(f"no file {path}", FILE, "name its folder with --data or STUNET_DATA")
    for model in options.model:
        known = identify(model, *size, options.batch, options.updates)
        if not store.find(known):
            print(model, flush=True)
            found = in_its_own_process(measure_one, path, options.quick, known)
            store.add(known | found | {"environment": measured_on()})
    chosen = identify("", *size, options.batch, options.updates)
    return {name: value for name, value in chosen.items() if name != "model"} | {
        "shipped": options.quick,
        "runs": store.runs,
    }


def measure_one(path: Path, quick: bool, known: Run) -> Run:
    """Return the times of some updates of a model, how many an epoch has, and the peak memory of this process.

    Args:
        path: the file of the stations, or a recording with its graph.
        quick: whether it is the latter.
        known: see :func:`identify`.
    """
    series, graph = _recording(path, known) if quick else network(path, known["stations"], known["days"])
    build = _ours if known["model"] in OURS else _peer
    update, found = build(series, graph, known)
    before = peak_mb()
    update()
    times = []
    for _ in range(known["updates"]):
        begin = time.process_time()
        update()
        times.append(time.process_time() - begin)
    return {**found, "update_s": times, "before_mb": before, "peak_mb": peak_mb()}


def _recording(path: Path, known: Run) -> tuple[Series, SensorGraph]:
    series = read_series(path)
    return series, read_graph(path, series.sensor_ids)


def _peer(series: Series, graph: SensorGraph, known: Run) -> tuple[Callable[[], object], Run]:
    """Return a call that makes an update of a model that is compared with, and what is known of it."""
    task = Task(series, choose_protocol(series), series.features[0], graph)
    loop = replace(cast(Loop, MODELS[PEERS[known["model"]]].loop), batch=known["batch"])
    torch.manual_seed(0)
    net = loop.build(task).train()
    adam, batches = torch.optim.Adam(net.parameters(), lr=1e-3), _batches(task, known["batch"])
    per_epoch = -(-len(task.split.train) // known["batch"])
    found = {"parameters": parameters(net), "updates_per_epoch": per_epoch, "windows": len(task.split.train)}
    return lambda: loop.update(net, task, next(batches), adam), found


def _batches(task: Task, batch: int) -> Iterator[Any]:
    """Yield issue rows of random windows, without end."""
    generator = np.random.default_rng(0)
    while True:
        yield generator.choice(task.split.train, batch)


def _ours(series: Series, graph: SensorGraph, known: Run) -> tuple[Callable[[], object], Run]:
    """Return a call that makes an update of one of this project's networks, and what is known of it."""
    preset, changes = OURS[known["model"]]
    config = cast(RunConfig, read_run_config(None, "stunet", preset, days=series.days))
    training = replace(config.training, threads=1)
    if training.regime == "window":
        training = replace(training, batch=known["batch"])
    config = replace(config, model=replace(config.model, **changes), training=training)
    (network,) = TrainingRun(series, graph, config).prepare().networks
    trainer = Trainer(
        *(network.model.train(), series, network.split, training, 0),
        usual=network.usual, week_before=network.week_before,
    )  # fmt: skip
    return updating(trainer), {
        "parameters": parameters(network.model),
        "updates_per_epoch": trainer.updates_per_epoch,
        "windows": len(network.split.train),
    }


def report(result: Mapping[str, Any]) -> str:
    """Return the table as a page."""
    chosen = {name: result[name] for name in ("stations", "days", "batch", "updates")}
    runs = [one for one in result["runs"] if chosen.items() <= one.items()]
    rows = []
    for name in (*PEERS, *OURS):
        for one in (one for one in runs if one["model"] == name):
            update = median(one["update_s"])
            epoch = update * one["updates_per_epoch"] / 60
            windows = one["windows"] / one["updates_per_epoch"]
            memory = [number(one[part] / 1e3) for part in ("peak_mb", "before_mb")]
            rows.append(
                [name, f"{one['parameters']:,}", f"{windows:.0f}", f"{update:.2f}", f"{epoch:,.1f}", *memory]
            )  # fmt: skip
    commits = sorted({commit(one["environment"]) for one in runs})
    columns = ["model", "parameters", "windows an update", "CPU s an update", "CPU min an epoch", "peak GB"]
    return page(
        f"Table 4 of the ST-UNet paper: cost of training at {result['stations']:,} stations, on another real network",
        f"`{result['command']}`: median CPU time of {result['updates']} updates, one thread, each model in a process "
        f"of its own. {machine(runs[-1]['environment'])} Runs of commit {', '.join(commits)}.",
        f"{SHIPPED if result['shipped'] else REAL} {result['days']} weekdays, split by protocol B. What the paper's "
        "own table says is not known here.",
        table([*columns, "of it before the first update"], rows),
        "An epoch is extrapolated: the time of an update by the number of updates that its training windows take. "
        f"Networks of windows have {result['batch']} an update; the paper has 50, which takes more memory (`--batch`). "
        "Preset default takes chunks of one stream, with a loss after every interval past the warm-up: its epoch has "
        "as many losses as there are windows, and it ends after 4,000 updates. An epoch of preset paper is one of 80.",
    )


if __name__ == "__main__":
    main()
