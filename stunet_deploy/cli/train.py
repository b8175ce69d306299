"""``stunet train``: from a recording and its graph to a checkpoint."""

from __future__ import annotations

import argparse
import os
import sys
import time
import zipfile
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_facts, facts_of, minutes
from stunet_deploy.config import RUN_CONFIGS
from stunet_deploy.config_files import PRESETS, read_run_config
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.wording import in_figures

if TYPE_CHECKING:
    from stunet_deploy.graph.files import SensorGraph
    from stunet_deploy.series.series import Series

HELP = "Train a model on a recording of a sensor network; the test span is not used."
EXAMPLE = "example: stunet train --data metr-la.h5 --graph adj_mx.pkl --timezone America/Los_Angeles --out model.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="recording: npz, HDF5, CSV, Parquet or Excel, or a folder of such files, see docs/reference/data.md; "
        "given again, also learn from that network, the model is for the first",
    )
    parser.add_argument(
        "--timezone",
        action="append",
        metavar="IANA",
        help="zone of times without an offset, one for all --data or one for each (default: the file's own, otherwise "
        "UTC)",
    )
    add_facts(parser)
    parser.add_argument(
        "--graph",
        type=Path,
        action="append",
        metavar="FILE",
        help="adj_mx.pkl, a square weight matrix, from,to,weight|distance or sensor_id,latitude,longitude, one for "
        "each --data (default: the graph or coordinates in the recording)",
    )
    parser.add_argument(
        "--targets", nargs="+", metavar="NAME", help="features to forecast (default: the config's, otherwise all)"
    )
    parser.add_argument("--model", choices=list(RUN_CONFIGS), help="model family (default: stunet)")
    parser.add_argument("--types", type=Path, metavar="FILE", help="CSV of sensor_id,type, for --model srnn")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="model.pt",
        help="continue a model that was trained on other networks; with --epochs 0 use it here as it is",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="model.pt", help="checkpoint to write")
    presets = sorted({preset for names in PRESETS.values() for preset in names})
    parser.add_argument(
        "--preset", choices=presets, default="default", help="settings to begin from (default: default)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML with targets, [model] and [training], in place of the preset's",
    )
    parser.add_argument("--epochs", type=_epochs, metavar="N", help="passes over the data (default: the config's)")
    parser.add_argument("--max-minutes", type=minutes, metavar="M", help="stop after this much training time")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of all randomness (default: 0)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training of the same model.pt")
    parser.add_argument(
        "--processes",
        type=_processes,
        default=1,
        metavar="N",
        help="train in N processes that share every batch, on cuda one for each GPU (default: 1)",
    )
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu (default) or cuda")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="also log to TensorBoard")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Train, in as many processes as are asked for or torchrun has started."""
    from training.processes import check_shares, joined, launch

    check_writable(arguments.out)
    if arguments.processes == 1:
        with joined(arguments.device) as device:
            return _train(arguments, console, device)
    if "WORLD_SIZE" in os.environ:
        raise ConfigError(
            f"--processes {arguments.processes} under torchrun", "one of the two", "leave out --processes"
        )
    if arguments.start_from is None:  # told before many processes start; of a start its own settings decide
        training = read_run_config(arguments.config, arguments.model or "stunet", arguments.preset).training
        check_shares(training, arguments.processes)
    launch(arguments.processes, arguments.device, _train_here, arguments)
    return 0


def _train_here(arguments: argparse.Namespace) -> None:
    """Train in a process that :func:`training.processes.launch` has started."""
    from training.processes import joined

    console = Console(arguments.json, sys.stdout, sys.stderr)
    with joined(arguments.device) as device, redirect_stdout(console.err):
        _train(arguments, console, device)


