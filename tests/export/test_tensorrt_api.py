"""Every call we make to TensorRT exists, with these arguments, in the real bindings of all supported versions.

The bindings are modules of compiled code that need the vendor's libraries. Empty libraries of the same names are enough
to import them; stubgen then reads every class, member and signature, and mypy checks our modules against them.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.needs_system_package("gcc"), pytest.mark.slow]

#: What ``make bindings`` fetches: JetPack 6, JetPack 7, and the first and the latest of TensorRT 11.
VERSIONS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.0.0.114", "11.4.0.106")
RTX = "rtx"
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
)
#: How a function of ours takes hold of TensorRT, by an assignment or as a parameter.
TAKES_HOLD = re.compile(r"^( +)(?:trt|rtx) = \S*\.module$", re.M)
IS_HANDED = re.compile(r"\b(trt|rtx): (?:Any|ModuleType)\b")
FUTURE = "from __future__ import annotations\n"
STUBGEN = "import sys; from mypy.stubgen import main; main(sys.argv[1:])"
HAS_BUFFER = """
import sys, importlib
module = importlib.import_module(sys.argv[1])
print(*[n for n in dir(module) if "buffer protocol" in (getattr(module, n).__doc__ or "")])
"""


@dataclass(frozen=True)
class Stubs:
    """A folder with the types of one version as packages ``tensorrt`` and ``tensorrt_rtx``, and our rooms beside."""

    folder: Path
    cache: Path

    def check(self) -> str:
        """Check our modules that call TensorRT; return what mypy says, nothing if all is well."""
        command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
        command += ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(self.cache)]
        # The bindings do not say which results may be None.
        command += ["--no-strict-optional", "--no-warn-unused-ignores"]
        modules = [str(path.relative_to(self.folder)) for path in self.modules]
        done = subprocess.run([*command, *modules], cwd=self.folder, env=plain(), capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout

    @property
    def modules(self) -> list[Path]:
        """Our modules that call TensorRT."""
        rooms = [path for room in ("export", "runtime") for path in sorted((self.folder / room).rglob("*.py"))]
        return [path for path in rooms if re.search(r"\b(trt|rtx)\.[A-Z]", path.read_text())]


def plain(**more: str) -> dict[str, str]:
    """Return an environment in which only the given places are searched for modules."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return kept | more


