"""How good the models are that one would compare with, on five real sets, and what a forecast costs.

    python -m benchmarks.accuracy.baselines [--set metr-la …] [--model ridge trees …] [--seeds 3] [--minutes 10]

Every model is fitted on the training span, its settings and its best epoch are chosen on the validation span, and it is
scored once on the test span. The time is that of the processor, on one thread; that of a forecast is for one issue time
and all sensors, readings already filled and normalised, in Python with numpy, LightGBM or torch; of this project's
presets it is a push to a stream. A run is kept as soon as it is done, and is on the page of later ones with as many
minutes; runs found with the same set, model, seed and minutes are not repeated, those of a preset while it has the same
settings. Draws baselines.svg beside its page.
"""

from __future__ import annotations

import io
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.five_sets import NAMES, SETS, Recording, chosen_recordings
from benchmarks.accuracy.five_sets import identify as preset_identity
from benchmarks.harness.command import Command
from benchmarks.harness.page import errors_cell, machine, measured_on, page, table, write
from benchmarks.harness.store import Run, Store
from benchmarks.peers.models import MODELS, OURS
from benchmarks.peers.ours import Preset
from benchmarks.peers.task import Task
from stunet_deploy.graph.files import read_graph
from training.evaluation import Predictor, evaluate
from training.protocols import choose_protocol

MODULE = "benchmarks.accuracy.baselines"
#: The chart has the models whose error is at most so many times the smallest.
DRAWN = 1.5
#: Versions that the figures depend on beside those that every page names.
LIBRARIES = ("lightgbm", "scikit-learn", "statsmodels")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing and write the tables."""
    command = Command(MODULE, __doc__)
    command.option("--set", NAMES, "which recordings", choices=NAMES)
    command.option("--model", tuple(MODELS), "which models", choices=MODELS)
    command.option("--seeds", 3, "number of seeds of a model that is random", quick=1)
    command.option("--minutes", 10.0, "CPU time of a fit, where it takes what it is given", quick=0.01)
    command.option("--forecasts", 30, "how many single forecasts are timed", quick=2)
    command.option("--jobs", 2, "runs at a time, one thread each")
    options, result = command.run(measure, report, arguments)
    write(options.out / "baselines.svg", picture(result))


def identify(recording: Recording, model: str, seed: int, minutes: float) -> dict[str, Any]:
    """Return what a run is known by; of a preset its settings too, which change."""
    known = {"set": recording.name, "model": model, "seed": seed, "minutes": minutes}
    return known | ({"config": preset_identity(recording, model, seed, minutes)["config"]} if model in OURS else {})


def is_present(store: Store, one: Run, recordings: Sequence[Recording]) -> bool:
    """Return whether a kept run is what its model is now, and not an earlier form of a preset."""
    if one["model"] not in OURS:
        return True
    (recording,) = (recording for recording in recordings if recording.name == one["set"])
    return one in store.find(identify(recording, one["model"], one["seed"], one["minutes"]))


def run(recording: Recording, model: str, seed: int, minutes: float, forecasts: int) -> dict[str, Any]:
    """Fit, score and time one model."""
    torch.set_num_threads(1)
    series = recording.series()
    graph, split = read_graph(recording.graph, series.sensor_ids), choose_protocol(series)
    target = recording.targets[0] if recording.targets else series.features[0]
    task = Task(series, split, target, graph, seed, minutes)
    begin = time.process_time()
    predictor = MODELS[model].fit(task)
    seconds = time.process_time() - begin
    found = evaluate(series, split, [predictor], targets=(target,), regimes=("stream",))
    return {
        **identify(recording, model, seed, minutes),
        "cpu_seconds": seconds,
        "chosen": getattr(predictor, "chosen", {}),  # on the validation span; some models have nothing to choose
        "forecast_us": predictor.single_forecasts(task, forecasts)
        if isinstance(predictor, Preset)
        else single_forecasts(predictor, task, forecasts),
        "environment": measured_on(*LIBRARIES),
        "results": [asdict(result) for result in found],
    }


def single_forecasts(predictor: Predictor, task: Task, number: int) -> list[float]:
    """Return the CPU time of single forecasts of all sensors, in microseconds; the first, which prepares, is left out.

    Args:
        predictor: asked for one issue row of the test span at a time, by window.
        task: with its recording.
        number: of forecasts, evenly spread.
    """
    times = []
    for issue in np.linspace(0, len(task.split.test) - 1, number + 1).astype(int):
        begin = time.process_time_ns()
        for _ in predictor.window(task.series, task.split.test[issue : issue + 1], task.split.window):
            pass
        times.append((time.process_time_ns() - begin) / 1000)
    return times[1:]


def measure(options: Namespace) -> dict[str, Any]:
    """Do the runs that are not stored and return all."""
    store = Store(options.out / "baselines.json")
    recordings = chosen_recordings(options)
    wanted = [
        (recording, model, seed, options.minutes)
        for seed in range(options.seeds)
        for recording in recordings
        for model in options.model
        if MODELS[model].random or seed == 0
    ]
    store.complete(
        *(wanted, identify, partial(run, forecasts=options.forecasts), options.jobs),
        lambda one: f"{one['set']}, {one['model']}: {errors_cell(one['results'])}, {one['cpu_seconds']:.0f} s",
    )
    every = list(dict.fromkeys((*SETS, *recordings)))
    runs = [one for one in store.runs if is_present(store, one, every)]
    known = {one["set"] for one in runs if one["minutes"] == options.minutes}
    sets = {one.name: one.title for one in every if one.name in known}
    return {"minutes": options.minutes, "sets": sets, "runs": runs}


def by_model(runs: Sequence[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the runs on a set by model, in the order of the models."""
    found = {key: [one for one in runs if (one["set"], one["model"]) == (name, key)] for key in MODELS}
    return {key: of_model for key, of_model in found.items() if of_model}


