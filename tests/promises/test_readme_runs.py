"""The README's commands and Python, and the examples, run on a few days of ten of the shipped sensors."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.live import Mosquitto
from runtime.messages import read_json_line
from runtime.stream import Stream
from tests.commands import installed, run, run_commands, run_python, write_cut
from tests.paths import ROOT
from tests.sharing import Shared

README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = Path("stunet_deploy/data/freeway.npz")
EXAMPLES = ROOT / "examples"
SENSORS, DAYS, PER_DAY = 10, 3, 288


def blocks(language: str, heading: str) -> list[str]:
    """The code blocks of one language under a heading of the README."""
    _, _, section = README.partition(f"\n## {heading}\n")
    return re.findall(rf"^```{language}\n(.*?)^```", section.partition("\n## ")[0], re.M | re.S)


@pytest.fixture(scope="module")
def quick_start(shared: Shared) -> tuple[Path, dict[str, str]]:
    """The folder in which the quick start's commands ran, in order, and the answer of each."""

    def follow(folder: Path) -> None:
        (commands,) = blocks("sh", "Quick start")
        write_cut(folder / DATA, SENSORS, DAYS)
        # Fewer epochs than a reader trains for; everything else is as the README has it.
        shorter = [f"{line} --epochs 1" if "train" in line else line for line in commands.splitlines()]
        (folder / "answers.json").write_text(json.dumps(run_commands(shorter, folder)))

    folder = shared.folder("quick-start", follow)
    return folder, json.loads((folder / "answers.json").read_text())


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


def test_the_example_in_python_streams_a_day(quick_start: tuple[Path, dict[str, str]]) -> None:
    lines = run_python(EXAMPLES / "02_stream.py", "model.bundle", DATA, folder=quick_start[0]).splitlines()

    assert len(lines) == PER_DAY
    assert lines[0].endswith("warming up: 1 of 12 intervals seen")
    assert re.fullmatch(r"23:55  now +(nan|\d+\.\d)  in half an hour +\d+\.\d  ", lines[-1])


@pytest.mark.needs_system_package("mosquitto")
def test_the_example_of_a_service_answers_on_mqtt(quick_start: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Mosquitto(tmp_path)
    shutil.copytree(quick_start[0] / "model.bundle", tmp_path / "model.bundle")
    (tmp_path / "examples").mkdir()
    config = (EXAMPLES / "03_service.toml").read_text(encoding="utf-8")
    config = config.replace("port = 1883", f"port = {broker.port}").replace("port = 8080", "port = 0")
    (tmp_path / "examples" / "03_service.toml").write_text(config, encoding="utf-8")
    arguments = ("-m", "stunet_deploy", "run", "--config", "examples/03_service.toml")
    service = subprocess.Popen([sys.executable, *arguments], cwd=tmp_path, env=installed(), stderr=subprocess.PIPE)
    try:
        assert service.stderr is not None
        assert any(b"subscribed" in line for line in service.stderr)

        answer = run_python(EXAMPLES / "03_mqtt.py", "model.bundle", str(broker.port), folder=tmp_path)
    finally:
        service.terminate()
        service.communicate()
        broker.stop()

    assert [
        line.endswith(f"warming up: {seen} of 12 intervals seen") for seen, line in enumerate(answer.splitlines(), 1)
    ] == [True] * 3
    assert service.returncode == 0


@pytest.mark.needs_system_package("jq")
def test_the_example_in_the_shell_reads_a_manifest_and_checks_the_files(
    quick_start: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    bundle = shutil.copytree(quick_start[0] / "model.bundle", tmp_path / "model.bundle")
    answer = run(EXAMPLES / "04_manifest.sh", "model.bundle", folder=tmp_path)
    with (bundle / "step.onnx").open("ab") as file:
        file.write(b"more")

    assert f"sensors    {SENSORS}, AE01 ... AE{SENSORS}" in answer
    assert answer.endswith("step.onnx: OK\n")
    with pytest.raises(AssertionError, match="did NOT match"):
        run(EXAMPLES / "04_manifest.sh", "model.bundle", folder=tmp_path)
