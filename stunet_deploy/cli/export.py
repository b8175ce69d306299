"""``stunet export`` and ``stunet-export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from stunet_deploy.cli.console import Console
from stunet_deploy.config import STUNetConfig
from stunet_deploy.config_mapping import choices
from stunet_deploy.errors import ConfigError

HELP = "Export a checkpoint to a bundle and verify it; nothing is left behind if verification fails."
EXAMPLE = "example: stunet-export model.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="model.pt", help="checkpoint of 'stunet train'")
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle folder (default: model.bundle beside model.pt)")
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P,P",
        help="precisions to write and measure, such as fp16,bf16,int8,tf32; fp32 is always among them",
    )
    parser.add_argument(
        "--max-loss",
        default="0.5%",
        metavar="SHARE",
        help="refuse a precision whose forecasts lose more of their MAE than this (default: 0.5%%)",
    )
    parser.add_argument(
        "--fill",
        choices=[fill for fill in choices(STUNetConfig, "fill") if fill != "zeros"],  # which is trained, not chosen
        help="what replaces a missing reading in the stream, whatever the config says (default: the same)",
    )
    parser.add_argument("--force", action="store_true", help="write a precision that loses more all the same")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Export and name the bundle."""
    from export.bundle import export_bundle
    from runtime.inspect import explain_precisions
    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.signature import SIGNATURE

    precisions, max_loss = _precisions(arguments.precision), _share(arguments.max_loss)
    checkpoint = Checkpoint.load(arguments.checkpoint)
    if arguments.fill is not None:
        checkpoint = checkpoint.with_fill(arguments.fill)
    out: Path = arguments.out or arguments.checkpoint.with_suffix(".bundle")
    signed = (out / SIGNATURE).exists()
    console.say(f"exporting {arguments.checkpoint} and verifying it against the float64 reference")
    bundle = export_bundle(
        checkpoint, out, console.say, precisions=precisions, max_loss=max_loss, force=arguments.force
    )
    manifest = bundle.manifest
    size = sum(path.stat().st_size for path in map(out.joinpath, manifest.files))
    data = {
        "bundle": str(out),
        "bundle_id": manifest.bundle_id,
        "bytes": size,
        "tolerance": list(manifest.tolerance),
        "parity": dict(manifest.parity),
        "loss": {precision: entry["loss"] for precision, entry in manifest.accuracy.items() if "loss" in entry},
    }
    lines = [f"{out}: {size / 1e6:.1f} MB, identity {manifest.bundle_id[:12]}, verified", *explain_precisions(manifest)]
    console.answer(data, "\n".join(lines))
    if signed:
        console.say(f"note: the bundle that was there was signed, this one is not yet: stunet sign {out} --key FILE")
    console.next(f"stunet verify {out}")
    return 0


def _precisions(text: str) -> list[str]:
    """Read ``fp16,int8``.

    Raises:
        ConfigError: if one of them is unknown.
    """
    from stunet_deploy.precisions import check_precision

    precisions = [part.strip() for part in text.split(",") if part.strip()]
    for precision in precisions:
        check_precision(precision)
    return precisions


def _share(text: str) -> float:
    """Read a percentage such as ``0.5%``.

    Raises:
        ConfigError: if it is anything else: 0.5 without its sign could as well be a half.
    """
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else math.nan
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(f"--max-loss {text}", "a percentage, 0% or more", "write it as for instance 0.5%")
    return share
