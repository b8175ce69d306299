"""``stunet inspect``: what a bundle or a checkpoint is, in plain words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stunet_deploy.cli.console import Console

HELP = "Say what a bundle or a checkpoint forecasts, how large and how good it is, and what it needs."
EXAMPLE = "example: stunet inspect model.bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "model", type=Path, metavar="bundle/|model.pt", help="what to describe; a bundle needs no torch"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Describe a bundle (a folder) or a checkpoint (a file)."""
    path: Path = arguments.model
    if path.is_file():
        console.answer(*_checkpoint(path))
        console.next(f"stunet-export {path}")
        return 0
    from runtime.inspect import explain, inspect
    from stunet_deploy.bundle import Bundle

    bundle = Bundle.load(path)
    console.answer(inspect(bundle), explain(bundle))
    console.next(f"stunet verify {path}")
    return 0


def _checkpoint(path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint's description as JSON, with the keys that a bundle has, and in words."""
    from dataclasses import asdict

    from stunet_deploy.bundle import sha256
    from stunet_deploy.checkpoint import Checkpoint

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
        "model": "stunet",
        "config": asdict(config),
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
    graphs = " → ".join(str(level.basis.shape[-1]) for level in model.hierarchy.levels)
    validation = trained.get("validation_mae")
    lines = [
        f"{path.name}: stunet, {parameters:,} parameters, a checkpoint of {len(content) / 1e6:.1f} MB",
        f"forecasts  {', '.join(signal.targets)} at {len(site.sensor_ids)} sensors, {minutes:g} to "
        f"{config.horizon * minutes:g} minutes ahead, every {minutes:g} minutes",
        f"graphs     {graphs} nodes, hidden width {config.hidden}",
        f"remembers  {len(contract.states)} states, {contract.state_bytes() / 1e3:.1f} kB a stream",
        f"trained    {trained.get('epochs', '?')} epochs on {trained.get('data', 'data that it does not name')}",
        f"accuracy   {'unknown' if validation is None else f'validation MAE {validation:.3f}'}; "
        "test errors: stunet evaluate",
        f"needs      to be exported; {len(checkpoint.reference.timestamps)} recorded intervals inside verify it",
    ]
    return data, "\n".join(lines)
