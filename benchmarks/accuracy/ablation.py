"""What each part of the model is worth: ablations on two real weeks, some seeds, one budget of updates.

    python -m benchmarks.accuracy.ablation [--set metr-la pemsd7-m] [--seeds 3] [--epochs 8] [--jobs 2]

Every row of the tables differs from the first in what it names, and in nothing else: same data, same split, same number
of updates, same seeds. The rows of the recurrent decoder compare with the second, which has as few losses.

A run is written to benchmarks/results/ablation.json as soon as it is done; runs found there with the same settings are
not repeated, of whatever commit they are: remove the file to do them all anew. Needs the week files of
benchmarks.accuracy.one_week.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.workbench import RESULTS, SHARED
from runtime.timing import environment
from stunet_deploy.config import VARIANTS, RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.files import replacing
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from training.baselines import persistence
from training.evaluation import evaluate
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

SETS = {
    "metr-la": ("One week of METR-LA, protocol A on its 2,016 rows", "metr-la.npz"),
    "pemsd7-m": ("One week of PeMSD7(M), protocol B, days 5/1/1", "pemsd7-m.npz"),
}
TIMEZONE = "America/Los_Angeles"

MODEL: Mapping[str, Any] = {"hidden": 16, "profile": True, "time_features": "none", "fill": "last"}
TRAINING: Mapping[str, Any] = {"batch": 1, "chunk": 48, "learning_rate": 5e-3, "patience": 1000, "threads": 1}
#: A recurrent decoder forecasts after every sixth interval of a chunk: twelve steps after each would cost too much.
DECODER: Mapping[str, Any] = {"loss_every": 6}
PLAIN: Mapping[str, Any] = {"layer_norm": False}


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Attributes:
        title: what differs from the first row.
        model, training: the settings that differ.
        published: MAE of the paper's ablation on the FULL PeMSD7(M), without training tricks.
    """

    title: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    published: str = ""


ROWS = (
    Row("ST-UNet (direct, copy)", {}, {}),
    Row("direct, a loss after every 6th", {}, DECODER),
    Row("GCGRU", VARIANTS["GCGRU"], {}),
    Row("T-UNet", VARIANTS["T-UNet"], {}),
    Row("S-UNet", VARIANTS["S-UNet"], {}),
    Row("unpooling ordered_deconv", {"unpooling": "ordered_deconv"}, {}),
    Row("unpooling weighted_deconv", {"unpooling": "weighted_deconv"}, {}),
    Row("ST-UNet without layer norm", PLAIN, {}, published="2.248 / 2.980 / 3.756"),
    Row("GCGRU without layer norm", {**VARIANTS["GCGRU"], **PLAIN}, {}, published="2.292 / 3.050 / 3.866"),
    Row("T-UNet without layer norm", {**VARIANTS["T-UNet"], **PLAIN}, {}, published="2.266 / 3.004 / 3.850"),
    Row("S-UNet without layer norm", {**VARIANTS["S-UNet"], **PLAIN}, {}, published="2.272 / 3.020 / 3.802"),
    Row("recurrent decoder", {"decoder": "recurrent"}, DECODER),
    Row(
        "recurrent decoder, without tricks",
        {"decoder": "recurrent", **PLAIN},
        {**DECODER, "teacher_forcing": "always"},
    ),
)


def settings(row: Row, epochs: int) -> RunConfig:
    """Return the configuration of a row."""
    return RunConfig(
        STUNetConfig(**{**MODEL, **row.model}), TrainingConfig(**{**TRAINING, **row.training, "epochs": epochs})
    )


def identify(name: str, row: Row, seed: int, epochs: int) -> dict[str, Any]:
    """Return what a run is known by."""
    config = settings(row, epochs)
    parts = json.loads(json.dumps({"model": asdict(config.model), "training": asdict(config.training)}))
    return {"set": name, "row": row.title, "seed": seed, "config": parts}


def run(name: str, row: Row, seed: int, epochs: int) -> dict[str, Any]:
    """Train and score one model."""
    torch.set_num_threads(1)
    path = SHARED / SETS[name][1]
    series = read_series(path, timezone=TIMEZONE)
    config = settings(row, epochs)
    begin = time.process_time()
    model = TrainingRun(series, read_graph(path, series.sensor_ids), config, seed=seed).run().model.eval()
    seconds = time.process_time() - begin
    split = choose_protocol(series, config.protocol, config.model.window, config.model.horizon)
    found = evaluate(series, split, [TorchPredictor(model)])
    where = environment()
    return {
        **identify(name, row, seed, epochs),
        "cpu_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "commit": where["commit"],
        "cpu": where["cpu"],
        "results": [asdict(result) for result in found],
    }


