"""What missing data costs, by fill: readings and sensors hidden from a streamed bundle on one week of METR-LA.

    python -m benchmarks.accuracy.missing_data [--epochs 14] [--seeds 3] [--data metr-la.npz]

Models are trained with nothing hidden and with single readings hidden, those of the best fills also with readings and
whole sensors hidden and with more than one seed; all with the same number of updates. Each is exported, one trained
with ``usual`` also with ``forecast`` and ``last`` of the same weights, and its bundle streams the test span with
readings lost one by one, and with whole sensors lost for hours and for days. It is scored at all sensors against what
was measured. Every forecast must be finite and within the manifest's limits.

A run is kept as soon as it is done; runs found with the same settings are not repeated.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness.command import Command
from benchmarks.harness.page import commit, page, table
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import TIMEZONE
from export.bundle import export_bundle
from runtime.predictor import StreamPredictor
from runtime.timing import environment
from stunet_deploy.bundle import Bundle
from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import Series, read_series
from training.baselines import persistence, time_of_day_average
from training.evaluation import Result
from training.hiding import evaluate_hidden
from training.protocols import Split, choose_protocol
from training.run import TrainingRun

#: The fills of the streams, by that of the model as it is trained.
FILLS = {"usual": ("usual", "forecast", "last"), "mean": ("mean",), "zeros": ("zeros",)}
#: These are not trained with sensors hidden, and with one seed alone.
BEHIND = ("mean", "zeros")
#: What is hidden in training.
HIDDEN: Mapping[str, Mapping[str, float]] = {
    "nothing": {},
    "readings": {"hide": 0.2},
    "readings, sensors": {"hide": 0.2, "hide_sensors": 0.3},
}
MODEL: Mapping[str, Any] = {"profile": True, "time_features": "none"}
TRAINING: Mapping[str, Any] = {
    "batch": 1,
    "chunk": 84,  # with the warm-up 8 hours, so that sensors can be silent for hours
    "learning_rate": 5e-3,
    "weight_decay": 0.01,
    "dropout": 0.1,
    "patience": 1000,
    "threads": 1,
}
SHARES = (0.1, 0.3, 0.5)
#: What is lost from the stream, and for how many hours at a time; None is one by one.
LOSSES = {"readings": None, "sensors for hours": 4.0, "sensors for days": 48.0}
#: The seed of what is lost: the same for all.
LOST_SEED = 0
TARGET = "speed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command("benchmarks.accuracy.missing_data", __doc__)
    command.recording()
    command.option("--epochs", 14, "passes over the training span", quick=1)
    command.option("--seeds", 3, "seeds of the fills that are close to one another", quick=1)
    command.option("--fills", tuple(FILLS), "of the trained models", choices=FILLS, quick=("usual",))
    command.option("--hidden", tuple(HIDDEN), "in training", choices=HIDDEN, quick=("readings, sensors",))
    command.option("--channels", 16, "of the models", quick=2)
    _, result = command.run(measure, report, arguments)
    if any(one["not_finite"] or one["outside"] for one in result["runs"]):
        raise SystemExit("some forecasts were not finite or not within the manifest's limits: see the table")


@dataclass
class Watched:
    """A bundle's streamed forecasts on their way to the score, counted.

    Attributes:
        bundle: what forecasts, through the stream that serves it.
        forecasts: numbers forecast so far.
        not_finite, outside: how many of them were NaN or infinite, or beyond the manifest's limits.
    """

    bundle: Bundle
    name: str = "bundle"
    forecasts: int = 0
    not_finite: int = 0
    outside: int = 0

    def stream(self, series: Series, start: int, issue: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Yield the forecasts of one stream, state carried."""
        manifest = self.bundle.manifest
        low, high = map(np.float32, manifest.limits[manifest.features.index(TARGET)])
        for forecast in StreamPredictor(self.bundle).stream(series, start, issue):
            finite = np.isfinite(forecast)
            self.forecasts += forecast.size
            self.not_finite += int((~finite).sum())
            self.outside += int((finite & ((forecast < low) | (forecast > high))).sum())
            yield forecast


