"""``stunet verify``: let a bundle prove itself on this device."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_backend, add_trust, open_bundle, trusted
from stunet_deploy.errors import in_lines

if TYPE_CHECKING:
    from stunet_deploy.bundle import Bundle

HELP = "Replay a bundle's golden stream on this device and compare with the float64 reference; exit code 1 if it fails."
EXAMPLE = "example: stunet verify model.bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, metavar="bundle/", help="folder that stunet-export wrote")
    add_backend(parser)
    add_trust(parser)
    parser.add_argument(
        "--bisect",
        action="store_true",
        help="compare the layers of a --precision with fp32 instead and name the one that departs most; needs [train]",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Verify; 0 if every forecast is within the tolerance, otherwise 1."""
    from runtime.verify import verify
    from stunet_deploy.errors import CheckFailed
    from stunet_deploy.precisions import FLOAT32

    bundle = open_bundle(arguments.bundle, arguments.trust)
    if bundle.signed is not None:
        for engine in bundle.signed.check_engines(bundle.path):
            console.say(f"note: no trusted signature names {engine}: with trust it is refused")
    if arguments.bisect:
        return _bisect(bundle, arguments.precision, console)
    result = verify(bundle, arguments.backend, precision=arguments.precision)
    worst = result.worst
    lines = [
        f"{'passed' if result.passed else 'FAILED'} on {result.backend} in {result.precision}: "
        f"{result.intervals} intervals, largest error {result.max_abs_error:.2e} (tolerance {result.tolerance:g}), "
        f"mean {result.mean_abs_error:.2e}",
        f"largest at {worst['issued_at']}, {worst['horizon_min']:g} min ahead, sensor {worst['sensor']}: "
        f"{worst['target']} {worst['found']} for {worst['expected']}",
    ]
    data = result.to_json() | {"remarks": list(bundle.manifest.remarks)}
    if bundle.signed is not None:
        lines.insert(0, f"signed {bundle.signed}")
        data["signed_by"] = [key.to_json() for key in bundle.signed.by]
    console.answer(data, in_lines(lines))
    for remark in bundle.manifest.remarks:
        console.say(f"note: {remark}")
    if not result.passed:
        again = "export the model again on the machine it was trained on, and verify it there"
        bisect = f"stunet verify {arguments.bundle} --precision {arguments.precision} --bisect"
        console.next(again if arguments.precision == FLOAT32 else bisect)
        return CheckFailed.exit_code
    again = f"stunet run {arguments.bundle} --replay FILE{trusted(arguments.trust)}"
    console.next(f"{again}; as a service: stunet run --config FILE")
    return 0


def _bisect(bundle: Bundle, precision: str, console: Console) -> int:
    """Name the layers of a precision that depart most from float32."""
    from export.precision.bisect import bisect

    departures = bisect(bundle, precision)
    lines = [
        f"{precision} against fp32 in one step, error of each product as a share of its result's size, worst first:"
    ]
    lines += [f"{found.own:9.2e} of its own, {found.error:9.2e} in all  {found.layer}" for found in departures[:5]]
    console.answer({"precision": precision, "layers": [asdict(found) for found in departures]}, in_lines(lines))
    return 0
