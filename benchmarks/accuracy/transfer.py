"""A Structural-RNN of one network on another: METR-LA's weights on PeMSD7(M), as they are and trained on.

    python -m benchmarks.accuracy.transfer [--start la.pt] [--start-minutes 9] [--minutes 0.5 2]

Without --start it first trains on METR-LA. Every row but the first has the same minutes of training on PeMSD7(M), from
the weights of METR-LA or from random ones; all are scored on PeMSD7(M)'s test day.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, page, table
from benchmarks.harness.weeks import Week
from benchmarks.harness.workbench import stunet


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, transfer, score and write the table."""
    command = Command("benchmarks.accuracy.transfer", __doc__)
    command.weeks("metr-la", "pemsd7-m")
    command.option("--start", None, "a Structural-RNN trained on METR-LA", kind=Path)
    command.option("--start-minutes", 9.0, "training time on METR-LA without --start", quick=0.01)
    command.option("--minutes", (0.5, 2.0), "training time on PeMSD7(M)", quick=(0.01,))
    command.run(measure, report, arguments)


def train(week: Week, out: Path, *options: object) -> None:
    """Train a Structural-RNN on a week."""
    stunet("train", *week.source, "--out", out, *options)


def measure(options: Namespace) -> dict[str, Any]:
    """Train and score all rows."""
    first, second = options.weeks
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        start, model = options.start or Path(folder) / "start.pt", Path(folder) / "model.pt"

        def add(weights: str, minutes: float, *how: object) -> None:
            train(second, model, *how)
            found = [one for one in stunet("evaluate", model, *second.source)["results"] if one["protocol"] == "stream"]
            for name, of, spent in ((weights, "srnn", minutes), ("persistence", "persistence", 0)):
                if of == "srnn" or len(rows) == 1:
                    results = [entry for entry in found if entry["model"] == of]
                    rows.append({"weights": name, "minutes": spent, "results": results})

        anew = ("--model", "srnn")
        if options.start is None:
            train(first, start, *anew, "--max-minutes", options.start_minutes)
        add("of METR-LA, as they are", 0, "--start-from", start, "--epochs", 0)
        for minutes in options.minutes:
            limit = ("--max-minutes", minutes)
            add("of METR-LA, trained on", minutes, "--start-from", start, *limit)
            add("random at first", minutes, *anew, *limit)
    return {"start_minutes": None if options.start else options.start_minutes, "rows": rows}


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    started = "" if result["start_minutes"] is None else f"{result['start_minutes']:g} minutes "
    horizons = sorted({entry["horizon_minutes"] for row in result["rows"] for entry in row["results"]})
    rows = []
    for row in result["rows"]:
        cells = {entry["horizon_minutes"]: f"{entry['mae']:.2f}" for entry in row["results"]}
        rows.append([row["weights"], f"{row['minutes']:g}", *(cells[minutes] for minutes in horizons)])
    return page(
        "A Structural-RNN of one network on another",
        f"`{result['command']}`: trained {started}on one week of METR-LA (207 sensors), used on one week of PeMSD7(M) "
        "(228 other sensors). MAE (mph) with the state carried, on PeMSD7(M)'s test day.",
        table(["weights", "minutes on PeMSD7(M)", *(f"{minutes:g} min" for minutes in horizons)], rows),
        machine(result["environment"]),
    )


if __name__ == "__main__":
    main()
