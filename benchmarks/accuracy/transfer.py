"""A Structural-RNN of one network on another: METR-LA's weights on PeMSD7(M), as they are and trained on.

    python -m benchmarks.accuracy.transfer [--start la.pt] [--start-minutes 9] [--minutes 0.5 2]

Without --start it first trains on METR-LA. Every row but the first has the same minutes of training on PeMSD7(M), from
the weights of METR-LA or from random ones; all are scored on PeMSD7(M)'s test day. Needs the week files metr-la.npz and
pemsd7-m.npz in the folder named by STUNET_DATA (or shared/data beside the repository). Writes
benchmarks/results/transfer.{json,md}.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.accuracy.one_week import SETS, config_file
from benchmarks.harness.workbench import RESULTS, SHARED, stunet, write_results
from runtime.timing import environment

FIRST, SECOND = "metr-la", "pemsd7-m"


def train(name: str, out: Path, *options: str) -> dict[str, Any]:
    """Train a Structural-RNN on a week and return what the command printed."""
    week = SETS[name]
    return stunet("train", "--data", SHARED / week.file, "--timezone", week.timezone, "--out", out, *options)


def score(model: Path) -> list[dict[str, Any]]:
    """Return the results of a checkpoint on the second week."""
    week = SETS[SECOND]
    found = stunet("evaluate", model, "--data", SHARED / week.file, "--timezone", week.timezone)["results"]
    return [entry for entry in found if entry["protocol"] == "stream"]


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where = result["environment"]
    horizons = sorted({entry["horizon_minutes"] for row in result["rows"] for entry in row["results"]})
    started = "" if result["start_minutes"] is None else f"{result['start_minutes']:g} minutes "
    lines = [
        "# A Structural-RNN of one network on another",
        "",
        "`python -m benchmarks.accuracy.transfer`: "
        f"trained {started}on one week of METR-LA (207 sensors), used on one week of "
        "PeMSD7(M) (228 other sensors). MAE (mph) with the state carried, on PeMSD7(M)'s test day.",
        "",
        "| weights | minutes on PeMSD7(M) | " + " | ".join(f"{minutes:g} min" for minutes in horizons) + " |",
        "| --- | --- |" + " --- |" * len(horizons),
    ]
    for row in result["rows"]:
        cells = {entry["horizon_minutes"]: f"{entry['mae']:.2f}" for entry in row["results"]}
        lines.append(
            f"| {row['weights']} | {row['minutes']:g} | {' | '.join(cells[minutes] for minutes in horizons)} |"
        )
    lines += [
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, commit "
        f"{(where['commit'] or 'unknown')[:12]}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, transfer, score and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, metavar="la.pt", help="a Structural-RNN trained on METR-LA")
    parser.add_argument("--start-minutes", default="9", metavar="M", help="training time on METR-LA without --start")
    parser.add_argument("--minutes", nargs="+", default=["0.5", "2"], metavar="M", help="training time on PeMSD7(M)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        start, model = options.start or Path(folder) / "start.pt", Path(folder) / "model.pt"
        if options.start is None:
            config = str(config_file(FIRST, "srnn"))
            train(FIRST, start, "--model", "srnn", "--config", config, "--max-minutes", options.start_minutes)

        def add(weights: str, minutes: float) -> None:
            found = score(model)
            rows.append(
                {
                    "weights": weights,
                    "minutes": minutes,
                    "results": [entry for entry in found if entry["model"] == "srnn"],
                }
            )
            if len(rows) == 1:
                still = [entry for entry in found if entry["model"] == "persistence"]
                rows.append({"weights": "persistence", "minutes": 0, "results": still})

        train(SECOND, model, "--start-from", str(start), "--epochs", "0")
        add("of METR-LA, as they are", 0)
        for minutes in options.minutes:
            train(SECOND, model, "--start-from", str(start), "--max-minutes", minutes)
            add("of METR-LA, trained on", float(minutes))
            config = str(config_file(SECOND, "srnn"))
            train(SECOND, model, "--model", "srnn", "--config", config, "--max-minutes", minutes)
            add("random at first", float(minutes))
    started = None if options.start is not None else float(options.start_minutes)
    result = {"environment": environment(), "start_minutes": started, "rows": rows}
    text = report(result)
    write_results(options.out, "transfer", result, text, indent=1)
    print(text)


if __name__ == "__main__":
    main()
