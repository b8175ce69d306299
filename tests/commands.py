"""Commands that a document shows, run in a process of their own as the installed programs would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.paths import ROOT

# One process for all of them: most of a short command's time is the import of torch.
_PROGRAM = """
import contextlib, io, json, shlex, sys
from stunet_deploy import cli

answers = {}
for command in json.loads(sys.argv[1]):
    program, *arguments = shlex.split(command)
    print(command, file=sys.stderr)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = {"stunet": cli.main, "stunet-export": cli.export_main}[program](arguments)
    if code:
        sys.exit(f"exit code {code}")
    answers[command] = out.getvalue()
print(json.dumps(answers))
"""


def run_commands(commands: Sequence[str], folder: Path) -> dict[str, str]:
    """Run commands in order in a folder, each of which has to succeed, and return the standard output of each."""
    done = run_python("-c", _PROGRAM, json.dumps(commands), folder=folder)
    return {command: str(answer) for command, answer in json.loads(done).items()}


def run_python(*arguments: str | Path, folder: Path) -> str:
    """Run Python in a folder, which has to succeed, and return its standard output."""
    return run(sys.executable, *arguments, folder=folder)


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder, which has to succeed, and return its standard output; stunet is on its path."""
    done = subprocess.run(command, cwd=folder, env=installed(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed() -> dict[str, str]:
    """Return the environment of a process that finds the packages and programs of the repository from any folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}


def write_cut(path: Path, sensors: int, days: int) -> None:
    """Write the last days of the first sensors of the shipped data."""
    with np.load(ROOT / "stunet_deploy" / "data" / "freeway.npz", allow_pickle=False) as whole:
        arrays = dict(whole)
    for name in ("values", "observed", "timestamps"):
        arrays[name] = arrays[name][-days * 288 :]
    for name in ("values", "observed"):
        arrays[name] = arrays[name][:, :sensors]
    for name in ("sensor_ids", "latitude", "longitude"):
        arrays[name] = arrays[name][:sensors]
    arrays["adjacency"] = arrays["adjacency"][:sensors, :sensors]
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **arrays)
