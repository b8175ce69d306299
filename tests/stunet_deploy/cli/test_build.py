"""``stunet build`` as a user types it, on a machine without a GPU, and everything that can be wrong with it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.backends.gpu.driver import find_device
from stunet_deploy.cli import main
from tests.paths import ROOT

from .conftest import Place

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Blocker())
from stunet_deploy.cli import main
sys.exit(main(sys.argv[1:]))
"""
NEITHER_TORCH_NOR_ONNX = ("torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "scipy", "rich", "h5py")

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


def stunet(
    *arguments: object, blocked: Sequence[str] = (), path: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED.format(blocked=tuple(blocked)), *map(str, arguments)]
    more = {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
    return subprocess.run(command, cwd=ROOT, env=os.environ | more, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the three clauses of a run that ended as every error of a user does."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    return clauses_of(done.stderr)


def clauses_of(said: str) -> dict[str, str]:
    """Return the three clauses of an error."""
    assert "Traceback" not in said
    lines = [line.partition(":") for line in said.splitlines()]
    clauses = {name: text.strip() for name, _, text in lines if name in ("error", "expected", "to do")}
    assert all(clauses.values())
    assert list(clauses) == ["error", "expected", "to do"]
    return clauses


@pytest.fixture
def bundle(place: Place, tmp_path: Path) -> Path:
    """Return a copy of the bundle to build in."""
    return shutil.copytree(place.bundle, tmp_path / "model.bundle", ignore=shutil.ignore_patterns("engines"))


@needs_rtx
def test_engines_are_built_without_torch_and_listed(bundle: Path) -> None:
    capabilities = ["8.6", "8.9", "12.0"]
    arguments = ["build", bundle, "--flavor", "rtx", "--precision", "fp32,tf32", "--compute-capability", *capabilities]

    done = stunet(*arguments, "--batch", 1, 2, 8, "--level", 1, "--json", blocked=NEITHER_TORCH_NOR_ONNX)

    assert done.returncode == 0, done.stderr
    engines = json.loads(done.stdout)["engines"]
    assert [(engine["precision"], engine["tf32"], engine["level"]) for engine in engines] == [
        ("fp32", False, 1),
        ("tf32", True, 1),
    ]
    assert all(engine["batch"] == [1, 2, 8] and engine["compute_capabilities"] == capabilities for engine in engines)
    assert f"next: copy {bundle} to a machine with such a GPU" in done.stderr

    again = stunet(*arguments, "--batch", 1, 2, 8, "--level", 1)
    assert again.stdout.count("was there already") == 2

    listed: list[dict[str, Any]] = json.loads(stunet("inspect", bundle, "--json").stdout)["engines"]
    assert {engine["file"] for engine in listed} == {engine["file"] for engine in engines}
    assert all(engine["valid"] for engine in listed)
    words = stunet("inspect", bundle).stdout
    assert "tf32 for compute capability 8.6, 8.9, 12.0 by tensorrt-rtx" in words


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "clause", "text"),
    [
        (["--precision", "fp64"], "error", "fp64"),
        (["--precision", "fp32,"], "error", "''"),
        (["--compute-capability", "9.0"], "error", "9.0"),
        (["--batch", "4", "2", "8"], "to do", "--batch"),
        (["--level", "9"], "to do", "--level"),
        (["--version-compatible"], "to do", "--version-compatible"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    bundle: Path, arguments: list[str], clause: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bundle), "--flavor", "rtx", *arguments]) == 2
    assert text in clauses_of(capsys.readouterr().err)[clause]
    assert not (bundle / "engines").exists()


def test_a_precision_that_was_not_exported_names_the_export(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    if "step.int8.onnx" in manifest["files"]:
        pytest.skip("this bundle has every precision")

    assert "stunet-export model.pt --precision int8" in refused(stunet("build", bundle, "--precision", "int8"))["to do"]


def test_no_tensorrt_names_the_extras(bundle: Path) -> None:
    clauses = refused(stunet("build", bundle, blocked=["tensorrt", "tensorrt_rtx"]))

    assert clauses["error"] == "no Python module tensorrt or tensorrt_rtx"
    assert "stunet-deploy[tensorrt]" in clauses["to do"]
    assert "stunet-deploy[rtx]" in clauses["to do"]


def test_a_missing_library_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("import ctypes\nctypes.CDLL('libnvinfer.so.0')\n")

    clauses = refused(stunet("build", bundle, "--flavor", "tensorrt", path=[tmp_path]))

    assert "libnvinfer.so.0" in clauses["error"]
    assert "install it again" in clauses["to do"]


def test_the_full_builder_without_a_driver_does_not_reach_the_library(bundle: Path, tmp_path: Path) -> None:
    if find_device() is not None:
        pytest.skip("there is a GPU")
    (tmp_path / "tensorrt.py").write_text("import os\n__version__ = '10.3.0'\ndef __getattr__(name): os.abort()\n")

    clauses = refused(stunet("build", bundle, "--flavor", "tensorrt", path=[tmp_path]))

    assert "driver" in clauses["error"] or "cuda" in clauses["error"]
    assert "--backend onnxruntime" in clauses["to do"] or "cuda-bindings" in clauses["to do"]


@needs_rtx
@pytest.mark.parametrize("damage", ["cut short", "foreign", "no note", "altered note"])
def test_a_damaged_engine_is_shown_and_built_again(bundle: Path, damage: str, answer: Callable[..., Any]) -> None:
    build = ["build", bundle, "--flavor", "rtx", "--compute-capability", "8.6"]
    (engine,) = answer(*build)["engines"]
    path = bundle / "engines" / engine["file"]
    note = path.with_suffix(".json")
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        note.write_text(note.read_text().replace(json.loads(note.read_text())["bundle_id"], "0" * 64))
    elif damage == "no note":
        note.unlink()
    else:
        note.write_text(note.read_text().replace('"precision": "fp32"', '"precision": "tf32"'))

    (listed,) = answer("inspect", bundle)["engines"]
    assert not listed["valid"]
    assert listed["problem"]

    (again,) = answer(*build)["engines"]
    assert not again["reused"]
    (listed,) = answer("inspect", bundle)["engines"]
    assert listed["valid"]