def settings(fill: str, hidden: str, epochs: int, channels: int) -> RunConfig:
    """Return the configuration of a run."""
    model: dict[str, Any] = {**MODEL, "fill": fill, "hidden": channels}
    return RunConfig(
        STUNetConfig(**model), TrainingConfig(**{**TRAINING, **HIDDEN[hidden], "epochs": epochs}), (TARGET,)
    )


def identify(hidden: str, seed: int, data: Path, config: RunConfig) -> dict[str, Any]:
    """Return what a training is known by."""
    parts = {"model": asdict(config.model), "training": asdict(config.training)}
    return {"data": data.name, "hidden": hidden, "seed": seed, "config": parts}


def scores(series: Series, split: Split, predictors: Any) -> list[dict[str, Any]]:
    """Return the errors of a carried stream: nothing lost, then every share of every loss."""

    def score(loss: str, shares: Sequence[float], hours: float | None) -> list[dict[str, Any]]:
        found: list[Result] = evaluate_hidden(
            series,
            split,
            predictors,
            shares,
            targets=(TARGET,),
            regimes=("stream",),
            block_hours=hours,
            seed=LOST_SEED,
        )
        return [{"loss": loss, **asdict(result)} for result in found]

    losses = [score(loss, SHARES, hours) for loss, hours in LOSSES.items()]
    return score("nothing", (0.0,), None) + [entry for found in losses for entry in found]


def runs_of(data: Path, series: Series, known: dict[str, Any], config: RunConfig) -> list[dict[str, Any]]:
    """Train a model, export it with each of its fills and score the bundles; return what was found of each."""
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    begin = time.process_time()
    checkpoint = TrainingRun(series, read_graph(data, series.sensor_ids), config, seed=known["seed"]).run()
    seconds = time.process_time() - begin
    where = environment()
    found = []
    for fill in FILLS[config.model.fill]:
        with tempfile.TemporaryDirectory() as folder:
            watched = Watched(export_bundle(checkpoint.with_fill(fill), Path(folder) / "model.bundle"))
            results = scores(series, split, lambda seen, bundle=watched: [bundle])
        about = {
            **known,
            "fill": fill,
            "cpu_seconds": seconds,
            "validation_mae": checkpoint.training["validation_mae"],
            "forecasts": watched.forecasts,
            "not_finite": watched.not_finite,
            "outside": watched.outside,
            **{key: where[key] for key in ("commit", "cpu", "python", "onnxruntime")},
            "results": results,
        }
        found.append(about)
    return found


def errors(results: Sequence[Mapping[str, Any]], loss: str, share: float) -> list[float]:
    """Return the MAE at every scored horizon, averaged over the runs."""
    loss = loss if share else "nothing"
    chosen = [one for one in results if (one["loss"], one["hidden"]) == (loss, share)]
    horizons = sorted({one["horizon_minutes"] for one in chosen})
    return [float(np.mean([one["mae"] for one in chosen if one["horizon_minutes"] == at])) for at in horizons]


def mean(results: Sequence[Mapping[str, Any]], loss: str, share: float) -> float:
    """Return the MAE averaged over horizons and runs."""
    return float(np.mean(errors(results, loss, share)))


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    torch.set_num_threads(1)
    series = read_series(options.data, timezone=TIMEZONE)
    store = Store(options.out / "missing_data.json")
    wanted = []
    for seed in range(options.seeds):
        for hidden, fill in itertools.product(options.hidden, options.fills):
            if fill not in BEHIND or (seed == 0 and "hide_sensors" not in HIDDEN[hidden]):
                config = settings(fill, hidden, options.epochs, options.channels)
                wanted.append((identify(hidden, seed, options.data, config), config))
    for known, config in wanted:
        if not store.find(known):
            store.add(*runs_of(options.data, series, known, config))
            print(f"{config.model.fill}, {known['hidden']} hidden, seed {known['seed']}: trained", flush=True)
    split = choose_protocol(series, "auto", STUNetConfig.window, STUNetConfig.horizon)
    baselines = (persistence, time_of_day_average)
    still = scores(series, split, lambda seen: [baseline(seen, split, (TARGET,)) for baseline in baselines])
    return {"runs": [one for known, _ in wanted for one in store.find(known)], "baselines": still}


