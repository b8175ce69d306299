"""A controller with numpy and one inference engine can import everything it runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT

# What runtime may import, and the files that series is made of.
VOCABULARY_ON_DEVICE = (
    *("errors", "contract", "bundle", "bundle_files", "compare", "metrics", "site", "series"),
    *("manifest", "manifest_rules", "precisions", "step_notes", "strict_json", "st_graph", "st_graph.st_graph"),
    *(f"onnx_graph{name}" for name in ("", ".wire", ".messages", ".model", ".operators", ".cost", ".step_graph")),
    *("files", "limits", "array_files", "toml_files", "config_mapping", "wording"),
    *("signature", "keys"),
    *(
        f"series.{name}"
        for name in (
            *("series", "facts", "times", "wall_clock", "layouts", "layouts.files", "layouts.table", "layouts.text"),
            *("layouts.delimited", "layouts.packed", "layouts.untimed", "layouts.own", "layouts.roles"),
            *("layouts.columns", "layouts.pems", "layouts.libcity", "layouts.several"),
            *("layouts.npz", "layouts.hdf5", "layouts.parquet", "layouts.xlsx"),
        )
    ),
)
WITHOUT_TORCH_AND_ONNX = (
    "training.protocols",
    "training.baselines",
    "training.evaluation",
    "training.hiding",
    "training.verdict",
    "export.engine",
    "stunet_deploy.cli.build",
)
ON_A_DEVICE = ("numpy", "stunet_deploy", "runtime", "export", "cuda", "tensorrt_rtx")

IMPORT_ALL = """
import importlib, json, sys, traceback

names, blocked, allowed = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # sysconfig keeps its values in a module that the list of the standard library does not name.
        known = top in allowed or top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        if top in blocked or (allowed and not known):
            raise ModuleNotFoundError(f"{name} is blocked in this test", name=name)

sys.meta_path.insert(0, Blocker())
failures = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps([failures, sorted(sys.modules)]))
"""


def import_all(
    names: list[str], *, blocked: tuple[str, ...] = (), allowed: tuple[str, ...] = ()
) -> tuple[dict[str, str], list[str]]:
    """Import the modules in a new process; return the failures by name and all that got loaded."""
    request = json.dumps([names, blocked, allowed])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, request], cwd=ROOT, capture_output=True, text=True, check=True
    )
    failures, loaded = json.loads(done.stdout)
    return failures, loaded


def modules_under(room: str) -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / room).rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def existing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if _exists(name)]


def _exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_the_blocker_blocks() -> None:
    failures, _ = import_all(["numpy"], blocked=("numpy",))

    assert list(failures) == ["numpy"]


def test_what_runs_on_the_device_imports_with_numpy_alone() -> None:
    vocabulary = existing(tuple(f"stunet_deploy.{name}" for name in VOCABULARY_ON_DEVICE))

    failures, loaded = import_all(
        [*modules_under("runtime"), *vocabulary], allowed=("numpy", "stunet_deploy", "runtime")
    )

    assert not failures, "\n".join(failures.values())
    ours = {name.removeprefix("stunet_deploy.") for name in loaded if name.startswith("stunet_deploy.")}
    assert ours <= set(VOCABULARY_ON_DEVICE)


@pytest.mark.parametrize("name", existing(WITHOUT_TORCH_AND_ONNX))
def test_what_needs_no_torch_imports_none(name: str) -> None:
    failures, _ = import_all([name], blocked=("torch", "onnx", "onnxscript"))

    assert not failures, failures[name]


def test_an_engine_is_built_with_numpy_and_tensorrt_alone() -> None:
    failures, loaded = import_all(["export.engine", "stunet_deploy.cli.build"], allowed=ON_A_DEVICE)

    assert not failures, "\n".join(failures.values())
    assert "stunet_deploy.models" not in loaded
