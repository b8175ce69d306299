"""``stunet export`` and ``stunet-export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from stunet_deploy.cli.console import Console

HELP = "Export a checkpoint to a bundle and verify it; nothing is left behind if verification fails."
EXAMPLE = "example: stunet-export model.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="model.pt", help="checkpoint of 'stunet train'")
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle folder (default: model.bundle beside model.pt)")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Export and name the bundle."""
    from export.bundle import export_bundle
    from stunet_deploy.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(arguments.checkpoint)
    out: Path = arguments.out or arguments.checkpoint.with_suffix(".bundle")
    console.say(f"exporting {arguments.checkpoint} and verifying it against the float64 reference")
    bundle = export_bundle(checkpoint, out)
    manifest = bundle.manifest
    size = sum(path.stat().st_size for path in map(out.joinpath, manifest.files))
    data = {
        "bundle": str(out),
        "bundle_id": manifest.bundle_id,
        "bytes": size,
        "tolerance": list(manifest.tolerance),
        "parity": dict(manifest.parity),
    }
    console.answer(data, f"{out}: {size / 1e6:.1f} MB, identity {manifest.bundle_id[:12]}, verified")
    console.next(f"stunet verify {out}")
    return 0
