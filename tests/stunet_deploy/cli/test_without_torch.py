"""What a controller types works without torch, onnx and scipy; help works without any room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

from .conftest import Place

VERBS = ("data", "train", "search", "evaluate", "export", "build", "sign", "verify", "run", "bench", "inspect", "demo")

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name + " is blocked in this test", name=name)

sys.meta_path.insert(0, Blocker())
from stunet_deploy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def stunet(blocked: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself_without_any_room(verb: str) -> None:
    done = stunet(("torch", "onnx", "scipy", "training", "export", "runtime", "matplotlib", "optuna"), verb, "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: stunet {verb}")


def test_looking_at_data_needs_no_torch(place: Place) -> None:
    blocked = ("torch", "onnx", "onnxscript", "scipy", "rich", "matplotlib", "h5py", "pyarrow")

    done = stunet(blocked, "data", "inspect", place.speeds, "--graph", place.edges, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "recording with graph"


def test_a_picture_without_matplotlib_names_the_extra(place: Place, tmp_path: Path) -> None:
    done = stunet(("matplotlib",), "data", "inspect", place.speeds, "--plot", tmp_path / "picture.png")

    assert done.returncode == 2
    assert "stunet-deploy[train]" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("verb", ["evaluate", "verify", "run", "bench", "inspect"])
def test_a_bundle_needs_no_torch(verb: str, place: Place) -> None:
    options: dict[str, list[object]] = {
        "evaluate": ["--data", place.speeds, "--hide", "0.2"],
        "run": ["--replay", place.speeds],
        "bench": ["--count", 20, "--rate", 1000],
    }
    rest = options.get(verb, [])

    done = stunet(("torch", "onnx", "onnxscript", "scipy", "rich"), verb, place.bundle, *rest, "--json")

    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
