"""Accuracy on one real week: train, evaluate, export, verify and stream by the command line, and write the tables.

    python -m benchmarks.accuracy.one_week [--set metr-la pemsd7-m] [--model stunet srnn] [--minutes 20] [--seed 0]

Needs the week files metr-la.npz and pemsd7-m.npz in the folder named by STUNET_DATA (or shared/data beside the
repository). Writes benchmarks/results/one_week_<set>.{json,md}; a model that is not named keeps what stands there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, stunet, write_results
from runtime.timing import environment


@dataclass(frozen=True)
class WeekSet:
    """One of the two weeks.

    Attributes:
        title: heading of its table.
        file: name of the recording.
        timezone: of its naive stamps.
        split: in words.
        published: ST-UNet's published MAE / MAPE % / RMSE at 15, 30 and 60 minutes on the FULL set.
    """

    title: str
    file: str
    timezone: str
    split: str
    published: tuple[str, str, str]


SETS = {
    "metr-la": WeekSet(
        "One week of METR-LA (2012-03-01 to 03-07), protocol A on its 2,016 rows",
        "metr-la.npz",
        "America/Los_Angeles",
        "70/10/20 of the windows",
        ("2.72 / 6.9 / 5.13", "3.12 / 8.4 / 6.16", "3.55 / 10.0 / 7.40"),
    ),
    "pemsd7-m": WeekSet(
        "One week of PeMSD7(M) (seven weekdays), protocol B, days 5/1/1",
        "pemsd7-m.npz",
        "America/Los_Angeles",
        "days 5/1/1, windows within a day",
        ("2.15 / 5.06 / 4.03", "2.81 / 6.79 / 5.42", "3.38 / 8.33 / 6.68"),
    ),
}
FAMILIES = ("stunet", "srnn")


def config_file(name: str, family: str) -> Path:
    """Return the config of a model family for a week."""
    return ROOT / "benchmarks" / "configs" / (f"{name}.toml" if family == "stunet" else f"{name}-{family}.toml")


def run_week(name: str, family: str, minutes: float, seed: int) -> dict[str, Any]:
    """Take one week all the way with a model family and return everything that was printed."""
    week = SETS[name]
    data, config = SHARED / week.file, config_file(name, family)
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = Path(folder) / "model.pt", Path(folder) / "model.bundle"
        source = ("--data", data, "--timezone", week.timezone)
        limits = ("--max-minutes", str(minutes), "--seed", str(seed))
        trained = stunet("train", *source, "--model", family, "--config", config, *limits, "--out", model)
        evaluated = stunet("evaluate", model, *source)
        stunet("export", model, "--out", bundle)
        verified = stunet("verify", bundle)
        from_bundle = stunet("evaluate", bundle, *source)
        streamed = stunet("run", bundle, "--replay", data)
    del trained["model"], trained["log"]  # the paths of this run
    return {
        "minutes": minutes,
        "seed": seed,
        "config": config.read_text(encoding="utf-8"),
        "environment": environment(),
        "train": trained,
        "evaluate": evaluated,
        "verify": verified,
        "evaluate_bundle": from_bundle,
        "run": streamed,
    }


def report(name: str, runs: dict[str, dict[str, Any]]) -> str:
    """Return one week's results as Markdown.

    Args:
        name: of the week.
        runs: what :func:`run_week` found, by model family.
    """
    week, rows = SETS[name], dict[tuple[str, str], dict[float, str]]()
    for found in runs.values():
        for entry in found["evaluate"]["results"]:
            cell = f"{entry['mae']:.2f} / {entry['mape']:.1f} / {entry['rmse']:.2f}"
            rows.setdefault((entry["model"], entry["protocol"]), {})[entry["horizon_minutes"]] = cell
    horizons = sorted({minutes for cells in rows.values() for minutes in cells})
    ordered = sorted(rows.items(), key=lambda row: row[0][0] not in runs)  # baselines below
    return "\n".join(
        [
            f"# {week.title}",
            "",
            f"`python -m benchmarks.accuracy.one_week --set {name}`. "
            f"Split: {week.split}. MAE (mph) / MAPE (%) / RMSE (mph) "
            "over observed labels; `window` from zero state over 12 intervals, `stream` with the state carried.",
            "",
            "| model | protocol | " + " | ".join(f"{minutes:g} min" for minutes in horizons) + " |",
            "| --- | --- |" + " --- |" * len(horizons),
            *(
                f"| {model} | {protocol} | " + " | ".join(cells[minutes] for minutes in horizons) + " |"
                for (model, protocol), cells in ordered
                if protocol == "stream" or model in runs
            ),
            "| *ST-UNet as published, trained and tested on the full set: not comparable* | window | "
            + " | ".join(week.published)
            + " |",
            "",
            *(line for family, found in runs.items() for line in provenance(name, family, found)),
        ]
    )


def provenance(name: str, family: str, found: dict[str, Any]) -> list[str]:
    """Return how a model was trained and verified, as lines of Markdown."""
    where, trained, verified = found["environment"], found["train"], found["verify"]
    config = config_file(name, family).name
    training = (
        f"at most {found['minutes']:g} minutes, seed {found['seed']}; trained {trained['seconds'] / 60:.1f} minutes, "
        f"{trained['epochs']} epochs, best validation MAE {trained['best_validation_mae']:.3f} after epoch "
        f"{trained['best_epoch']}."
    )
    machine = (
        f"{where['cpu']}, {where['cores']} cores; Python {where['python']}, onnxruntime {where['onnxruntime']}, commit "
        f"{(where['commit'] or 'unknown')[:12]}."
    )
    verification = (
        f"Verified on {verified['backend']} over {verified['intervals']} intervals with a tenth of readings hidden: "
        f"largest difference from the float64 reference {verified['max_abs_error']:.1e} mph (tolerance "
        f"{verified['tolerance']:.1e}), mean of the second half over that of the first "
        f"{verified['course']['growth']:.2f}."
    )
    return [f"**{family}**: [configs/{config}](../configs/{config}), {training} {machine} {verification}", ""]


def main() -> None:
    """Run the weeks asked for and write their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS), help="which weeks")
    parser.add_argument("--model", nargs="+", choices=FAMILIES, default=FAMILIES, help="which model families")
    parser.add_argument("--minutes", type=float, default=20, help="training time for each")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    missing = [SHARED / SETS[name].file for name in options.set if not (SHARED / SETS[name].file).is_file()]
    if missing:
        parser.error(f"no file {missing[0]}; set STUNET_DATA to the folder of the week files")
    for name in options.set:
        stored = options.out / f"one_week_{name}.json"
        runs = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
        for family in options.model:
            runs[family] = run_week(name, family, options.minutes, options.seed)
        runs = {family: runs[family] for family in FAMILIES if family in runs}
        text = report(name, runs)
        write_results(options.out, f"one_week_{name}", runs, text, indent=1)
        print(text)


if __name__ == "__main__":
    main()
