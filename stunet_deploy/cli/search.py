"""``stunet search``: the settings with which a model learns a recording best, by trial."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_data, add_facts, facts_of, given, minutes
from stunet_deploy.config import RunConfig
from stunet_deploy.config_files import read_run_config
from stunet_deploy.wording import in_figures

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

HELP = "Search for the settings of an ST-UNet that suit a recording, by trainings scored on its validation span."
EXAMPLE = "example: stunet search --data metr-la.h5 --graph adj_mx.pkl --minutes-each 3 --trials 40 --out study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_data(parser, "the file's own, otherwise UTC")
    add_facts(parser)
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", help="sensor graph (default: the graph or coordinates in the recording)"
    )
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="features to forecast (default: all)")
    parser.add_argument(
        "--minutes-each", type=minutes, default=2.0, metavar="M", help="CPU time of a training (default: 2)"
    )
    parser.add_argument(
        "--trials",
        type=_trials,
        default=20,
        metavar="N",
        help="trainings of the study, those of earlier calls included (default: 20)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("stunet-search"),
        metavar="DIR",
        help="folder of the study, which goes on if it is there (default: stunet-search)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Try settings until the study has as many trials as were asked for."""
    import optuna
    from optuna.trial import TrialState

    from stunet_deploy.cli.train import graph_of
    from stunet_deploy.series.series import read_series
    from training.search import BEST, TABLE, Search, best_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    series = read_series(arguments.data, timezone=arguments.timezone, facts=facts_of(arguments))
    series.site.feature_indices(arguments.targets)  # a name that is no feature is refused as what it is
    base = read_run_config(None, days=series.days)
    assert isinstance(base, RunConfig)
    base = replace(base, targets=tuple(arguments.targets or ()))
    graph = graph_of(arguments.graph, arguments.data, series, console)
    out: Path = arguments.out
    unit = series.site.unit_of(base.targets or series.features)

    def report(trial: FrozenTrial) -> None:
        outcome = "pruned"
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            outcome = f"validation MAE {in_figures(trial.value, 3)}{f' {unit}' if unit else ''}"
        shown = "  ".join(f"{name.partition('.')[2]} {_short(value)}" for name, value in trial.params.items())
        console.say(f"trial {trial.number:3d}  {outcome}  {shown}")

    search = Search(series, graph, base, arguments.minutes_each, arguments.seed, out, report)
    try:
        study = search.run(arguments.trials)
    except KeyboardInterrupt:
        console.next("the same command goes on after the last finished trial")
        raise
    best = best_trial(study)
    trials = study.get_trials(deepcopy=False)
    count = {state: sum(one.state == state for one in trials) for state in (TrialState.COMPLETE, TrialState.PRUNED)}
    first = next((one.value for one in trials if one.state == TrialState.COMPLETE and one.params == search.first), None)
    data = {
        "study": str(out),
        "table": str(out / TABLE),
        "config": None if best is None else str(out / BEST),
        "complete": count[TrialState.COMPLETE],
        "pruned": count[TrialState.PRUNED],
        "preset_validation_mae": first,
        "best": None if best is None else {"trial": best.number, "validation_mae": best.value, "settings": best.params},
    }
    text = f"{out / TABLE}: {data['complete']} trials, {data['pruned']} more pruned"
    if best is not None and best.value is not None:
        beside = "" if first is None else f", the preset {in_figures(first, 3)}"
        found = f"{in_figures(best.value, 3)}{f' {unit}' if unit else ''}"
        text += f"\nbest validation MAE {found}{beside}; settings in {out / BEST}"
    console.answer(data, text)
    if best is None:
        console.next("more trials, or more --minutes-each in another --out: none was trained to its end")
        return 1
    graph_too = f" --graph {shlex.quote(str(arguments.graph))}" if arguments.graph else ""
    words = f"--data {shlex.quote(str(arguments.data))}{graph_too}{given(arguments)}"
    console.next(f"stunet train {words} --config {shlex.quote(str(out / BEST))} --out model.pt")
    return 0


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def _trials(text: str) -> int:
    trials = int(text)
    if trials < 1:
        raise argparse.ArgumentTypeError(f"{text} trials; expected a number of 1 or more")
    return trials
