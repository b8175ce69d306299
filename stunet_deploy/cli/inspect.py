"""``stunet inspect``: what a bundle, a checkpoint or an st-graph is, in plain words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli import cost, explanation
from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_trust, open_bundle, trusted
from stunet_deploy.errors import ConfigError, in_lines
from stunet_deploy.wording import in_figures

if TYPE_CHECKING:
    from stunet_deploy.contract import StepContract

HELP = "Say what a bundle or a checkpoint forecasts, how large and how good it is, and what it needs; draw an st-graph."
EXAMPLE = "example: stunet inspect model.bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="bundle/|model.pt|st-graph.toml",
        help="what to describe; a bundle and an st-graph need no torch",
    )
    add_trust(parser)
    cost.add_arguments(parser)
    explanation.add_arguments(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Describe a bundle (a folder), a checkpoint (a file) or an st-graph (TOML, or the name of one that ships)."""
    from stunet_deploy.st_graph.files import SHIPPED

    path: Path = arguments.model
    if arguments.trust and (arguments.cost or arguments.explain is not None or (path.exists() and not path.is_dir())):
        raise ConfigError("--trust for another task than to describe a bundle", "a bundle alone", "leave it out")
    if arguments.explain is not None:
        console.answer(*explanation.answer(arguments))
        return 0
    for option in ("data", "timezone", "intervals", "out"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} without --explain", "a node to explain", "add --explain NODE")
    if arguments.cost:
        console.answer(*cost.answer(path))
        return 0
    if path.suffix == ".toml" or (str(path) in SHIPPED and not path.exists()):
        console.answer(*_st_graph(path))
        console.next("stunet train --model srnn")
        return 0
    if path.is_file():
        console.answer(*_checkpoint(path))
        console.next(f"stunet-export {path}")
        return 0
    from runtime.inspect import explain, inspect

    bundle = open_bundle(path, arguments.trust)
    data, text = inspect(bundle), explain(bundle)
    if (st_graph := bundle.manifest.config.get("st_graph")) is not None:
        text = f"{text}\n{_drawn(st_graph, bundle.manifest.contract)}"
    console.answer(data, text)
    console.next(f"stunet verify {path}{trusted(arguments.trust)}")
    return 0


def _st_graph(path: Path) -> tuple[dict[str, Any], str]:
    """Return an st-graph's description as JSON and as text."""
    from stunet_deploy.st_graph.drawing import describe_st_graph, draw_st_graph
    from stunet_deploy.st_graph.files import read_st_graph

    graph = read_st_graph(path)
    return describe_st_graph(graph), draw_st_graph(graph)


def _drawn(st_graph: str, contract: StepContract) -> str:
    from stunet_deploy.st_graph.drawing import draw_st_graph
    from stunet_deploy.st_graph.st_graph import STGraph

    return draw_st_graph(STGraph.from_json(st_graph), contract)


def _checkpoint(path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint's description as JSON, with the keys that a bundle has, and in words."""
    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.files import sha256
    from stunet_deploy.models.srnn.model import StructuralRNN
    from stunet_deploy.models.stunet.model import STUNet

    checkpoint = Checkpoint.load(path)
    model, site, trained = checkpoint.model, checkpoint.site, checkpoint.training
    signal, config, contract = model.signal, model.config, model.contract
    parameters = sum(parameter.numel() for parameter in model.parameters())
    content = path.read_bytes()
    minutes = site.interval_s / 60
    data = {
        "contract": contract.to_json() | {"slots": contract.slots, "state_bytes": contract.state_bytes()},
        "files": {path.name: {"bytes": len(content), "sha256": sha256(content)}},
        "precisions": {},
        "engines": [],
        "accuracy": {"validation_mae": trained.get("validation_mae")},
        "model": model.family,
        "config": model.description(),
        "parameters": parameters,
        "sensors": len(site.sensor_ids),
        "features": list(signal.features),
        "targets": list(signal.targets),
        "units": list(site.units),
        "interval_s": site.interval_s,
        "stamp": site.stamp,
        "timezone": site.timezone,
        "horizon": config.horizon,
        "window": config.window,
        "training": dict(trained),
    }
    validation = trained.get("validation_mae")
    graphs = []
    if isinstance(model, STUNet):
        levels = " → ".join(str(len(level.adjacency)) for level in model.hierarchy.levels)
        graphs = [f"graphs     {levels} nodes, hidden width {model.config.hidden}"]
    lines = [
        f"{path.name}: {model.family}, {parameters:,} parameters, a checkpoint of {len(content) / 1e6:.1f} MB",
        f"forecasts  {', '.join(signal.targets)} at {len(site.sensor_ids)} sensors, {minutes:g} to "
        f"{config.horizon * minutes:g} minutes ahead, every {minutes:g} minutes",
        *graphs,
        f"remembers  {len(contract.states)} states, {contract.state_bytes() / 1e3:.1f} kB a stream",
        f"trained    {trained.get('epochs', '?')} epochs on {trained.get('data', 'data that it does not name')}",
        f"accuracy   {'unknown' if validation is None else f'validation MAE {in_figures(validation, 3)}'}; "
        "test errors: stunet evaluate",
        f"needs      to be exported; {len(checkpoint.reference.timestamps)} recorded intervals inside verify it",
    ]
    text = in_lines(lines)
    if isinstance(model, StructuralRNN):
        text = f"{text}\n{_drawn(model.stored_graph(), contract)}"
    return data, text
