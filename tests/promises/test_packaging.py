"""The project installs its four rooms, whole, and nothing else."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.paths import ROOT

ROOMS = ("stunet_deploy", "training", "export", "runtime")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_owned_by_this_distribution_alone(room: str) -> None:
    try:
        importlib.metadata.distribution("stunet-deploy")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("stunet-deploy is not installed here")

    owners = set(importlib.metadata.packages_distributions().get(room, []))

    assert owners == {"stunet-deploy"}, f"{room} is owned by {owners}; install into an environment of its own"


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy, so that an old build folder cannot lend it files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*ROOMS, "tests", "benchmarks"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "--quiet", "--wheel-dir", str(source / "dist"), str(source)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_rooms(wheel_names: set[str]) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }

    assert files - wheel_names == set()


def test_the_wheel_holds_nothing_but_the_rooms(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOMS)
