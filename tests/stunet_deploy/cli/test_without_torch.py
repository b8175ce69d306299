"""What a controller types works without torch, onnx and scipy; help works without any room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Place

ROOT = Path(__file__).resolve().parents[3]
VERBS = ("train", "evaluate", "export", "verify", "run", "inspect", "demo")

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
    done = stunet(("torch", "onnx", "scipy", "training", "export", "runtime", "matplotlib"), verb, "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: stunet {verb}")


@pytest.mark.parametrize("verb", ["evaluate", "verify", "run", "inspect"])
def test_a_bundle_needs_no_torch(verb: str, place: Place) -> None:
    rest = {"evaluate": ["--data", place.speeds, "--hide", "0.2"], "run": ["--replay", place.speeds]}.get(verb, [])

    done = stunet(("torch", "onnx", "onnxscript", "scipy", "dacite", "rich"), verb, place.bundle, *rest, "--json")

    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
