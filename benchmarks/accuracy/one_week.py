"""Accuracy on one real week: train, evaluate, export, verify and stream by the command line, and write the tables.

    python -m benchmarks.accuracy.one_week [--set metr-la pemsd7-m] [--model stunet srnn] [--minutes 10] [--seed 0]

A week has a page of its own, one_week_<set>; a model that is not named keeps what stands there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, measured_on, number, page, stored, table, write_page
from benchmarks.harness.weeks import WEEKS, Week
from benchmarks.harness.workbench import stunet

MODULE = "benchmarks.accuracy.one_week"
FAMILIES = ("stunet", "srnn")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the weeks asked for and write their tables."""
    command = Command(MODULE, __doc__)
    command.weeks()
    command.option("--model", FAMILIES, "which model families", choices=FAMILIES)
    command.option("--minutes", 10.0, "training time of each", quick=0.01)
    command.option("--seed", 0, "seed of all randomness")
    options = command.parse(arguments)
    for week in options.weeks:
        name = f"one_week_{week.name}"
        runs = stored(options.out / f"{name}.json")
        for family in () if options.page_only else options.model:
            runs[family] = run_week(week, family, options.minutes, options.seed)
        runs = {family: runs[family] for family in FAMILIES if family in runs}
        text = report(week.name, runs)
        write_page(options.out, name, None if options.page_only else runs, text)
        print(text)


def run_week(week: Week, family: str, minutes: float, seed: int) -> dict[str, Any]:
    """Take one week all the way with a model family and return everything that was printed."""
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = Path(folder) / "model.pt", Path(folder) / "model.bundle"
        limits = ("--max-minutes", minutes, "--seed", seed)
        trained = stunet("train", *week.source, "--model", family, *limits, "--out", model)
        evaluated = stunet("evaluate", model, *week.source)
        stunet("export", model, "--out", bundle)
        verified = stunet("verify", bundle)
        from_bundle = stunet("evaluate", bundle, *week.source)
        streamed = stunet("run", bundle, "--replay", week.file)
    del trained["model"], trained["log"]  # the paths of this run
    return {
        "minutes": minutes,
        "seed": seed,
        "environment": measured_on(),
        "train": trained,
        "evaluate": evaluated,
        "verify": verified,
        "evaluate_bundle": from_bundle,
        "run": streamed,
    }


def report(name: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one week's results as a page.

    Args:
        name: of the week.
        runs: what :func:`run_week` found, by model family.
    """
    week, cells = WEEKS[name], dict[tuple[str, str], dict[float, str]]()
    for found in runs.values():
        for entry in found["evaluate"]["results"]:
            cell = f"{entry['mae']:.2f} / {number(entry['mape'], '.1f')} / {entry['rmse']:.2f}"
            cells.setdefault((entry["model"], entry["protocol"]), {})[entry["horizon_minutes"]] = cell
    horizons = sorted({minutes for row in cells.values() for minutes in row})
    rows = [
        [model, protocol, *(row[minutes] for minutes in horizons)]
        for (model, protocol), row in sorted(cells.items(), key=lambda row: row[0][0] not in runs)  # baselines below
        if protocol == "stream" or model in runs
    ]
    unlike = "*ST-UNet as published, trained and tested on the full set: not comparable*"
    return page(
        week.title,
        f"`python -m {MODULE} --set {name}`. Split: {week.split}. MAE (mph) / MAPE (%) / RMSE (mph) over observed "
        "labels; `window` from zero state over 12 intervals, `stream` with the state carried.",
        table(
            ["model", "protocol", *(f"{minutes:g} min" for minutes in horizons)],
            [*rows, [unlike, "window", *week.published]],
        ),
        *(provenance(family, found) for family, found in runs.items()),
    )


def provenance(family: str, found: Mapping[str, Any]) -> str:
    """Return how a model was trained and verified."""
    trained, verified = found["train"], found["verify"]
    return (
        f"**{family}**: preset default, at most {found['minutes']:g} minutes, seed "
        f"{found['seed']}; trained {trained['seconds'] / 60:.1f} minutes, {trained['epochs']} epochs, best validation "
        f"MAE {trained['best_validation_mae']:.3f} after epoch {trained['best_epoch']}. "
        f"{machine(found['environment'])} Verified on {verified['backend']} over {verified['intervals']} intervals "
        "with a tenth of readings hidden: largest difference from the float64 reference "
        f"{verified['max_abs_error']:.1e} mph (tolerance {verified['tolerance']:.1e}), mean of the second half over "
        f"that of the first {verified['course']['growth']:.2f}."
    )


if __name__ == "__main__":
    main()