def baseline(name: str) -> list[dict[str, Any]]:
    """Score persistence."""
    series = read_series(SHARED / SETS[name][1], timezone=TIMEZONE)
    split = choose_protocol(series, "auto", 12, 12)
    return [asdict(result) for result in evaluate(series, split, [persistence(series, split)])]


def cell(results: Sequence[Mapping[str, Any]], protocol: str) -> str:
    """Return "15 / 30 / 60" of the MAE, each a mean over the runs with its standard deviation."""
    chosen = [one for one in results if one["protocol"] == protocol]
    parts = []
    for minutes in sorted({one["horizon_minutes"] for one in chosen}):
        errors = [one["mae"] for one in chosen if one["horizon_minutes"] == minutes]
        spread = f" ±{np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
        parts.append(f"{np.mean(errors):.2f}{spread}")
    return " / ".join(parts) or "–"


def report(runs: Sequence[Mapping[str, Any]], baselines: Mapping[str, Any], seeds: int, epochs: int) -> str:
    """Return the tables as Markdown."""
    where = environment()
    known = {row.title: row.published for row in ROWS}
    commits = sorted({(one["commit"] or "unknown")[:12] for one in runs})
    lines = [
        "# What each part of the model is worth, on two single weeks",
        "",
        f"`python -m benchmarks.accuracy.ablation --seeds {seeds} --epochs {epochs}`. "
        "MAE (mph) at 15 / 30 / 60 minutes, mean "
        f"and standard deviation over {seeds} seeds; `window` from zero state over 12 intervals, `stream` with the "
        "state carried. One budget: every model has the same number of updates, and few of them. The tables compare "
        "parts with one another on a single week; they say nothing about the published figures. Base: "
        f"{MODEL['hidden']} channels, daily profile, chunks of {TRAINING['chunk']} intervals. A recurrent decoder has "
        f'a loss after every {DECODER["loss_every"]}th interval. "Without tricks": no layer norm, and always fed the '
        "label instead of scheduled sampling.",
        "",
        f"{where['cpu']}, one thread a run; torch {torch.__version__}, commit {', '.join(commits)}.",
    ]
    for name, (title, _) in SETS.items():
        chosen = [one for one in runs if one["set"] == name]
        if not chosen:
            continue
        of_row = {row.title: [one for one in chosen if one["row"] == row.title] for row in ROWS}
        scores = {row: [result for one in found for result in one["results"]] for row, found in of_row.items()}
        published = name == "pemsd7-m"
        columns = ["model", "window", "stream", "parameters", "CPU s to train"]
        columns += ["*published, full set: not comparable*"] if published else []
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
        for row, found in of_row.items():
            if found:
                seconds = np.mean([one["cpu_seconds"] for one in found])
                cells = [cell(scores[row], protocol) for protocol in ("window", "stream")]
                cells += [f"{found[0]['parameters']:,}", f"{seconds:.0f}", *([known[row]] if published else [])]
                lines.append(f"| {row} | {' | '.join(cells)} |")
        cells = [cell(baselines[name], protocol) for protocol in ("window", "stream")]
        lines.append(f"| *persistence* | {' | '.join(cells)} |" + " |" * (len(columns) - 3))
    return "\n".join(lines) + "\n"


def write(path: Path, content: str) -> None:
    """Write a file whole."""
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def main() -> None:
    """Do the runs that are missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS), help="which weeks")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training span")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    missing = [SHARED / SETS[name][1] for name in options.set if not (SHARED / SETS[name][1]).is_file()]
    if missing:
        parser.error(f"no file {missing[0]}; set STUNET_DATA to the folder of the week files")
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "ablation.json"
    runs = json.loads(record.read_text(encoding="utf-8"))["runs"] if record.is_file() else []
    wanted = [(name, row, seed) for seed in range(options.seeds) for name in options.set for row in ROWS]
    known = [{key: one[key] for key in ("set", "row", "seed", "config")} for one in runs]
    todo = [job for job in wanted if identify(*job, options.epochs) not in known]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for done, future in enumerate(as_completed(pool.submit(run, *job, options.epochs) for job in todo), 1):
            runs.append(future.result())
            one = runs[-1]
            print(
                f"{done}/{len(todo)} {one['set']}, {one['row']}, seed {one['seed']}: {one['cpu_seconds']:.0f} s",
                flush=True,
            )
            write(record, json.dumps({"runs": runs}, indent=0) + "\n")
    identities = [identify(*job, options.epochs) for job in wanted]
    runs = [one for one in runs if {key: one[key] for key in ("set", "row", "seed", "config")} in identities]
    write(record, json.dumps({"runs": runs}, indent=0) + "\n")
    text = report(runs, {name: baseline(name) for name in options.set}, options.seeds, options.epochs)
    write(options.out / "ablation.md", text)
    print(text)


if __name__ == "__main__":
    main()