def _train(arguments: argparse.Namespace, console: Console, device: str) -> int:
    """Train; the state for ``--resume`` is kept until the checkpoint is written.

    Args:
        arguments: of the verb.
        console: silent in all processes but the first, which alone writes.
        device: of this process.
    """
    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.cli.training_log import TrainingLog
    from stunet_deploy.st_graph.files import read_sensor_types
    from training.processes import Processes
    from training.run import TrainingRun
    from training.transfer import remarks

    first = Processes.present().first
    if not first:
        console = Console.silent()
    out: Path = arguments.out
    state_file = out.with_name(f"{out.name}.state")
    if first:
        _check_resumable(state_file, arguments.resume, console)
    start = None if arguments.start_from is None else Checkpoint.load(arguments.start_from)
    family = arguments.model or ("stunet" if start is None else start.model.family)
    # Another family is refused in the end: its config has nothing of the start's architecture.
    architecture = asdict(start.model.config) if start is not None and start.model.family == family else None
    read_config = partial(read_run_config, arguments.config, family, arguments.preset, architecture=architecture)
    read_config()  # a fault in a config file is told before a long recording is read
    types = None if arguments.types is None else read_sensor_types(arguments.types)
    (series, graph), *others = _networks(arguments, console)
    config = read_config(days=series.days)
    if arguments.targets is not None:
        config = replace(config, targets=tuple(arguments.targets))
    epochs = arguments.epochs
    if epochs is None and not config.training.updates:
        epochs = config.training.epochs
    series.site.feature_indices(arguments.targets)  # a name that is no feature is refused as what it is
    trained_on = series.site if start is None else start.site
    for other, _ in () if family == "srnn" else ((series, graph), *others):
        for remark in remarks(trained_on, other.site):
            console.say(f"look at: {other.source}: {remark}")
    targets = config.targets or series.features
    if start is not None:
        places = start.model.signal.target_index
        targets = tuple(name for place, name in enumerate(series.features) if place in places)
    unit = series.site.unit_of(targets)
    if others:
        console.say("validation: mean over the networks, each in shares of its damped departure's error")
    started = time.perf_counter()
    log_file = out.with_name(f"{out.stem}.log.csv")
    try:
        tensorboard = arguments.tensorboard if first else None
        with TrainingLog(log_file, console, epochs, arguments.resume, tensorboard, "" if others else unit) as log:
            checkpoint = TrainingRun(
                series,
                graph,
                config,
                types=types,
                start=start,
                others=others,
                epochs=arguments.epochs,
                seed=arguments.seed,
                max_minutes=arguments.max_minutes,
                state_file=state_file,
                resume=arguments.resume,
                report=log.report,
                device=device,
            ).run()
    except KeyboardInterrupt:
        if first and state_file.is_file():
            console.next("the same command with --resume continues after the last finished epoch")
        raise
    if first:
        checkpoint.save(out)
        state_file.unlink(missing_ok=True)
    trained = checkpoint.training
    data: dict[str, Any] = {
        "model": str(out),
        "log": str(log_file) if epochs != 0 else None,
        "epochs": trained["epochs"],
        "best_epoch": trained["best_epoch"],
        "best_validation_mae": trained["validation_mae"],
        "protocol": trained["protocol"],
        "seconds": round(time.perf_counter() - started, 1),
    }
    error = f"validation MAE {in_figures(data['best_validation_mae'], 3)}{f' {unit}' if unit else ''}"
    text = (
        f"{data['epochs']} epochs, best {error} after epoch {data['best_epoch']}; log in {log_file}"
        if epochs != 0
        else f"as {arguments.start_from} was trained, {error} here"
    )
    console.answer(data, f"{out}: {text}")
    zone = f" --timezone {arguments.timezone[0]}" if arguments.timezone else ""
    console.next(f"stunet evaluate {out} --data {arguments.data[0]}{zone}")
    return 0


