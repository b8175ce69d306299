"""The service as a process of its own: readings into its standard input, forecasts out of its standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.harness.workbench import ROOT
from stunet_deploy.errors import CheckFailed
from stunet_deploy.files import replacing

CONFIG = """\
# Readings of the simulation come faster than they happen, so the clock is theirs.
[[stream]]
name = "junction"
bundle = "{bundle}"
state = "{state}"

[stream.source]
kind = "stdin"
clock = "messages"

[stream.assembler]
period_s = 30
stamp = "end"            # a reading is sent when its 30 seconds are over
grace_s = 20
rules = {{ speed = {{ weight = "flow" }}, flow = {{ how = "sum" }} }}

[[stream.sink]]
kind = "stdout"
"""


def write_config(path: Path, bundle: Path, state: Path) -> None:
    """Write the config of the service; the other paths are absolute or relative to its folder."""
    with replacing(path) as temporary:
        temporary.write_text(CONFIG.format(bundle=bundle, state=state), encoding="utf-8")


def drive(config: Path, lines: Iterable[str], forecasts: Path) -> None:
    """Run the service of a config on lines of readings, until they end.

    Args:
        config: file of the service.
        lines: what the detectors say, with line breaks; each is handed over as soon as it is there.
        forecasts: file for the forecast lines.

    Raises:
        CheckFailed: the service has ended with an error, or before the readings did; its log says why.
    """
    command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config.absolute())]
    with (
        forecasts.open("wb") as out,
        # Unbuffered: a reading waits for no other.
        subprocess.Popen(command, cwd=ROOT, bufsize=0, stdin=subprocess.PIPE, stdout=out) as service,
    ):
        assert service.stdin is not None
        with suppress(BrokenPipeError):  # the exit code tells
            for line in lines:
                service.stdin.write(line.encode())
        service.stdin.close()
        code = service.wait()
    if code != 0:
        raise CheckFailed(f"the service ended with exit code {code}")


def simulate_live(day: int, seed: int, speed: float, keep: Path) -> Iterator[str]:
    """Yield the lines of a simulation that runs beside us, and write them to a file.

    Raises:
        CheckFailed: the simulation has ended with an error.
    """
    options = ["--day", str(day), "--seed", str(seed), "--speed", str(speed)]
    command = [sys.executable, "-m", "benchmarks.live.simulation", *options]
    with (
        keep.open("w", encoding="utf-8") as kept,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as simulation,
    ):
        assert simulation.stdout is not None
        for line in simulation.stdout:
            kept.write(line)
            yield line
        code = simulation.wait()
    if code != 0:
        raise CheckFailed(f"the simulation ended with exit code {code}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