def report(result: dict[str, Any]) -> str:
    """Return the tables as a page."""
    runs, still = result["runs"], result["baselines"]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for fill in (fill for fills in FILLS.values() for fill in fills):
        for hidden in HIDDEN:
            if found := [one for one in runs if (one["fill"], one["hidden"]) == (fill, hidden)]:
                groups[fill, hidden] = found
    rows = {key: [entry for one in found for entry in one["results"]] for key, found in groups.items()}
    for name in dict.fromkeys(entry["model"] for entry in still):
        rows[f"*{name.replace('_', ' ')}*", ""] = [entry for entry in still if entry["model"] == name]
    last, commits = runs[-1], ", ".join(sorted({commit(one) for one in runs}))
    checked, not_finite, outside = (sum(one[key] for one in runs) for key in ("forecasts", "not_finite", "outside"))
    costs, blocks = [], []
    for (fill, hidden), found in rows.items():
        trained = groups.get((fill, hidden), [])
        whole = mean(found, "nothing", 0.0)
        cells = [f"{whole:.2f}{spread(trained, 'nothing', 0.0)}"]
        for loss in LOSSES:
            lost = mean(found, loss, 0.3)
            cells.append(f"{lost:.2f}{spread(trained, loss, 0.3)} ({lost / whole - 1:+.1%})")
        seconds = f"{np.mean([one['cpu_seconds'] for one in trained]):.0f}" if trained else ""
        costs.append([fill, hidden, *cells, seconds, len(trained) or ""])
    shares = (0.0, *SHARES)
    for loss in LOSSES:
        of_loss = []
        for (fill, hidden), found in rows.items():
            cells = [" / ".join(f"{error:.2f}" for error in errors(found, loss, share)) for share in shares]
            cells = [f"{cell}: {mean(found, loss, share):.2f}" for cell, share in zip(cells, shares, strict=True)]
            of_loss.append([fill, hidden, *cells])
        columns = ["fill", "hidden in training", *(f"{100 * share:g} %" for share in shares)]
        blocks += [f"## MAE at 15 / 30 / 60 minutes and its mean, {loss} lost", table(columns, of_loss)]
    return page(
        "What missing data costs",
        f"`{result['command']}` on {last['data']}. MAE (mph) on the test span, state carried through the exported "
        "bundle, at all sensors against what was measured. Lost from the stream: single readings at random, or whole "
        "sensors in blocks of 4 or of 48 hours, neighbouring blocks making longer outages; the same for every row. "
        "Hidden in training: a fifth of the readings, and beside them three tenths of the sensors, each from one "
        f"random interval of a chunk to another. All models: {last['config']['model']['hidden']} channels, daily "
        "profile, the same number of updates. `usual`, `forecast` and `last` hidden alike are the same weights, "
        "learnt with `usual` and exported three times.",
        f"{last['cpu']}, one thread; torch {result['environment']['torch']}, onnxruntime {last['onnxruntime']}, commit "
        f"{commits}.",
        f"Of {checked:,} numbers forecast {not_finite} were not finite and {outside} outside the manifest's limits.",
        "## What a loss of 30 % costs",
        "Mean of the MAE at 15, 30 and 60 minutes, ± its standard deviation over seeds; the cost is against the same "
        "model with nothing lost.",
        table(["fill", "hidden in training", "nothing lost", *LOSSES, "CPU s to train", "seeds"], costs),
        *blocks,
    )


def spread(runs: Sequence[Mapping[str, Any]], loss: str, share: float) -> str:
    """Return the standard deviation of the mean MAE over seeds, where there are several."""
    if len(runs) < 2:
        return ""
    return f" ±{np.std([mean(one['results'], loss, share) for one in runs], ddof=1):.2f}"


if __name__ == "__main__":
    main()
