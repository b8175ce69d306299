"""What each precision costs on one week of METR-LA: difference, drift, forecast error and size, all in one export.

    python -m benchmarks.accuracy.precision [--checkpoint model.pt] [--minutes 9] [--seed 0]

Without a checkpoint it trains one as benchmarks.accuracy.one_week does, on metr-la.npz in the folder STUNET_DATA (or
shared/data beside the repository). Writes benchmarks/results/precision.{json,md}.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, stunet, write_results
from runtime.backends.base import open_backend
from runtime.backends.onnxruntime.cpu import CPU_PRECISIONS
from runtime.golden_replay import recorded_inputs
from runtime.timing import environment, interleave, paired_ratio
from stunet_deploy.bundle import FLOAT32, PRECISIONS, Bundle, graph_name

ROUNDS = 400


def cpu_ratios(bundle: Bundle) -> dict[str, float]:
    """Return how many times longer a step of each precision takes than one of fp32, on this CPU with one thread."""
    golden = bundle.golden()
    recording = (array[:50] for array in (golden.timestamps, golden.values, golden.observed))
    inputs = list(recorded_inputs(bundle.manifest, *recording))
    backends = {precision: open_backend(bundle, precision=precision) for precision in CPU_PRECISIONS}

    def stepper(precision: str) -> Any:
        turn = iter(range(sys.maxsize))
        return lambda: backends[precision].step(inputs[next(turn) % len(inputs)])

    samples = interleave({precision: stepper(precision) for precision in backends}, ROUNDS, warm_up=20)
    return {precision: paired_ratio(samples[precision], samples[FLOAT32]) for precision in backends}


def measure(checkpoint: Path) -> dict[str, Any]:
    """Export every precision of a checkpoint and return what the manifest says of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.bundle"
        # Forced: a precision that loses much belongs into the table too.
        stunet("export", checkpoint, "--out", out, "--precision", ",".join(PRECISIONS), "--force")
        bundle = Bundle.load(out)
        manifest = bundle.manifest
        return {
            "environment": environment() | {name: metadata.version(name) for name in ("torch", "onnx", "onnx-ir")},
            "training": {key: manifest.training[key] for key in sorted(manifest.training)},
            "unit": manifest.units[manifest.features.index(manifest.targets[0])],
            "bundle_id": manifest.bundle_id,
            "parity": dict(manifest.parity),
            "accuracy": dict(manifest.accuracy),
            "bytes": {precision: (out / graph_name(precision)).stat().st_size for precision in PRECISIONS},
            "cpu_time_over_fp32": cpu_ratios(bundle),
        }


def report(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where, unit = found["environment"], found["unit"]
    base = found["accuracy"][FLOAT32]["results"]
    leads = [f"{entry['horizon_minutes']:g} min" for entry in base]
    columns = ["precision", "graph kB", "largest difference", "mean difference", "drift", *leads, "worst loss"]
    rows = []
    for precision in PRECISIONS:
        parity, accuracy = found["parity"][precision], found["accuracy"][precision]
        growth = parity["course"]["growth"]
        losses = [entry["mae"] / alone["mae"] - 1 for entry, alone in zip(accuracy["results"], base, strict=True)]
        shown = [f"{entry['mae']:.4f}" for entry in base] if precision == FLOAT32 else [f"{s:+.3%}" for s in losses]
        rows.append(
            [
                precision,
                f"{found['bytes'][precision] / 1e3:.0f}",
                f"{parity['max_abs_error']:.2g}",
                f"{parity['mean_abs_error']:.2g}",
                f"{growth:.2f}",
                *shown,
                "" if precision == FLOAT32 else f"{accuracy['loss']:+.3%}",
                parity["measured_by"],
                f"{found['cpu_time_over_fp32'][precision]:.2f}" if precision in found["cpu_time_over_fp32"] else "–",
            ]
        )
    columns += ["measured by", "CPU time"]
    intervals = found["parity"][FLOAT32]["intervals"]
    lines = [
        "# What each precision costs",
        "",
        f"`python -m benchmarks.accuracy.precision`: one week of METR-LA, network and training of "
        f"[one_week_metr-la](one_week_metr-la.md). Differences ({unit}) from the float64 reference over the golden "
        f"stream of {intervals} intervals, state carried; drift is the mean difference in its second half over that in "
        "the first. Then MAE on the reference stream by lead time, most of which was trained on: of fp32 in "
        f"{unit}, of the others what they lose against it.",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "tf32 is the graph of fp32 on hardware that rounds. *Emulated*: in float32 with the precision's roundings as "
        "nodes of the graph, because ONNX Runtime's CPU has no products of that precision. CPU time is a step over one "
        "of fp32 in the same run, one thread (median of pairs); fp16 and int8 multiply in float32 there and are meant "
        "for a GPU.",
        "",
        f"{where['cpu']}, {where['cores']} cores; Python {where['python']}, torch {where['torch']}, onnxruntime "
        f"{where['onnxruntime']}, onnx-ir {where['onnx-ir']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train where there is no checkpoint, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a model.pt of one week of METR-LA instead of training one")
    parser.add_argument("--minutes", type=float, default=9, help="training time")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    data, config = SHARED / "metr-la.npz", ROOT / "benchmarks" / "configs" / "metr-la.toml"
    if options.checkpoint is None and not data.is_file():
        parser.error(f"no file {data}; set STUNET_DATA to the folder of the week files")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or Path(folder) / "model.pt"
        if options.checkpoint is None:
            source = ("--data", data, "--timezone", "America/Los_Angeles", "--config", config)
            limits = ("--max-minutes", str(options.minutes), "--seed", str(options.seed))
            stunet("train", *source, *limits, "--out", checkpoint)
        found = measure(checkpoint)
    text = report(found)
    write_results(options.out, "precision", found, text, indent=1)
    print(text)


if __name__ == "__main__":
    main()
