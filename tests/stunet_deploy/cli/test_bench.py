"""``stunet bench`` as scripts call it: keys, files, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stunet_deploy.cli import main
from stunet_deploy.cli.bench import parse_duration
from stunet_deploy.cli.pictures.latency import draw_latencies
from stunet_deploy.errors import ConfigError

from .conftest import SENSORS, Place

Answer = Callable[..., Any]
QUICK = ("--count", 100, "--rate", 1000)
LOOP = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us", "n"}
KEYS = {
    *("schema", "bundle_id", "model", "sensors", "interval_s", "backend", "precision", "threads", "closed_loop"),
    *("open_loop", "first_after_idle_us", "cold_start_ms", "cold_start", "rss_mb", "device_memory_mb", "energy_mj"),
    *("device_energy_mj", "parity", "artifact", "environment", "advised_threads", "plan", "runs"),
}


def test_the_answer_has_the_agreed_keys_and_files_hold_the_same_and_are_compared_and_drawn(
    place: Place,
    answer: Answer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {name: tmp_path / name for name in ("out.json", "times.json")}
    written = ("--out", files["out.json"], "--export-times", files["times.json"])

    found = answer("bench", place.bundle, *QUICK, "--threads", 1, 2, "--deadline", "1000s", "--at", "max", *written)

    assert found.keys() == KEYS
    assert found["closed_loop"].keys() >= LOOP
    assert found["open_loop"].keys() >= LOOP
    assert (found["sensors"], len(found["runs"])) == (len(SENSORS), 2)
    assert json.loads(files["out.json"].read_text()) == found
    assert len(json.loads(files["times.json"].read_text())) == 100
    assert_compared_and_drawn(files["out.json"], answer)
    monkeypatch.delitem(sys.modules, "stunet_deploy.cli.pictures.latency")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--report", str(files["out.json"])]) == 2
    assert "stunet-deploy[train]" in capsys.readouterr().err


def assert_compared_and_drawn(path: Path, answer: Answer) -> None:
    """A measurement does not differ from itself, and is drawn beside its file."""
    found = answer("bench", "--compare", path, path)
    drawn = answer("bench", "--report", path)
    figure = draw_latencies(json.loads(path.read_text()))

    assert found["differs"] is False
    of_each_run = [("closed_loop", 50.0), ("open_loop", 50.0)]
    assert [(each["loop"], each["percent"]) for each in found["differences"]] == 2 * of_each_run
    assert drawn == {"measurement": str(path), "picture": str(path.with_suffix(".png"))}
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [len(axes.lines[0].get_ydata()) for axes in figure.axes if axes.get_xlabel() == "forecast"] == [100, 100]


def test_a_missed_deadline_is_exit_code_1(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(place.bundle), *map(str, QUICK), "--deadline", "0.001us", "--at", "p90"]

    assert main(arguments) == 1
    assert "failed: deadline of 0.001us" in capsys.readouterr().err


def test_a_percentile_that_so_many_forecasts_cannot_know_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(place.bundle), "--count", "999", "--deadline", "1ms"]) == 2
    assert "--count 1000" in capsys.readouterr().err


def test_nothing_to_measure_and_nothing_to_compare_are_refused(
    tmp_path: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench"]) == 2
    assert main(["bench", "--compare", str(tmp_path / "absent"), str(tmp_path / "absent")]) == 2
    assert main(["bench", str(place.bundle), "--backend", "abacus"]) == 2
    said = capsys.readouterr().err
    assert "no bundle" in said
    assert "no measurement" in said
    assert "abacus" in said


def test_what_is_missing_is_said_before_anything_is_measured(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(place.bundle), "--out", str(tmp_path / "absent" / "a.json")]) == 2

    said = capsys.readouterr().err
    assert "mkdir -p" in said
    assert "golden stream" not in said


def test_durations_are_read_with_their_unit() -> None:
    assert [parse_duration(text) for text in ("500us", "1ms", "0.5 s")] == [500, 1000, 500_000]
    for text in ("1", "ms", "-1ms", "1 min"):
        with pytest.raises(ConfigError, match="deadline"):
            parse_duration(text)
