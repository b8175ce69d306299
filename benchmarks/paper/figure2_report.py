"""The page and the picture of the moving digits."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.page import commit, machine, page, table

#: Variants of the network, as tables call them.
MODELS_SHOWN: Mapping[str, str] = {"ST-UNet": "ST-UNet", "GCGRU": "GCGRU, three layers"}
MEASURES = {"rmse": "Root mean squared error", "mae": "Mean absolute error"}


def packed(frames: NDArray[np.floating]) -> str:
    """Return frames [frame, pixel] from 0 to 1 as text, a byte a pixel."""
    pixels = np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8)
    return base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii")


def unpacked(text: str, side: int) -> NDArray[np.uint8]:
    """Return the frames [frame, row, column] of a text of :func:`packed`."""
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return pixels.reshape(-1, side, side)


def runs_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs of the scene and the training that a result is of; others are kept beside them."""
    kept = {name: result[name] for name in ("scene", "hidden", "decoder", "minutes")}
    return [one for one in result["runs"] if all(one[name] == value for name, value in kept.items())]


def report(result: Mapping[str, Any]) -> str:
    """Return the page."""
    scene, runs, counts = result["scene"], runs_of(result), result["sequences"]
    source = "of MNIST at half their size" if scene["path"] else "that scikit-learn ships"
    commits = sorted({commit(one["environment"]) for one in runs})
    blocks = []
    for measure, title in MEASURES.items():
        rows = []
        for name, shown in MODELS_SHOWN.items():
            of_model = [one for one in runs if one["model"] == name]
            cost = f"{mean(one['cpu_seconds'] for one in of_model) / 60:.1f}"
            epochs = f"{mean(one['epochs'] for one in of_model):.0f}"
            parameters = f"{of_model[0]['parameters']:,}"
            rows.append([shown, *_cells([one[measure] for one in of_model]), parameters, epochs, cost])
        rows += [[name, *_cells([one[measure]]), "", "", ""] for name, one in result["still"].items()]
        ahead = [str(frame) for frame in range(1, scene["seen"] + 1)]
        blocks += [
            f"## {title}, by frame ahead",
            table(["model", *ahead, "mean", "parameters", "epochs", "CPU min"], rows),
        ]
    return page(
        f"Figure 2 of the ST-UNet paper: moving digits on a graph of {scene['side']} × {scene['side']} pixels",
        f"`{result['command']}`: at most {result['minutes']:g} CPU minutes a training, one thread. "
        f"{machine(result['environment'])} Runs of commit {', '.join(commits)}.",
        f"Digits {source}, {scene['digits']} in a frame, move on straight lines and bounce; {scene['seen']} frames are "
        f"seen and as many forecast. {counts['train']} sequences to train on, {counts['validation']} to choose the "
        f"epoch, {counts['test']} to score, the last two of digits that training has not seen. Every pixel is a node, "
        f"joined to the eight around it. {result['hidden']} channels, {result['decoder']} decoder, nothing else than "
        "the frames is an input. Intensities are from 0 to 1; ± is the standard deviation over seeds. Which sizes, "
        "digits and errors the paper has is not known here: the figures compare the models with one another.",
        "![True frames and forecast ones](paper_figure2.svg)",
        *blocks,
    )


def _cells(runs: Sequence[Sequence[float]]) -> list[str]:
    """Return a cell for every frame, the mean over the runs, and one for the mean of the frames with its spread."""
    frames = [f"{mean(frame):.3f}" for frame in zip(*runs, strict=True)]
    means = [mean(one) for one in runs]
    spread = f" ±{stdev(means):.3f}" if len(means) > 1 else ""
    return [*frames, f"{mean(means):.3f}{spread}"]


def picture(result: Mapping[str, Any]) -> str:
    """Return true and forecast frames of the first test sequence, and the errors by frame ahead, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    side, seen = result["scene"]["side"], result["scene"]["seen"]
    runs = runs_of(result)
    first = {name: next(one for one in runs if one["model"] == name) for name in MODELS_SHOWN}
    copied = result["still"]["copy of the last frame"]["example"]
    strips = {"seen": result["seen"], "true": result["truth"]}
    strips |= {name: one["example"] for name, one in first.items()} | {"copy": copied}
    # The same numbers give the same file.
    with pyplot.rc_context({"svg.hashsalt": "digits", "svg.fonttype": "none", "font.size": 9}):
        figure, (left, right) = pyplot.subplots(
            1, 2, figsize=(11, 3.4), layout="constrained", width_ratios=(1.0 * seen, 0.6 * seen)
        )
        left.imshow(_mosaic([unpacked(text, side) for text in strips.values()]), cmap="gray", interpolation="nearest")
        left.set_yticks([(row + 0.5) * (side + 1) for row in range(len(strips))], list(strips))
        left.set_xticks([(frame + 0.5) * (side + 1) for frame in range(seen)], [str(at + 1) for at in range(seen)])
        left.tick_params(length=0)
        left.set_xlabel("frame")
        for name, shown in MODELS_SHOWN.items():
            errors = np.mean([one["rmse"] for one in runs if one["model"] == name], axis=0)
            right.plot(range(1, seen + 1), errors, marker=".", label=shown)
        for name, one in result["still"].items():
            right.plot(range(1, seen + 1), one["rmse"], linestyle="--", label=name)
        right.set_xlabel("frame ahead")
        right.set_ylabel("root mean squared error")
        right.set_ylim(bottom=0)
        right.spines[["top", "right"]].set_visible(False)
        right.legend(frameon=False, fontsize=8)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()


def _mosaic(strips: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return frames [strip][frame, row, column] in one image, a grey line between them."""
    bordered = [np.pad(strip, ((0, 0), (0, 1), (0, 1)), constant_values=128) for strip in strips]
    return np.concatenate([np.concatenate(list(strip), axis=1) for strip in bordered])
