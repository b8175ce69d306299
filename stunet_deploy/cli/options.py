"""Options that several verbs share, declared once so that they are spelled alike."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_data(parser: argparse.ArgumentParser, zone: str) -> None:
    """Declare ``--data`` and ``--timezone``; ``zone`` says which zone is the default."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="recording: npz, HDF5, CSV, Parquet or Excel, or a folder of such files, see docs/reference/data.md",
    )
    parser.add_argument("--timezone", metavar="IANA", help=f"zone of times without an offset (default: {zone})")


def add_backend(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Declare ``--backend`` and ``--precision``; where a verb takes several of each, both are lists."""
    count = "+" if several else None
    parser.add_argument(
        "--backend",
        nargs=count,
        default=["onnxruntime"] if several else "onnxruntime",
        metavar="B",
        help="onnxruntime (default), onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, tensorrt-rtx "
        "or triton://host:port/model",
    )
    parser.add_argument(
        "--precision",
        nargs=count,
        default=["fp32"] if several else "fp32",
        metavar="P",
        help="fp32 (default), tf32, fp16, bf16 or int8, as it was exported",
    )


def minutes(text: str) -> float:
    """Read a positive number of minutes."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} minutes; expected a positive number")
    return number