def _networks(arguments: argparse.Namespace, console: Console) -> list[tuple[Series, SensorGraph]]:
    """Read the recordings and their graphs, in the order of ``--data``.

    Raises:
        ConfigError: another number of graphs or time zones.
        DataError: one of them cannot be read.
    """
    from stunet_deploy.series.series import read_series

    files: list[Path] = arguments.data
    graphs: list[Path | None] = arguments.graph or [None] * len(files)
    zones: list[str | None] = arguments.timezone or [None]
    zones = zones * len(files) if len(zones) == 1 else zones
    for option, given in (("--graph", graphs), ("--timezone", zones)):
        if len(given) != len(files):
            raise ConfigError(
                f"{len(given)} {option} for {len(files)} --data",
                "one for each, in the same order",
                f"give as many {option} as --data, or none",
            )
    found, facts = [], facts_of(arguments)
    for data, path, zone in zip(files, graphs, zones, strict=True):
        series = read_series(data, timezone=zone, facts=facts)
        found.append((series, graph_of(path, data, series, console)))
    return found


def graph_of(path: Path | None, data: Path, series: Series, console: Console) -> SensorGraph:
    """Say what a recording is, find its graph, say what that is, and what should be looked at in both.

    Raises:
        DataError: see :func:`find_graph`.
    """
    from stunet_deploy.graph.description import describe_graph, remark_on_graph
    from stunet_deploy.series.description import describe_series
    from stunet_deploy.series.remarks import remark_on_series

    console.say(f"data:  {series.source}")
    graph = find_graph(path, data, series)
    console.say(f"graph: {graph.source}")
    remarks = [remark.text for remark in remark_on_series(describe_series(series)) if remark.weight != "know"]
    for remark in remarks + remark_on_graph(describe_graph(graph)):
        console.say(f"look at: {remark}")
    return graph


def find_graph(path: Path | None, data: Path, series: Series) -> SensorGraph:
    """Return the graph of a recording: of ``--graph``, else its own, else made of its coordinates.

    Its own is in its npz, or in the relations beside it if it is one of LibCity.

    Raises:
        DataError: if the graph cannot be read, has other sensors, or there is none.
    """
    import numpy as np

    from stunet_deploy.array_files import load_npz
    from stunet_deploy.graph.files import graph_beside, read_graph
    from stunet_deploy.graph.positions import graph_from_positions

    if path is not None:
        return read_graph(path, series.sensor_ids)
    if zipfile.is_zipfile(data) and "adjacency" in load_npz(data, data.name, set())[1]:
        return read_graph(data, series.sensor_ids)
    if (beside := graph_beside(data, series.sensor_ids)) is not None:
        return beside
    if series.latitude is not None and series.longitude is not None:
        latitude, longitude = np.array(series.latitude), np.array(series.longitude)
        return graph_from_positions(series.sensor_ids, latitude, longitude, data.name)
    raise DataError(
        f"{data.name} without a graph or coordinates of its {len(series.sensor_ids)} sensors",
        "a graph of the sensors",
        "give one with --graph: adj_mx.pkl, a weight matrix, from,to,distance or sensor_id,latitude,longitude",
    )


def check_writable(out: Path) -> None:
    """Check before the work that a file can be written after it.

    Raises:
        ConfigError: if ``out`` is a folder or its folder does not exist.
    """
    if out.is_dir() or not out.parent.is_dir():
        came = f"--out {out}, which is a folder" if out.is_dir() else f"--out {out} in a folder that does not exist"
        raise ConfigError(came, "a file to write in an existing folder", "choose another --out or make the folder")


def _check_resumable(state_file: Path, resume: bool, console: Console) -> None:
    if resume and not state_file.is_file():
        raise ConfigError(
            f"--resume, but no interrupted training in {state_file}",
            "the state that an interrupted training leaves beside its model",
            "train without --resume, or give the --out of the interrupted run",
        )
    if not resume and state_file.is_file():
        console.say(f"{state_file} of an interrupted training will be replaced; stop now and add --resume to continue")


def _epochs(text: str) -> int:
    epochs = int(text)
    if epochs < 0:
        raise argparse.ArgumentTypeError(f"{text} epochs; expected a number of 0 or more")
    return epochs


def _processes(text: str) -> int:
    processes = int(text)
    if processes < 1:
        raise argparse.ArgumentTypeError(f"{text} processes; expected a number of 1 or more")
    return processes
