"""``stunet inspect --explain``: one node of a Structural-RNN over time, in words, as JSON and as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:
    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.models.srnn.explanation import Explanation
    from stunet_deploy.series.series import Series


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an explanation."""
    parser.add_argument(
        "--explain",
        metavar="NODE",
        help="for a Structural-RNN's model.pt: what each edge adds to this node's forecasts",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="recording to explain (default: the one in the checkpoint)"
    )
    parser.add_argument("--timezone", metavar="IANA", help="zone of its times without an offset (default: the model's)")
    parser.add_argument(
        "--intervals", type=_positive, metavar="N", help="how many, the last of the recording (default: one day)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="picture of states and contributions over time")


def answer(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the explanation as JSON and in words; draw it where asked to.

    Raises:
        ConfigError: for anything but a Structural-RNN's checkpoint, an unknown node or a picture out of place.
        DataError: if the recording is of other sensors or another interval.
    """
    from stunet_deploy.cli.train import check_writable

    path, out = arguments.model, arguments.out
    if not path.is_file():
        raise ConfigError(
            f"--explain for {path}", "a checkpoint model.pt, which has the weights", "name the checkpoint"
        )
    if out is not None:
        if out.suffix != ".png":
            raise ConfigError(f"--out {out}", "a .png file", "name a file that ends in .png")
        check_writable(out)
        from stunet_deploy.cli.pictures import explanation as pictures  # a missing matplotlib must not cost the work
    from stunet_deploy.checkpoint import Checkpoint
    from stunet_deploy.models.srnn.explanation import explain
    from stunet_deploy.models.srnn.model import StructuralRNN
    from training.data import TensorSeries

    checkpoint = Checkpoint.load(path)
    model = checkpoint.model
    if not isinstance(model, StructuralRNN):
        raise ConfigError(
            f"--explain for a model of the family {model.family!r}", "a Structural-RNN", "name its model.pt"
        )
    series = _recording(checkpoint, arguments.data, arguments.timezone)
    shown = arguments.intervals or max(1, 86_400 // series.interval_s)
    start = series.segments()[-1].start  # after the last break: state is not carried over one
    rows = slice(max(start, len(series.timestamps) - shown - model.config.window), len(series.timestamps))
    seen = series.rows(rows)
    warm_up = max(0, min(model.config.window, len(seen.timestamps) - shown))
    import torch

    inputs = TensorSeries.of(seen, model.signal, torch.device("cpu")).inputs(torch.arange(len(seen.timestamps))[None])
    found = explain(model, inputs, arguments.explain, warm_up)
    units = {model.signal.features[n]: unit for n, unit in enumerate(checkpoint.site.units)}
    unit = units.get(found.outputs[0], "") if model.config.output != "classification" else ""
    if out is not None:
        pictures.write(out, found, seen.timestamps[warm_up:], seen.timezone, unit)
    return _to_json(found, seen, warm_up, out), _in_words(found, unit, seen, warm_up, out)


def _recording(checkpoint: Checkpoint, data: Path | None, zone: str | None) -> Series:
    """Return what to explain: a recording in the model's order of sensors, or the checkpoint's own."""
    from stunet_deploy.series.series import read_series_for

    if data is None:
        if zone is not None:
            raise ConfigError("--timezone without --data", "a recording", "add --data")
        return checkpoint.reference
    return read_series_for(checkpoint.site, data, timezone=zone).fitted_to(checkpoint.site)


def _to_json(found: Explanation, seen: Series, warm_up: int, out: Path | None) -> dict[str, Any]:
    stamps = seen.timestamps[warm_up:]
    return {
        "node": found.node,
        "outputs": list(found.outputs),
        "first": int(stamps[0]),
        "last": int(stamps[-1]),
        "intervals": len(stamps),
        "warm_up": warm_up,
        "factors": {name: {"channels": trace.shape[1]} for name, trace in found.traces.items()},
        "contributions": [
            {"edge_type": one.edge_type, "neighbour": one.neighbour, "mean_absolute": one.size}
            for one in found.contributions
        ],
        "plot": None if out is None else str(out),
    }


def _in_words(found: Explanation, unit: str, seen: Series, warm_up: int, out: Path | None) -> str:
    lines = [
        f"{found.node}: forecasts of {', '.join(found.outputs)} over {len(seen.timestamps) - warm_up} intervals",
        "what the forecast would lack without an edge, mean over time of the absolute value" + (unit and f", {unit}"),
    ]
    for one in found.contributions:
        who = "  all" if one.neighbour is None else f"    {one.neighbour}"
        lines.append(f"{who:<24} {one.edge_type:<28} {one.size:.3g}")
    if not found.contributions:
        lines.append("  no edges: its own readings alone")
    largest = sorted(found.traces.items(), key=lambda item: -float(np.abs(np.diff(item[1], axis=0)).sum()))
    lines.append("states     " + ", ".join(f"{name} ({trace.shape[1]} channels)" for name, trace in largest))
    return "\n".join([*lines, f"drawn      {out}"] if out is not None else lines)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}; expected at least 1")
    return number
