"""What each precision costs on one week of METR-LA: difference, drift, forecast error and size, all in one export.

    python -m benchmarks.accuracy.precision [--checkpoint model.pt] [--minutes 9] [--seed 0]

Without a checkpoint it trains one as benchmarks.accuracy.one_week does.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, measured_on, number, page, table
from benchmarks.harness.workbench import stunet
from runtime.backends.base import open_backend
from runtime.backends.onnxruntime.cpu import CPU_PRECISIONS
from runtime.golden_replay import recorded_inputs
from runtime.timing import interleave, paired_ratio
from stunet_deploy.bundle import Bundle
from stunet_deploy.precisions import FLOAT32, PRECISIONS, graph_name


def main(arguments: Sequence[str] | None = None) -> None:
    """Train where there is no checkpoint, measure, and write the table."""
    command = Command("benchmarks.accuracy.precision", __doc__)
    command.weeks("metr-la")
    command.option("--checkpoint", None, "a model.pt of one week of METR-LA instead of training one", kind=Path)
    command.option("--minutes", 9.0, "training time", quick=0.01)
    command.option("--rounds", 400, "how often a step of each precision is timed", quick=2)
    command.option("--seed", 0, "seed of all randomness")
    command.run(measure, report, arguments)


def cpu_ratios(bundle: Bundle, rounds: int) -> dict[str, float]:
    """Return how many times longer a step of each precision takes than one of fp32, on this CPU with one thread."""
    golden = bundle.golden()
    rows = slice(0, 50)
    recording = golden.timestamps[rows], golden.values[rows], golden.observed[rows]
    inputs = list(recorded_inputs(bundle.manifest, *recording))
    backends = {precision: open_backend(bundle, precision=precision) for precision in CPU_PRECISIONS}

    def stepper(precision: str) -> Any:
        turn = iter(range(sys.maxsize))
        return lambda: backends[precision].step(inputs[next(turn) % len(inputs)])

    samples = interleave({precision: stepper(precision) for precision in backends}, rounds, warm_up=min(20, rounds))
    return {precision: paired_ratio(samples[precision], samples[FLOAT32]) for precision in backends}


def measure(options: Namespace) -> dict[str, Any]:
    """Train if need be, export every precision, and return what the manifest says of it."""
    (week,) = options.weeks
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, out = options.checkpoint or Path(folder) / "model.pt", Path(folder) / "model.bundle"
        if options.checkpoint is None:
            limits = ("--max-minutes", options.minutes, "--seed", options.seed)
            stunet("train", *week.source, *limits, "--out", checkpoint)
        # Forced: a precision that loses much belongs into the table too.
        stunet("export", checkpoint, "--out", out, "--precision", ",".join(PRECISIONS), "--force")
        bundle = Bundle.load(out)
        manifest = bundle.manifest
        return {
            "environment": measured_on("onnx", "onnx-ir"),
            "training": {key: manifest.training[key] for key in sorted(manifest.training)},
            "unit": manifest.units[manifest.features.index(manifest.targets[0])],
            "bundle_id": manifest.bundle_id,
            "parity": dict(manifest.parity),
            "accuracy": dict(manifest.accuracy),
            "bytes": {precision: (out / graph_name(precision)).stat().st_size for precision in PRECISIONS},
            "cpu_time_over_fp32": cpu_ratios(bundle, options.rounds),
        }


def report(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    unit, base, rows = found["unit"], found["accuracy"][FLOAT32]["results"], []
    for precision in PRECISIONS:
        parity, accuracy = found["parity"][precision], found["accuracy"][precision]
        losses = [entry["mae"] / alone["mae"] - 1 for entry, alone in zip(accuracy["results"], base, strict=True)]
        shown = [f"{entry['mae']:.4f}" for entry in base] if precision == FLOAT32 else [f"{s:+.3%}" for s in losses]
        rows.append(
            [
                precision,
                f"{found['bytes'][precision] / 1e3:.0f}",
                f"{parity['max_abs_error']:.2g}",
                f"{parity['mean_abs_error']:.2g}",
                f"{parity['course']['growth']:.2f}",
                *shown,
                "" if precision == FLOAT32 else f"{accuracy['loss']:+.3%}",
                parity["measured_by"],
                number(found["cpu_time_over_fp32"].get(precision)),
            ]
        )
    leads = [f"{entry['horizon_minutes']:g} min" for entry in base]
    columns = ["precision", "graph kB", "largest difference", "mean difference", "drift", *leads, "worst loss"]
    return page(
        "What each precision costs",
        f"`{found['command']}`: one week of METR-LA, preset default as in "
        f"[one_week_metr-la](one_week_metr-la.md). Differences ({unit}) from the float64 reference over the golden "
        f"stream of {found['parity'][FLOAT32]['intervals']} intervals, state carried; drift is the mean difference in "
        "its second half over that in the first. Then MAE on the reference stream by lead time, most of which was "
        f"trained on: of fp32 in {unit}, of the others what they lose against it.",
        table([*columns, "measured by", "CPU time"], rows),
        "tf32 is the graph of fp32 on hardware that rounds. *Emulated*: in float32 with the precision's roundings as "
        "nodes of the graph, because ONNX Runtime's CPU has no products of that precision. CPU time is a step over one "
        "of fp32 in the same run, one thread (median of pairs); fp16 and int8 multiply in float32 there and are meant "
        "for a GPU.",
        machine(found["environment"], "onnx-ir"),
    )


if __name__ == "__main__":
    main()
