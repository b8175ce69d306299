"""A small network of one's own as CSV files, trained and exported once through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stunet_deploy.cli import main
from tests.shapes import unchecked
from tests.sharing import Shared

SENSORS = ("north", "east", "south", "west", "ramp")
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
INTERVALS, INTERVAL_S = 600, 300
CONFIG = """\
[model]
hidden = 4
window = 6
horizon = 6
[training]
epochs = {epochs}
batch = 8
chunk = 12
warm_up = 4
hide = 0.1
threads = 1
"""


@dataclass(frozen=True)
class Place:
    """The files of the small network."""

    folder: Path
    speeds: Path
    edges: Path
    config: Path
    model: Path
    bundle: Path

    def train_arguments(self, out: Path, config: Path | None = None) -> list[str]:
        """Arguments of a training on these files."""
        data = ["--data", str(self.speeds), "--graph", str(self.edges), "--config", str(config or self.config)]
        return ["train", *data, "--timezone", "America/Los_Angeles", "--out", str(out)]


def run_stunet(arguments: list[str]) -> str:
    """Run the program without the check of shapes and return its standard output."""
    with unchecked(), redirect_stdout(StringIO()) as out:
        assert main(arguments) == 0
    return out.getvalue()


def write_speeds(path: Path, order: tuple[str, ...] = SENSORS) -> None:
    """Write two days of speeds, local wall-clock times, 5 % of the cells empty; the same in any order."""
    rng = np.random.default_rng(5)
    time = np.arange(INTERVALS)
    daily = 10 * np.sin(2 * np.pi * time / 288)
    speeds = 55 + daily[:, None] + np.arange(len(SENSORS)) + rng.normal(0, 1, (INTERVALS, len(SENSORS)))
    kept = rng.random(speeds.shape) > 0.05
    stamps = np.datetime64("2012-03-01T00:00:00") + time * np.timedelta64(INTERVAL_S, "s")
    columns = [SENSORS.index(sensor) for sensor in order]
    lines = ["timestamp," + ",".join(order)]
    for stamp, row, mask in zip(stamps, speeds, kept, strict=True):
        lines.append(f"{stamp}".replace("T", " ") + "".join(f",{row[c]:.2f}" if mask[c] else "," for c in columns))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def place_in(folder: Path) -> Place:
    """Return the paths of the small network's files in a folder."""
    return Place(
        folder, *(folder / name for name in ("speeds.csv", "edges.csv", "tiny.toml", "model.pt", "model.bundle"))
    )


def make_place(folder: Path) -> None:
    """Write the small network's files, train on them and export what was trained."""
    made = place_in(folder)
    write_speeds(made.speeds)
    edges = [f"{a},{b},{400 + 150 * i}" for i, (a, b) in enumerate(pairwise(SENSORS))]
    made.edges.write_text("from,to,distance\n" + "\n".join(edges) + "\n", encoding="utf-8")
    made.config.write_text(CONFIG.format(epochs=2), encoding="utf-8")
    run_stunet(made.train_arguments(made.model))
    run_stunet(["export", str(made.model), "--precision", "tf32"])


@pytest.fixture(autouse=True)
def _quick(shapes_unchecked: None) -> None:
    """Check no shapes: these tests are of the commands."""


@pytest.fixture(scope="session")
def place(shared: Shared, exported_once: None) -> Place:
    """The network's files with a trained model and its bundle; tests must not change them."""
    return place_in(shared.folder("place", make_place))


@pytest.fixture(scope="session", name="run_stunet")
def run_stunet_fixture() -> Callable[[list[str]], str]:
    """Give tests the program without the check of shapes."""
    return run_stunet


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a verb with --json, expect an exit code, and return the one JSON object that it printed."""

    def run(*arguments: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == code
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return json.loads(out)

    return run
