"""Hostile bundles, and good ones, given to ``stunet verify`` on every ONNX Runtime that is here.

The kinds are those of :mod:`benchmarks.faults.hostile.graphs` and :mod:`benchmarks.faults.hostile.folders`: steps that
reach out of themselves, never end, take terabytes or can be read in two ways, and folders of links, pipes and names
that lead away. Each is verified in a process of its own, with a minute of the processor and 4 GB of addresses. A
failure is any other exit code than 2, fewer than three clauses, a traceback, or a word of a foreign file. A good
bundle, in both its precisions, must be verified with exit code 0.

``make onnxruntimes`` makes an environment for each version in :data:`ENVIRONMENTS`, in which nothing is installed but
numpy and that ONNX Runtime, and runs this part.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.hostile import folders, graphs
from benchmarks.faults.hostile.__main__ import failure_of
from benchmarks.faults.hostile.kinds import Kind, Place
from benchmarks.faults.hostile.models import good_files
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from stunet_deploy.bundle import Bundle

ENVIRONMENTS = ROOT / ".onnxruntimes"
KINDS = (*graphs.KINDS, *folders.KINDS)
_SECONDS, _BYTES, _WAITING_S = 60, 4 << 30, 240
_VERSION = "import onnxruntime; print(onnxruntime.__version__)"


def bundles(bundle: Bundle, kinds: int) -> Iterator[Row]:
    """Verify the bundle, and so many kinds of hostile ones, on every ONNX Runtime."""
    with tempfile.TemporaryDirectory() as scratch:
        good = Path(scratch) / "good"
        good.mkdir()
        good_files(good)
        pythons = [Path(sys.executable), *sorted(ENVIRONMENTS.glob("*/bin/python"))]
        versions = {_version(python): python for python in reversed(pythons)}  # each once
        for version, python in sorted(versions.items()):
            yield _hostile(python, version, good, KINDS[:: max(1, len(KINDS) // kinds)])
            yield _good(python, version, bundle)


def _version(python: Path) -> str:
    """Return the version of the ONNX Runtime of an environment."""
    return subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, check=True).stdout.strip()


def _hostile(python: Path, version: str, good: Path, kinds: Sequence[Kind]) -> Row:
    failures, most = [], 0.0
    for kind in kinds:
        with tempfile.TemporaryDirectory(dir=good.parent) as folder:
            words = kind.make(Place(Path(folder), good, False))
            code, said, seconds = _run(python, words)
            said = said.replace(folder, "")
            failure = failure_of(kind, said, code)
            failures += [f"{kind.name}: {failure}: {said[-300:]}"] * bool(failure)
            most = max(most, seconds)
    seen = f"refused by stunet verify with exit code 2, after at most {most:.1f} s of the processor"
    return Row(f"a hostile bundle, ONNX Runtime {version}", len(kinds), failures, seen)


def _good(python: Path, version: str, bundle: Bundle) -> Row:
    failures = []
    words = [["verify", str(bundle.path), "--precision", name] for name in bundle.manifest.precisions]
    for each in words:
        code, said, _ = _run(python, each)
        failures += [f"{each[-1]}: exit code {code}: {said[-300:]}"] * bool(code)
    return Row(f"a good bundle, ONNX Runtime {version}", len(words), failures, "verified")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))


def _run(python: Path, words: Sequence[str]) -> tuple[int, str, float]:
    """Run a command with limits; return its exit code, what it said, and its seconds of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [python, "-m", "stunet_deploy", *words],
        cwd=ROOT,
        preexec_fn=_limit,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_WAITING_S,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout + done.stderr, seconds
