"""Hostile manifests: facts of every kind altered at random and sealed anew, as who wants to harm would.

Values, types, sizes and keys are changed at any depth, or the text itself; then the checksum is made right again, and
the identity wherever the manifest can be read, so that the deeper checks are reached. Every other bundle has a step
that says nothing about itself. ``stunet verify`` must answer each within seconds and 2 GB, with exit code 0, or 1 or 2
and the reason. One that passes must be good for all that follows: the description, the page's facts, a stream, an
interval. Anything else is a failure.

Many share a process, a copy of one that has the packages loaded; one that dies costs the manifest that it was at.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.faults.alterations import ALTERATIONS
from benchmarks.faults.network import START_S, in_memory
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from runtime.aggregation import Assembler
from runtime.drift import DriftWatch
from runtime.inspect import explain, inspect
from runtime.service.web.views import network
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.cli import main as stunet
from stunet_deploy.errors import StunetError
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.precisions import STEP

#: Manifests that a process is given, seconds of the processor for each, and megabytes for all.
_SHARE, _SECONDS, _MEGABYTES = 250, 20, 2000
#: After so long one waits for something that does not come.
_WAITING_S = 240
_CHECKSUM = re.compile(r'(?<=\n "checksum": )"[^"\n]*"')


def manifests(bundle: Bundle, count: int, rng: np.random.Generator) -> Iterator[Row]:
    """Give so many altered manifests to ``stunet verify``."""
    arguments = [str(bundle.path.resolve()), str(count), str(int(rng.integers(2**31)))]
    command = [sys.executable, "-m", "benchmarks.faults.manifests", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield Row("hostile manifests", count, [f"process ended: {done.stderr[-500:]}"], "")
        return
    found: dict[str, Any] = json.loads(done.stdout)
    codes = found["codes"]
    seen = f"{codes.get('2', 0):,} refused, {codes.get('1', 0):,} did not verify, {codes.get('0', 0):,} verified and "
    seen += f"forecast; the largest process took {found['megabytes']:,} MB"
    yield Row("hostile manifests", count, found["failures"], seen, data=found)


def resealed(text: str) -> str:
    """Return the text of a manifest with the checksum that belongs to it, where it has one."""
    empty = _CHECKSUM.sub('""', text, count=1)
    return _CHECKSUM.sub(f'"{sha256(empty.encode("utf-8", "surrogatepass"))}"', empty, count=1)


def identified(text: str, step: bytes) -> str:
    """Return a manifest with the identity that belongs to its facts, if it can be read."""
    try:
        manifest = Manifest.from_json(text)
    except StunetError:
        return text
    return resealed(text.replace(manifest.bundle_id, manifest.identity(step)))


def work(path: Path, count: int, seed: int) -> dict[str, Any]:
    """Try every manifest, in processes that share the work; return what became of them."""
    codes: Counter[str] = Counter()
    failures: list[str] = []
    megabytes = 0
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        folders = [Path(shutil.copytree(path, Path(scratch) / name)) for name in ("told", "untold")]
        _silence(folders[1])
        first = 0
        while first < count:
            stop, log = min(first + _SHARE, count), Path(scratch) / "log"
            child = os.fork()
            if child == 0:
                _try(folders, range(first, stop), seed, log)
            _, status, usage = os.wait4(child, 0)
            megabytes = max(megabytes, usage.ru_maxrss // 1024)
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            codes.update(str(line["code"]) for line in lines)
            failures += [line["failure"] for line in lines if line["failure"]]
            if usage.ru_maxrss // 1024 > _MEGABYTES:
                failures.append(f"manifests {first} to {stop}: {usage.ru_maxrss // 1024:,} MB")
            first += len(lines)
            if first < stop:
                failures.append(f"manifest {first}: the process ended with {os.waitstatus_to_exitcode(status)}")
                first += 1
            log.unlink()
    return {"codes": dict(codes), "megabytes": megabytes, "failures": failures[:20]}


def _silence(folder: Path) -> None:
    """Take from a bundle's step what it says about itself."""
    import onnx

    step = onnx.load(folder / STEP)
    del step.metadata_props[:]
    content = step.SerializeToString(deterministic=True)
    (folder / STEP).write_bytes(content)
    facts = json.loads((folder / MANIFEST).read_text())
    facts["files"][STEP] = sha256(content)
    text = resealed(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    (folder / MANIFEST).write_text(identified(text, content))
    Bundle.load(folder)


def _try(folders: list[Path], numbers: range, seed: int, log: Path) -> NoReturn:
    """Try some manifests in this process and end it; a line for each is written when it is over."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a machine with less would end other programs
        good = [(folder / MANIFEST).read_text() for folder in folders]
        with log.open("w") as lines:
            for number in numbers:
                rng = np.random.default_rng([seed, number])
                folder, kind = folders[number % 2], list(ALTERATIONS)[number // 2 % len(ALTERATIONS)]
                text = ALTERATIONS[kind](good[number % 2], rng)
                if isinstance(text, str):
                    text = identified(resealed(text), (folder / STEP).read_bytes())
                    text = text.encode("utf-8", "surrogatepass")
                (folder / MANIFEST).write_bytes(text)
                signal.setitimer(signal.ITIMER_PROF, _SECONDS)
                signal.alarm(_WAITING_S)
                found, failure = outcome(folder)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
                (folder / MANIFEST).write_text(good[number % 2])
                lines.write(json.dumps({"code": found, "failure": failure and f"{number}, {kind}: {failure}"}) + "\n")
                lines.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def outcome(folder: Path) -> tuple[int, str]:
    """Return the exit code of ``stunet verify``, and what is wrong with it or with what follows; empty if nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = stunet(["verify", str(folder)])
    except BaseException as error:
        return 99, f"{type(error).__name__}: {error}"[:500]
    text = said.getvalue()
    if code == 2 and not all(f"\n{clause}" in f"\n{text}" for clause in ("error:", "expected:", "to do:")):
        return code, f"not three clauses: {text[-300:]}"
    if code not in (0, 1, 2) or "Traceback" in text or len(text) > 5000:
        return code, f"exit code {code}, {len(text):,} characters: {text[-300:]}"
    return code, _trouble(folder) if code == 0 else ""


def _trouble(folder: Path) -> str:
    """Return what a bundle that has verified is not good for; empty if nothing."""
    try:
        bundle = Bundle.load(folder)
        manifest = bundle.manifest
        json.dumps([inspect(bundle), network(manifest)], allow_nan=False)
        explain(bundle)
        Assembler(manifest, grace_s=10)
        with contextlib.closing(Stream.open(bundle)) as stream:
            stream.watch = DriftWatch(manifest)
            low, high = np.array(manifest.limits).T
            start = START_S - START_S % manifest.interval_s + manifest.phase_s
            for step in range(2):
                values = np.random.default_rng(step).uniform(low, high, (len(manifest.sensor_ids), len(low)))
                forecast = stream.push(values, start + step * manifest.interval_s)
                json.loads(forecast.to_json_line())
                _ = forecast.valid_at
    except Exception:
        return "verified, but then " + traceback.format_exc()[-400:]
    return ""


if __name__ == "__main__":
    json.dump(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
