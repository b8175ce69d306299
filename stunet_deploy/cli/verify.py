"""``stunet verify``: let a bundle prove itself on this device."""

from __future__ import annotations

import argparse
from pathlib import Path

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_backend

HELP = "Replay a bundle's golden stream on this device and compare with the float64 reference; exit code 1 if it fails."
EXAMPLE = "example: stunet verify model.bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="bundle/", help="folder that stunet-export wrote")
    add_backend(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Verify; 0 if every forecast is within the tolerance, otherwise 1."""
    from runtime.verify import verify
    from stunet_deploy.bundle import Bundle
    from stunet_deploy.errors import CheckFailed

    bundle = Bundle.load(arguments.bundle)
    result = verify(bundle, arguments.backend, precision=arguments.precision)
    worst = result.worst
    text = (
        f"{'passed' if result.passed else 'FAILED'} on {result.backend}: {result.intervals} intervals, "
        f"largest error {result.max_abs_error:.2e} (tolerance {result.tolerance:g}), mean {result.mean_abs_error:.2e}\n"
        f"largest at {worst['issued_at']}, {worst['horizon_min']:g} min ahead, sensor {worst['sensor']}: "
        f"{worst['target']} {worst['found']} for {worst['expected']}"
    )
    console.answer(result.to_json(), text)
    if not result.passed:
        console.next("export the model again on the machine it was trained on, and verify it there")
        return CheckFailed.exit_code
    console.next(f"stunet run {arguments.bundle} --replay FILE")
    return 0
