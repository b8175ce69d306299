"""Running with an engine that cannot run: named with the command that builds it, before TensorRT sees the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.engine import build_engine
from runtime.backends.gpu.engines import note_path
from runtime.backends.gpu.flavor import RTX, find_flavor
from stunet_deploy.bundle import Bundle
from tests.paths import ROOT

from .conftest import Place

pytestmark = pytest.mark.needs_system_package("gcc")


@pytest.fixture(scope="module")
def built(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an engine for 8.6; tests copy it."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this Python or is not installed")
    folder = shutil.copytree(place.bundle, tmp_path_factory.mktemp("built") / "model.bundle")
    build_engine(Bundle.load(folder), find_flavor(RTX), compute_capabilities=["8.6"])
    return folder


def cut_short(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:1000])


def foreign(engine: Path) -> None:
    note = json.loads(note_path(engine).read_text())
    note_path(engine).write_text(json.dumps(note | {"bundle_id": "0" * 64}))


def altered_note(engine: Path) -> None:
    note_path(engine).write_text(note_path(engine).read_text().replace('"fp32"', '"tf32"'))


def of_an_older_release(engine: Path) -> None:
    note = note_path(engine)
    version = json.loads(note.read_text())["key"]["version"]
    note.with_name(note.name.replace(version, "1.2.0")).write_text(note.read_text().replace(version, "1.2.0"))
    note.unlink()
    engine.rename(engine.with_name(engine.name.replace(version, "1.2.0")))


@pytest.mark.parametrize(
    ("damage", "minor", "arguments", "said"),
    [
        (cut_short, 6, [], "was altered or cut short"),
        (foreign, 6, [], "was built from the bundle 000000000000"),
        (altered_note, 6, [], "describes another engine"),
        (of_an_older_release, 6, [], "of tensorrt-rtx 1.2.0"),
        (Path.unlink, 6, [], "there is none"),
        (None, 9, [], "is for compute capability 8.6"),
        (None, 6, ["--precision", "tf32"], "is fp32"),
    ],
)
def test_an_engine_that_cannot_run_is_refused_with_the_command_that_builds_it(
    built: Path,
    tmp_path: Path,
    driver_library: Path,
    damage: Callable[[Path], None] | None,
    minor: int,
    arguments: list[str],
    said: str,
) -> None:
    folder = shutil.copytree(built, tmp_path / "model.bundle")
    if damage is not None:
        (engine,) = (folder / "engines").glob("*.engine")
        damage(engine)

    done = subprocess.run(
        [sys.executable, "-m", "stunet_deploy", "verify", folder, "--backend", "tensorrt-rtx", *arguments],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(driver_library), "TOLD_MINOR": str(minor)},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    error, expected, action = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert expected.startswith("expected: ")
    assert f"stunet build {folder}" in action
