"""``stunet evaluate``: how good a checkpoint or a bundle is on a recording, beside the baselines."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_backend, add_data, minutes
from stunet_deploy.config import RunConfig, SplitChoice
from stunet_deploy.config_mapping import choices
from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:
    from stunet_deploy.series.series import Series
    from stunet_deploy.site import Site
    from training.evaluation import Predictor
    from training.protocols import Split
    from training.trees import BoostedTrees

HELP = (
    "Score a checkpoint or a bundle on the test span of a recording, by window and as a stream, beside the baselines."
)
EXAMPLE = "example: stunet evaluate model.bundle --data metr-la.h5 --hide 0.1 0.3 0.5 --plots plots"
MODES = {"unobserved": "native", "zeros": "literature"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", type=Path, metavar="model.pt|bundle/", help="what to score; a bundle needs no torch")
    add_data(parser, "the model's")
    add_backend(parser)
    parser.add_argument(
        "--protocol",
        choices=choices(RunConfig, "protocol"),
        help="split by 70/10/20 of the windows (a), by day (b), or by what the recording looks like (auto); "
        "default: as the model was trained",
    )
    parser.add_argument(
        "--hide",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="also score with these shares of the readings hidden, such as 0.1 0.3 0.5, against the true values",
    )
    parser.add_argument(
        "--hide-blocks",
        type=float,
        metavar="HOURS",
        help="hide whole sensors for that many hours at a time, not single readings",
    )
    parser.add_argument(
        "--trees",
        type=minutes,
        metavar="MINUTES",
        help="also compare with gradient-boosted trees, fitted on the training span in so much CPU time; 3 are enough "
        "for some hundred sensors (needs the extra baselines)",
    )
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", help="graph whose neighbours the trees know; without it they know none"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of what --hide hides and of the trees (default: 0)"
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="exit with 1 unless the model is better than every baseline at every horizon",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures: forecast against observation")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Score and print the table."""
    from stunet_deploy.series.series import read_series_for
    from training.baselines import baselines
    from training.evaluation import evaluate, remarks, table, to_json, units_in_words
    from training.hiding import evaluate_hidden
    from training.protocols import choose_protocol
    from training.verdict import Verdict

    if arguments.hide_blocks is not None and not arguments.hide:
        raise ConfigError("--hide-blocks without --hide", "the shares to hide", "add for instance --hide 0.1 0.3 0.5")
    if arguments.graph is not None and arguments.trees is None:
        raise ConfigError("--graph without --trees", "trees that know their neighbours", "add for instance --trees 3")
    if arguments.plots is not None:
        from stunet_deploy.cli.pictures import forecasts as pictures  # a missing matplotlib must not cost an evaluation
    subject = open_subject(arguments.model, arguments.backend, arguments.precision)
    if labels := [target for target in subject.targets if target not in subject.site.features]:
        raise ConfigError(
            f"{arguments.model}, which forecasts {labels[0]} and no feature of a recording",
            "a model whose labels are in the recording",
            "score it where its labels are; 'stunet verify' checks a bundle of it",
        )
    # As the model knows it: its sensors by id, its time zone, its meaning of a stamp.
    series = read_series_for(subject.site, arguments.data, timezone=arguments.timezone)
    series = series.fitted_to(subject.site)
    split = choose_protocol(series, arguments.protocol or subject.protocol, subject.window, subject.horizon)
    console.say(f"data: {series.source}", f"split {split.protocol}: {len(split.test)} forecasts to score")

    trees: list[BoostedTrees] = []

    def predictors(seen: Series) -> list[Predictor]:
        if arguments.trees is not None and not trees:  # once, whatever is hidden: the training span is whole
            trees.append(_trees(arguments, series, split, subject.targets, console))
        return [subject.predictor, *baselines(seen, split, subject.targets), *trees]

    if arguments.hide:
        results = evaluate_hidden(
            series,
            split,
            predictors,
            sorted({0.0, *arguments.hide}),
            targets=subject.targets,
            block_hours=arguments.hide_blocks,
            seed=arguments.seed,
        )
    else:
        results = evaluate(series, split, predictors(series), targets=subject.targets)
    if arguments.plots is not None:
        whole = [result for result in results if not result.hidden]
        for path in pictures.write_plots(arguments.plots, series, split, subject.predictor, subject.targets, whole):
            console.say(f"wrote {path}")
    missing: Literal["unobserved", "zeros"] = "zeros" if subject.fill == "zeros" else "unobserved"
    report = to_json(series, split, results, missing=missing)
    if arguments.hide:
        report["hiding"] = {"block_hours": arguments.hide_blocks, "seed": arguments.seed}
    for one in trees:
        report["trees"] = {"settings": one.chosen, "validation_mae": one.validation_mae}
    verdict = Verdict.of(results, subject.predictor.name)
    report["verdict"] = verdict.to_json()
    legend = (
        f"MAE and RMSE in {units_in_words(series.site, subject.targets)}; protocol {split.protocol.upper()}; "
        f"missing inputs are {missing} ({MODES[missing]} mode), missing labels do not count"
    )
    lines = (table(results), legend, *remarks(series.site, results), str(verdict))
    console.answer(report, "\n".join(lines))
    if not verdict.worth_deploying:
        console.next("train longer, on a longer recording or with another config; see docs/guide/training.md")
    elif arguments.model.is_dir():
        console.next(f"stunet run {arguments.model} --replay {arguments.data}")
    else:
        console.next(f"stunet-export {arguments.model}")
    return 1 if arguments.gate and not verdict.worth_deploying else 0


