"""What each part of the model is worth: ablations on two real weeks, some seeds, one budget of updates.

    python -m benchmarks.accuracy.ablation [--set metr-la pemsd7-m] [--seeds 3] [--epochs 8] [--jobs 2]

Every row of the tables differs from the first in what it names, and in nothing else: same data, same split, same number
of updates, same seeds. The rows of the recurrent decoder compare with the second, which has as few losses.

A run is kept as soon as it is done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.page import commit, errors_cell, page, table
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import WEEKS, Week
from runtime.timing import environment
from stunet_deploy.config import VARIANTS, RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.graph.files import read_graph
from training.baselines import persistence
from training.evaluation import evaluate
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

MODEL: Mapping[str, Any] = {"hidden": 16, "profile": True, "time_features": "none", "fill": "last"}
TRAINING: Mapping[str, Any] = {"batch": 1, "chunk": 48, "learning_rate": 5e-3, "patience": 1000, "threads": 1}
#: A recurrent decoder forecasts after every sixth interval of a chunk: twelve steps after each would cost too much.
DECODER: Mapping[str, Any] = {"loss_every": 6}
PLAIN: Mapping[str, Any] = {"layer_norm": False}


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Attributes:
        title: what differs from the first row.
        model, training: the settings that differ.
        published: MAE of the paper's ablation on the FULL PeMSD7(M), without training tricks.
    """

    title: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    published: str = ""


ROWS = (
    Row("ST-UNet (direct, copy)", {}, {}),
    Row("direct, a loss after every 6th", {}, DECODER),
    Row("GCGRU", VARIANTS["GCGRU"], {}),
    Row("T-UNet", VARIANTS["T-UNet"], {}),
    Row("S-UNet", VARIANTS["S-UNet"], {}),
    Row("unpooling ordered_deconv", {"unpooling": "ordered_deconv"}, {}),
    Row("unpooling weighted_deconv", {"unpooling": "weighted_deconv"}, {}),
    Row("ST-UNet without layer norm", PLAIN, {}, published="2.248 / 2.980 / 3.756"),
    Row("GCGRU without layer norm", {**VARIANTS["GCGRU"], **PLAIN}, {}, published="2.292 / 3.050 / 3.866"),
    Row("T-UNet without layer norm", {**VARIANTS["T-UNet"], **PLAIN}, {}, published="2.266 / 3.004 / 3.850"),
    Row("S-UNet without layer norm", {**VARIANTS["S-UNet"], **PLAIN}, {}, published="2.272 / 3.020 / 3.802"),
    Row("recurrent decoder", {"decoder": "recurrent"}, DECODER),
    Row(
        "recurrent decoder, without tricks",
        {"decoder": "recurrent", **PLAIN},
        {**DECODER, "teacher_forcing": "always"},
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command("benchmarks.accuracy.ablation", __doc__)
    command.weeks()
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--epochs", 8, "passes over the training span", quick=1)
    command.option("--jobs", 2, "runs at a time, one thread each")
    command.option("--rows", len(ROWS), "only so many rows of the tables, from the first on", quick=2)
    command.run(measure, report, arguments)


def settings(row: Row, epochs: int) -> RunConfig:
    """Return the configuration of a row."""
    return RunConfig(
        STUNetConfig(**{**MODEL, **row.model}), TrainingConfig(**{**TRAINING, **row.training, "epochs": epochs})
    )


def identify(week: Week, row: Row, seed: int, epochs: int) -> dict[str, Any]:
    """Return what a run is known by."""
    config = settings(row, epochs)
    parts = {"model": asdict(config.model), "training": asdict(config.training)}
    return {"set": week.name, "row": row.title, "seed": seed, "config": parts}


def run(week: Week, row: Row, seed: int, epochs: int) -> dict[str, Any]:
    """Train and score one model."""
    torch.set_num_threads(1)
    series, config = week.series(), settings(row, epochs)
    begin = time.process_time()
    model = TrainingRun(series, read_graph(week.file, series.sensor_ids), config, seed=seed).run().model.eval()
    seconds = time.process_time() - begin
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    found = evaluate(series, split, [TorchPredictor(model)])
    where = environment()
    return {
        **identify(week, row, seed, epochs),
        "cpu_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "commit": where["commit"],
        "cpu": where["cpu"],
        "results": [asdict(result) for result in found],
    }


def baseline(week: Week) -> list[dict[str, Any]]:
    """Score persistence."""
    series = week.series()
    split = choose_protocol(series, "auto", STUNetConfig.window, STUNetConfig.horizon)
    return [asdict(result) for result in evaluate(series, split, [persistence(series, split)])]


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store = Store(options.out / "ablation.json")
    rows = ROWS[: options.rows]
    wanted = [
        (week, row, seed, options.epochs) for seed in range(options.seeds) for week in options.weeks for row in rows
    ]
    store.complete(
        *(wanted, identify, run, options.jobs),
        lambda one: f"{one['set']}, {one['row']}, seed {one['seed']}: {one['cpu_seconds']:.0f} s",
    )
    return {
        "seeds": options.seeds,
        "runs": [one for job in wanted for one in store.find(identify(*job))],
        "baselines": {week.name: baseline(week) for week in options.weeks},
    }


def cell(results: Sequence[Mapping[str, Any]], protocol: str) -> str:
    """Return the MAE of a protocol by horizon."""
    return errors_cell([one for one in results if one["protocol"] == protocol])


def report(result: dict[str, Any]) -> str:
    """Return the tables as a page."""
    where, runs, blocks = result["environment"], result["runs"], []
    for name, results in result["baselines"].items():
        published = name == "pemsd7-m"
        columns = ["model", "window", "stream", "parameters", "CPU s to train"]
        rows = []
        for row in ROWS:
            if found := [one for one in runs if (one["set"], one["row"]) == (name, row.title)]:
                scores = [entry for one in found for entry in one["results"]]
                seconds = np.mean([one["cpu_seconds"] for one in found])
                cells = [cell(scores, protocol) for protocol in ("window", "stream")]
                cells += [f"{found[0]['parameters']:,}", f"{seconds:.0f}", *([row.published] if published else [])]
                rows.append([row.title, *cells])
        still = [cell(results, protocol) for protocol in ("window", "stream")]
        columns += ["*published, full set: not comparable*"] if published else []
        rows.append(["*persistence*", *still, *[""] * (len(columns) - 3)])
        blocks += [f"## {WEEKS[name].title}", table(columns, rows)]
    commits = sorted({commit(one) for one in runs})
    return page(
        "What each part of the model is worth, on two single weeks",
        f"`{result['command']}`. MAE (mph) at 15 / 30 / 60 minutes, mean and standard deviation over "
        f"{result['seeds']} seeds; `window` from zero state over 12 intervals, `stream` with the state carried. One "
        "budget: every model has the same number of updates, and few of them. The tables compare parts with one "
        "another on a single week; they say nothing about the published figures. Base: "
        f"{MODEL['hidden']} channels, daily profile, chunks of {TRAINING['chunk']} intervals. A recurrent decoder has "
        f'a loss after every {DECODER["loss_every"]}th interval. "Without tricks": no layer norm, and always fed the '
        "label instead of scheduled sampling.",
        f"{where['cpu']}, one thread a run; torch {where['torch']}, commit {', '.join(commits)}.",
        *blocks,
    )


if __name__ == "__main__":
    main()