def forecast_us(runs: Sequence[dict[str, Any]]) -> float:
    """Return the median CPU time of a forecast, in microseconds."""
    return float(np.median([us for one in runs for us in one["forecast_us"]]))


def longest_error(runs: Sequence[dict[str, Any]]) -> float:
    """Return the mean absolute error at the longest horizon, averaged over runs."""
    return float(np.mean([max(one["results"], key=lambda score: score["horizon_minutes"])["mae"] for one in runs]))


def report(result: dict[str, Any]) -> str:
    """Return a table for each set as a page."""
    blocks, all_runs = [], [one for one in result["runs"] if one["minutes"] == result["minutes"]]
    for name, title in result["sets"].items():
        rows = []
        for key, runs in by_model(all_runs, name).items():
            errors = errors_cell([score for one in runs for score in one["results"]])
            seconds = np.mean([one["cpu_seconds"] for one in runs])
            rows.append([MODELS[key].title, errors, len(runs), f"{seconds:.0f}", f"{forecast_us(runs):,.0f}"])
        horizons = {
            score["horizon_minutes"] for one in result["runs"] if one["set"] == name for score in one["results"]
        }
        at = " / ".join(f"{minutes:g}" for minutes in sorted(horizons))
        blocks += [
            f"## {title}",
            table(["model", f"MAE at {at} minutes", "seeds", "CPU s to fit", "CPU µs a forecast"], rows),
        ]
    where = all_runs[-1]["environment"]
    return page(
        "The models that one would compare with, on five sets",
        f"`{result['command']}`: at most {result['minutes']:g} CPU minutes a fit where a model takes what it is "
        f"given, one thread. {machine(where, *LIBRARIES)}",
        "Splits: protocol A (70/10/20 of the windows), for PeMSD7(M) B (days 5/1/1). MAE over observed labels; "
        "± is the standard deviation over seeds. A forecast is for one issue time and all sensors, readings already "
        "filled and normalised: the median of its CPU time in Python. LSVR, ridge regression and trees forecast the "
        "three horizons, the others every interval up to the last. GCGRU is scored with its state carried and timed on "
        "a whole window; carried, a forecast takes one step of it. The presets of this project are scored with their "
        "state carried and timed as they are deployed: a push to a stream on ONNX Runtime, which takes the readings as "
        "they come. The first two sets are one week of sets that are published whole: the figures do not compare with "
        "published ones.",
        "![Error at the longest horizon against CPU time of a forecast](baselines.svg)\n\n"
        f"The chart has the models whose error is at most {DRAWN:g} times the smallest; `small`, `default` and `best` "
        "are the presets of ST-UNet.",
        *blocks,
    )


def picture(result: dict[str, Any]) -> str:
    """Return a chart of error at the longest horizon against CPU time of a forecast, a panel for each set, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    all_runs = [one for one in result["runs"] if one["minutes"] == result["minutes"]]
    # The same numbers give the same file.
    with pyplot.rc_context({"svg.hashsalt": "baselines", "svg.fonttype": "none", "font.size": 9}):
        rows = -(-len(result["sets"]) // 2)
        figure, panels = pyplot.subplots(rows, 2, figsize=(11, 3.6 * rows), layout="constrained", squeeze=False)
        for axes in panels.flat[len(result["sets"]) :]:
            axes.remove()
        for axes, (name, title) in zip(panels.flat, result["sets"].items(), strict=False):
            of_set = by_model(all_runs, name)
            errors = {key: longest_error(runs) for key, runs in of_set.items()}
            drawn = (key for key, error in errors.items() if error <= DRAWN * min(errors.values()))
            for number, key in enumerate(drawn):
                place, ours = (forecast_us(of_set[key]), errors[key]), key in OURS
                axes.plot(*place, "o", color="#d95f02" if ours else "#7f8c9b")
                label = {"text": key, "weight": "bold"} if ours else {"text": MODELS[key].title}
                above = 3 if number % 2 else -9  # neighbours are often close
                axes.annotate(xy=place, xytext=(4, above), textcoords="offset points", fontsize=7, **label)
            axes.set_xscale("log")
            axes.margins(0.15, 0.08)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("CPU µs a forecast")
            axes.set_ylabel("MAE at the longest horizon")
            axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()


if __name__ == "__main__":
    main()