def _trees(
    arguments: argparse.Namespace, series: Series, split: Split, targets: tuple[str, ...], console: Console
) -> BoostedTrees:
    """Fit the trees."""
    from stunet_deploy.graph.files import read_graph
    from training.trees import TreeSettings, boosted_trees

    adjacency = None if arguments.graph is None else read_graph(arguments.graph, series.sensor_ids).adjacency
    settings = TreeSettings(minutes=arguments.trees, seed=arguments.seed)
    console.say(f"fitting trees, about {arguments.trees:g} min ...")
    return boosted_trees(series, split, targets, adjacency, settings, console.say)


@dataclass(frozen=True)
class Subject:
    """A checkpoint or a bundle to score, with its network and clock."""

    predictor: Predictor
    site: Site
    targets: tuple[str, ...]
    window: int
    horizon: int
    protocol: SplitChoice
    fill: str | None


def open_subject(path: Path, backend: str, precision: str) -> Subject:
    """Open a bundle folder without torch, or a checkpoint with it.

    Raises:
        BundleError, CheckpointError: if it is neither.
        ConfigError: if a backend or a precision is chosen for a checkpoint.
    """
    if path.is_dir():
        return _from_bundle(path, backend, precision)
    if (backend, precision) != ("onnxruntime", "fp32"):
        raise ConfigError(
            f"--backend {backend} --precision {precision} for the checkpoint {path}",
            "a bundle",
            f"run 'stunet-export {path}' and evaluate that",
        )
    return _from_checkpoint(path)


def _from_bundle(path: Path, backend: str, precision: str) -> Subject:
    from runtime.predictor import StreamPredictor
    from stunet_deploy.bundle import Bundle

    bundle = Bundle.load(path)
    manifest = bundle.manifest
    return Subject(
        predictor=StreamPredictor(bundle, backend, precision=precision),
        site=manifest.site,
        targets=manifest.targets,
        window=manifest.window,
        horizon=manifest.horizon,
        protocol=manifest.training.get("protocol", "auto"),
        fill=manifest.config.get("fill"),
    )


def _from_checkpoint(path: Path) -> Subject:
    from stunet_deploy.checkpoint import Checkpoint
    from training.torch_predictor import TorchPredictor

    checkpoint = Checkpoint.load(path)
    model = checkpoint.model
    return Subject(
        predictor=TorchPredictor(model),
        site=checkpoint.site,
        targets=model.signal.targets,
        window=model.config.window,
        horizon=model.config.horizon,
        protocol=checkpoint.training.get("protocol", "auto"),
        fill=model.config.fill,
    )