def run(*command: object, **more: str) -> str:
    done = subprocess.run([*map(str, command)], env=plain(**more), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def empty_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries with the names of TensorRT's and the nine functions that its bindings ask for, all of them empty."""
    folder = tmp_path_factory.mktemp("libraries")
    source = folder / "empty.c"
    source.write_text("\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in SYMBOLS))
    for library in LIBRARIES:
        for major in (10, 11):
            name = f"{library}.so.{major}"
            run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source)
    return folder


@pytest.fixture(scope="session")
def make_stubs(empty_libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stubs]:
    """Return a function that reads the types of a version and lays our rooms beside them."""

    def make(version: str) -> Stubs:
        folder = tmp_path_factory.mktemp(f"stubs-{version}")
        if version == RTX:
            pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this Python or is not installed")
            package, places = "tensorrt_rtx_bindings", {}
        else:
            package, places = "tensorrt_bindings", {"LD_LIBRARY_PATH": str(empty_libraries)}
            places["PYTHONPATH"] = str(bindings(version))
        module = f"{package}.{'tensorrt_rtx' if version == RTX else 'tensorrt'}"
        run(sys.executable, "-c", STUBGEN, "--inspect-mode", "-q", "-m", module, "-o", folder, **places)
        buffers = run(sys.executable, "-c", HAS_BUFFER, package, **places).split()
        assert "IHostMemory" in buffers
        stub = folder.joinpath(*module.split(".")).with_suffix(".pyi")
        stub.write_text(repaired(stub.read_text(), buffers))
        stub.with_name("__init__.pyi").write_text("")
        for name in ("tensorrt", "tensorrt_rtx"):  # RTX stands for both; the others know nothing of it
            known = version == RTX or name == "tensorrt"
            content = (
                f"from {module} import *\n"
                if known
                else "from typing import Any\ndef __getattr__(name: str) -> Any: ...\n"
            )
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "__init__.pyi").write_text(content)
        for room in ("export", "runtime", "stunet_deploy"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        stubs = Stubs(folder, tmp_path_factory.getbasetemp() / "mypy")
        for path in stubs.modules:
            path.write_text(knowing_its_module(path.read_text()))
        return stubs

    return make


def knowing_its_module(source: str) -> str:
    """Return a source in which ``trt`` and ``rtx`` are modules that mypy knows, wherever they come from at run time."""
    source = IS_HANDED.sub(r"_\1: object", TAKES_HOLD.sub(r"\1pass", source))
    before, after = source.split(FUTURE)
    return f"{before}{FUTURE}import tensorrt as trt\nimport tensorrt_rtx as rtx\n{after}"


def repaired(stub: str, buffers: list[str]) -> str:
    """Return a stub with what stubgen cannot know; none of it is about a call of ours."""
    for name in buffers:  # before Python 3.12 a class does not tell that it is one
        head = f"class {name}:\n"
        stub = stub.replace(head, f"{head}    def __buffer__(self, flags: int, /) -> memoryview: ...\n")
    stub = stub.replace(
        "def get_error(self, *args, **kwargs): ...", "def get_error(self, index: int) -> ParserError: ..."
    )
    stub = re.sub(r"^bool: .*$", "", stub, flags=re.M)  # a type of TensorRT's that hides Python's
    stub = re.sub(r"\b(typing\.)?SupportsInt\b", "int", stub)  # what callbacks are given
    stub = re.sub(r"^( +)def (\w+)\(.*$", _as_python, stub, flags=re.M)
    return "# mypy: ignore-errors\n" + stub


def _as_python(definition: re.Match[str]) -> str:
    """Return a signature, or one that takes anything where the bindings give none that Python could have."""
    try:
        ast.parse(definition[0].strip())
    except SyntaxError:
        return f"{definition[1]}def {definition[2]}(self, *args: Incomplete, **kwargs: Incomplete) -> Incomplete: ..."
    return definition[0]


def bindings(version: str) -> Path:
    folder = ROOT / ".bindings" / version
    if not folder.is_dir():
        reason = f"no bindings of TensorRT {version}: make bindings"
        if os.environ.get("STUNET_NO_SKIP") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return folder


@pytest.mark.parametrize("version", [*VERSIONS, RTX])
def test_every_call_exists_in(version: str, make_stubs: Callable[[str], Stubs]) -> None:
    stubs = make_stubs(version)

    assert {"engine_compiler.py"} <= {path.name for path in stubs.modules}
    assert stubs.check() == ""


def test_a_call_that_a_version_lacks_is_found(make_stubs: Callable[[str], Stubs]) -> None:
    """Each object of the build has its type, down to the arguments: a wrong line is told apart from a right one."""
    wrong = {
        "builder": "builder.build_engine(network, config)",
        "network": "network.get_inputs()",
        "parser": "parser.parse(graph, flags=1)",
        "config": "config.set_flag(trt.BuilderFlag.FP16)",
        "types": "config.clear_flag('TF32')",
        "profile": "builder.create_optimization_profile().set_shape('x', (1,), (1,))",
        "plan": "plan.size",
        "errors": "parser.get_error(0).describe()",
    }
    stubs = make_stubs(VERSIONS[-1])
    compiler = stubs.folder / "export" / "engine_compiler.py"
    anchor = "    if stopped.is_set():\n"
    before, after = compiler.read_text().split(anchor)
    compiler.write_text(before + "".join(f"    {line}\n" for line in wrong.values()) + anchor + after)

    said = stubs.check()

    first = before.count("\n") + 1
    found = {int(line) for line in re.findall(r"engine_compiler\.py:(\d+): error", said)}
    assert found == set(range(first, first + len(wrong))), said
