"""How fast the fill ``usual`` returns to a silent sensor's usual day: its share, compared on validation spans.

    python -m benchmarks.accuracy.fill_return [--set metr-la pemsd7-m] [--minutes 2] [--seed 0]

One model of the default preset is trained a set, in limited CPU time on one thread; the share is no weight, so the same
weights, learnt with the default share, forecast with every share. The losses are those of
``benchmarks.accuracy.missing_data``. The recording is cut where the validation span ends: the test span is not looked
at. A share is named by its span s, 2 / (1 + s), as that of an exponential moving average; a run is kept as soon as it
is done.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.missing_data import LOSSES, SHARES, mean, scores
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, measured_on, page, table
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import WEEKS, Week
from stunet_deploy.config_files import read_run_config
from stunet_deploy.graph.files import read_graph
from stunet_deploy.models.fill import return_share
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor
from training.validation import Validation

#: The fill that returns.
FILL = "usual"
#: Spans of the return, in horizons: back at once, …, never.
SPANS: Mapping[str, float] = {"0": 0.0, "1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0, "4": 4.0, "8": 8.0, "∞": math.inf}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the table."""
    command = Command("benchmarks.accuracy.fill_return", __doc__)
    command.weeks()
    command.option("--minutes", 2.0, "CPU time of a training", quick=0.05)
    command.option("--seed", 0, "of the training")
    command.run(measure, report, arguments)


def run(week: Week, minutes: float, seed: int) -> list[dict[str, Any]]:
    """Train a model on a set and score it with every share on the validation span, a run each."""
    series = week.series()
    config = read_run_config(None, days=series.days)
    config = replace(config, training=replace(config.training, threads=1))
    training = TrainingRun(
        series,
        read_graph(week.file, series.sensor_ids),
        config,
        seed=seed,
        max_minutes=minutes,
        clock=time.process_time,
    )
    prepared = training.prepare()
    checkpoint = training.checkpoint(prepared, training.fit(prepared)).with_fill(FILL)
    split = Validation.of(series, prepared.split, "stream").split
    series = series.rows(slice(0, int(split.test[-1]) + split.horizon + 1))
    found = []
    for span, horizons in SPANS.items():
        checkpoint.model.fill.part = return_share(horizons * split.horizon)
        entries = scores(series, split, lambda seen: [TorchPredictor(checkpoint.model)])
        found.append(
            {
                "set": week.name,
                "minutes": minutes,
                "seed": seed,
                "fill": FILL,
                "span": span,
                "share": checkpoint.model.fill.part,
                "validation_mae": checkpoint.training["validation_mae"],
                "environment": measured_on(),
                "results": entries,
            }
        )
    return found


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    torch.set_num_threads(1)
    store = Store(options.out / "fill_return.json")
    settings = {"minutes": options.minutes, "seed": options.seed, "fill": FILL}
    known = [{"set": week.name, **settings} for week in options.weeks]
    for week, identity in zip(options.weeks, known, strict=True):
        if not store.find(identity):
            store.add(*run(week, options.minutes, options.seed))
            print(f"{week.name}: trained and scored", flush=True)
    return {"runs": [found for identity in known for found in store.find(identity)]}


def lost(run: Mapping[str, Any], loss: str) -> float:
    """Return the MAE of a run, averaged over horizons and over the shares of a loss."""
    return float(np.mean([mean(run["results"], loss, share) for share in SHARES]))


def report(result: dict[str, Any]) -> str:
    """Return the table of shares as a page."""
    runs = result["runs"]
    sets = list(dict.fromkeys(one["set"] for one in runs))
    overall = {(one["set"], one["span"]): float(np.mean([lost(one, loss) for loss in LOSSES])) for one in runs}
    blocks = []
    for name in sets:
        rows = []
        for one in (one for one in runs if one["set"] == name):
            cells = [mean(one["results"], "nothing", 0.0), *(lost(one, loss) for loss in LOSSES)]
            cells.append(overall[name, one["span"]])
            rows.append([one["span"], f"{one['share']:.3f}", *(f"{cell:.3f}" for cell in cells)])
        columns = ["span in horizons", "share", "nothing lost", *LOSSES, "mean of the losses"]
        blocks += [f"## {WEEKS[name].title}", table(columns, rows)]
    against = {span: float(np.mean([overall[name, span] / overall[name, "1"] - 1 for name in sets])) for span in SPANS}
    best = min(against, key=lambda span: against[span])
    return page(
        "How fast the fill returns",
        f"`{result['command']}`. MAE (mph) on the **validation** span, mean over 15, 30 and 60 minutes and over 10, 30 "
        "and 50 % of the readings or sensors lost, state carried; one model of the default preset a set, "
        f"{runs[0]['minutes']:g} CPU minutes, learnt with a span of 1. In an interval in which a sensor is silent, the "
        f"departure of its substitute from the sensor's usual day (fill `{FILL}`) shrinks by a share: 2 / (1 + span).",
        machine(runs[-1]["environment"]),
        *blocks,
        "## All sets",
        "Mean of the losses against a span of one horizon, averaged over the sets; the smallest is that of a span of "
        f"{best} horizons.",
        table(["span in horizons", "against 1"], [[span, f"{change:+.2%}"] for span, change in against.items()]),
    )


if __name__ == "__main__":
    main()
