"""What the README tells a reader to run, runs: its commands and its Python, on a few days of ten of the shipped sensors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.replay import read_json_line
from runtime.stream import Stream
from stunet_deploy import cli

ROOT = Path(__file__).resolve().parents[2]
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


def call(command: str) -> str:
    """Run one command of the README in this process; return its standard output."""
    program, *arguments = shlex.split(command)
    function = {"stunet": cli.main, "stunet-export": cli.export_main}[program]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert function(arguments) == 0, command
    return out.getvalue()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Answer of each command of the quick start, run in order in a folder of its own, which stays the current one."""
    folder, before = tmp_path_factory.mktemp("readme"), Path.cwd()
    (commands,) = blocks("sh", "Quick start")
    (config,) = blocks("toml", "Quick start")
    os.chdir(folder)
    try:
        write_cut(DATA)
        # Fewer epochs than a reader trains for; everything else is as the README has it.
        Path("config.toml").write_text(config + "\n[training]\nepochs = 1\n", encoding="utf-8")
        yield {command: call(command) for command in commands.splitlines()}
    finally:
        os.chdir(before)


def test_the_quick_start_goes_from_a_recording_to_forecast_lines(answers: dict[str, str]) -> None:
    verbs = [" ".join(command.split()[:2]) for command in answers]
    lines = [json.loads(line) for line in list(answers.values())[-1].splitlines()]

    assert verbs[:2] == ["stunet train", "stunet evaluate"]
    assert verbs[-1] == "stunet run"
    assert len(lines) == PER_DAY
    assert lines[0]["issued_at"] == "2025-03-30T00:00:00Z"


def test_the_python_runs(answers: dict[str, str]) -> None:
    (snippet,) = blocks("python", "In Python")

    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(snippet, "README.md", "exec"), {})

    shown = out.getvalue().splitlines()
    assert shown[0] == "2025-03-31 08:00:00+00:00 2025-03-31 08:05:00+00:00"
    assert shown[1] == f"(12, {SENSORS}, 1)"
    assert json.loads(shown[3])["degraded"] is True


def test_the_lines_shown_are_lines_that_are_read_and_written(answers: dict[str, str]) -> None:
    shown_input, shown_forecast = blocks("json", "From training to the controller")
    stream = Stream.open("model.bundle")

    forecast = stream.push(*read_json_line(shown_input))

    stream.close()
    written, shown = json.loads(forecast.to_json_line()), json.loads(shown_forecast)
    assert list(shown) == list(written)
    assert shown["issued_at"] == written["issued_at"]
    assert np.shape(shown["values"]["speed"]) == (len(shown["horizons_min"]), len(shown["sensors"]))
