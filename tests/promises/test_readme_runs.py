"""What the documents tell a reader to run, runs: commands and Python, on a few days of ten of the shipped sensors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.replay import read_json_line
from runtime.stream import Stream
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = Path("stunet_deploy/data/freeway.npz")
SENSORS, DAYS, PER_DAY = 10, 3, 288


def blocks(language: str, heading: str) -> list[str]:
    """The code blocks of one language under a heading of the README."""
    _, _, section = README.partition(f"\n## {heading}\n")
    return re.findall(rf"^```{language}\n(.*?)^```", section.partition("\n## ")[0], re.M | re.S)


def write_cut(path: Path) -> None:
    """Write the last days of the first sensors of the shipped data."""
    with np.load(ROOT / DATA, allow_pickle=False) as whole:
        arrays = dict(whole)
    for name in ("values", "observed", "timestamps"):
        arrays[name] = arrays[name][-DAYS * PER_DAY :]
    for name in ("values", "observed"):
        arrays[name] = arrays[name][:, :SENSORS]
    for name in ("sensor_ids", "latitude", "longitude"):
        arrays[name] = arrays[name][:SENSORS]
    arrays["adjacency"] = arrays["adjacency"][:SENSORS, :SENSORS]
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **arrays)


def call(command: str, folder: Path) -> str:
    """Run one command of the README as an installed program would; return its standard output."""
    program, *arguments = shlex.split(command)
    function = {"stunet": "main", "stunet-export": "export_main"}[program]
    code = f"import sys; from stunet_deploy import cli; sys.exit(cli.{function}())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the quick start's commands ran, in order, and the answer of each."""
    folder = tmp_path_factory.mktemp("readme")
    (commands,) = blocks("sh", "Quick start")
    (config,) = blocks("toml", "Quick start")
    write_cut(folder / DATA)
    # Fewer epochs than a reader trains for; everything else is as the README has it.
    (folder / "config.toml").write_text(config + "\n[training]\nepochs = 1\n", encoding="utf-8")
    return folder, {command: call(command, folder) for command in commands.splitlines()}


def test_the_quick_start_goes_from_a_recording_to_forecast_lines(quick_start: tuple[Path, dict[str, str]]) -> None:
    _, answers = quick_start
    verbs = [" ".join(command.split()[:2]) for command in answers]
    lines = [json.loads(line) for line in list(answers.values())[-1].splitlines()]

    assert verbs[:2] == ["stunet train", "stunet evaluate"]
    assert verbs[-1] == "stunet run"
    assert len(lines) == PER_DAY
    assert lines[0]["issued_at"] == "2025-03-30T00:00:00Z"


def test_the_python_runs(quick_start: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(quick_start[0])
    (snippet,) = blocks("python", "In Python")

    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(snippet, "README.md", "exec"), {})

    shown = out.getvalue().splitlines()
    assert shown[0] == "2025-03-31 08:00:00+00:00 2025-03-31 08:05:00+00:00"
    assert shown[1] == f"(12, {SENSORS}, 1)"
    assert json.loads(shown[3])["degraded"] is True


def test_the_lines_shown_are_lines_that_are_read_and_written(quick_start: tuple[Path, dict[str, str]]) -> None:
    shown_input, shown_forecast = blocks("json", "From training to the controller")
    stream = Stream.open(quick_start[0] / "model.bundle")

    forecast = stream.push(*read_json_line(shown_input))

    stream.close()
    written, shown = json.loads(forecast.to_json_line()), json.loads(shown_forecast)
    assert list(shown) == list(written)
    assert shown["issued_at"] == written["issued_at"]
    assert np.shape(shown["values"]["speed"]) == (len(shown["horizons_min"]), len(shown["sensors"]))


def test_the_python_of_the_deploy_page_runs(
    quick_start: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(quick_start[0])
    (snippet,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "guide" / "deploy.md").read_text("utf-8"), re.M | re.S
    )

    names: dict[str, Any] = {}
    exec(compile(snippet, "deploy.md", "exec"), names)

    assert names["on_interval"]({"unknown": 1.0}, "2025-03-31T08:00:00Z").observed_share == 0
    assert names["on_interval"]({}, "2025-03-31T07:00:00Z") is None
    names["stream"].close()
