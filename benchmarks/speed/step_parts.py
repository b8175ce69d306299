"""What each part of an ST-UNet costs a step: the rows of the ablation on one graph, timed in turn.

    python -m benchmarks.speed.step_parts [--data metr-la.npz] [--rounds 300]

A push to a stream on ONNX Runtime, one thread; the models are untrained, since time does not depend on weights. Rows
that change the training alone are left out, and so is what the preset leaves out of such a recording.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.ablation import ROWS
from benchmarks.harness.command import Command
from benchmarks.harness.networks import recorded_checkpoint
from benchmarks.harness.page import machine, page, table
from benchmarks.speed.ways import burst, microseconds, streaming
from export.bundle import export_bundle
from runtime.timing import interleave, paired_ratio
from stunet_deploy.config import RunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.series.series import Series, read_series

#: The paper's polynomials and nothing beside the U: what a step was before there was a perceptron.
BARE: Mapping[str, Any] = {
    "chebyshev_order": 3, "profile": False, "lags": 0, "sensor_scale": False, "time_features": "week",
}  # fmt: skip
BARE_TITLE = "the U alone with three polynomials, without profile and perceptron"
#: Pushes that are timed as one: a single one is as short as what else a machine does.
PUSHES = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.step_parts", __doc__)
    command.recording()
    command.option("--rounds", 300, "how often each model is timed", quick=2)
    command.option("--rows", len(ROWS), "only so many rows, from the first on", quick=2)
    command.run(measure, report, arguments)


def configurations(series: Series, count: int) -> dict[str, RunConfig]:
    """Return the models by title, each once."""
    found = dict[str, RunConfig]()
    for row in ROWS[:count]:
        config = read_run_config(None, "stunet", row.preset, days=series.days)
        assert isinstance(config, RunConfig)
        config = replace(config, model=replace(config.model, **row.model))
        if config.model not in [other.model for other in found.values()]:
            found[row.title] = config
    default = found[ROWS[0].title]
    return {**found, BARE_TITLE: replace(default, model=replace(default.model, **BARE))}


def measure(options: Namespace) -> dict[str, Any]:
    """Time all models in turn."""
    torch.set_num_threads(1)
    series = read_series(options.data)
    configs = configurations(series, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        calls = {}
        for number, (title, config) in enumerate(configs.items()):
            checkpoint = recorded_checkpoint(series, options.data, config)
            bundle = export_bundle(checkpoint, Path(folder) / f"{number}.bundle")
            calls[title] = burst(streaming(bundle, series, 1), PUSHES)
        samples = interleave(calls, options.rounds, warm_up=min(10, options.rounds))
    return {
        "graph": {"data": options.data.name, "sensors": len(series.sensor_ids)},
        "models": {title: asdict(config.model) for title, config in configs.items()},
        "median_us": {title: one.median_us / PUSHES for title, one in samples.items()},
        "against_first": {title: paired_ratio(one, samples[ROWS[0].title]) for title, one in samples.items()},
        "against_bare": {title: paired_ratio(one, samples[BARE_TITLE]) for title, one in samples.items()},
        "samples_us": microseconds(samples),
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    graph = result["graph"]
    rows = [
        [title, f"{median:.0f}", f"{result['against_first'][title]:.2f}", f"{result['against_bare'][title]:.2f}"]
        for title, median in result["median_us"].items()
    ]
    return page(
        "What each part of the model costs a step",
        f"`{result['command']}`: {graph['data']}, {graph['sensors']} sensors; a push to a stream on ONNX Runtime, one "
        "thread, untrained models timed in turn. Ratios are medians over rounds, to the first row and to the last.",
        machine(result["environment"]),
        table(["model", "median µs", "times the default", "times the U alone"], rows),
    )


if __name__ == "__main__":
    main()
