"""64-bit ARM: does a bundle prove itself there, and does a service forecast the same?

    make arm64                                       # or python -m benchmarks.field.arm64 [--bundle model.bundle]

Debian's Python for ARM and the wheels that a Jetson gets from PyPI run here under emulation (QEMU, user mode): the
kernels of numpy and ONNX Runtime are those of the ARM builds, their speed is not. Once as on JetPack 6, whose Python
3.10 gets older releases of both, on a processor as old as Orin's; once with the releases of today on the newest that
QEMU has. Each replays the golden stream (`stunet verify`) and runs a service on standard input, whose forecasts are
compared with this machine's. Python itself is Debian's, not JetPack's 3.10 or 3.12.

Needs `qemu-aarch64-static` and `mmdebstrap`, and a network for the first run, which keeps what it fetches in `.arm64`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.live import config_text
from benchmarks.faults.network import START_S, message_of, small_bundle, values_of
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, number, page, table
from benchmarks.harness.workbench import ROOT
from runtime.timing import installed_version
from stunet_deploy.bundle import Bundle
from stunet_deploy.compare import json_number
from stunet_deploy.errors import BackendError, ConfigError
from stunet_deploy.precisions import FLOAT32

Array = NDArray[np.float64]
KEPT = ROOT / ".arm64"
RELEASE, PACKAGES = "bookworm", ("python3-minimal", "libpython3-stdlib", "libstdc++6")
DEBIAN = ("mmdebstrap", "--variant=extract", "--architectures=arm64")  # unpacked, and nothing of it run
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
EMULATOR = "qemu-aarch64-static"
#: Of a board, as the page names them.
VERSIONS = {"processor": "processor", "Python": "python", "numpy": "numpy", "onnxruntime": "onnxruntime"}
#: Command and package that has it.
NEEDED = {EMULATOR: "qemu-user-static", "mmdebstrap": "mmdebstrap"}
#: ONNX Runtime reads the processors' parts here, and crashes on a file of x86; this is Orin's.
CPUINFO = "".join(
    f"processor\t: {core}\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\nCPU revision\t: 1\n\n"
    for core in range(2)
)


@dataclass(frozen=True)
class Board:
    """What stands for a board.

    Attributes:
        name: for the table.
        processor: as QEMU calls it.
        numpy, onnxruntime: releases; those of this machine by default.
    """

    name: str
    processor: str
    numpy: str = installed_version("numpy") or ""
    onnxruntime: str = installed_version("onnxruntime") or ""


BOARDS = (Board("as on JetPack 6 (Orin)", "cortex-a76", "2.2.6", "1.23.2"), Board("releases of today", "max"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify and serve on each board, write the page, and return 1 if anything is wrong."""
    command = Command("benchmarks.field.arm64", __doc__)
    command.option("--bundle", None, "what to verify; a small untrained model by default", kind=Path)
    command.option("--intervals", 288, "that the service forecasts from", quick=20)
    _, result = command.run(measure, report, arguments)
    return int(not all(found["right"] for found in result["found"]))


def measure(options: Namespace) -> dict[str, Any]:
    """Verify a bundle on each board, and let a service run it.

    Raises:
        ConfigError: if a command is missing, or something cannot be fetched.
    """
    missing = [package for command, package in NEEDED.items() if shutil.which(command) is None]
    if missing:
        raise ConfigError(
            f"no {' and no '.join(missing)}", "the emulator, and what fetches Debian for ARM",
            f"apt-get install {' '.join(missing)}",
        )  # fmt: skip
    root = _kept("root", lambda folder: [*DEBIAN, f"--include={','.join(PACKAGES)}", RELEASE, str(folder)])
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(CPUINFO)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = (options.bundle or small_bundle(folder)).resolve()
        bundle = Bundle.load(path)
        lines = _lines(bundle, options.intervals)
        expected = _forecasts(bundle, folder, [sys.executable], {}, lines)
        near = 2 * np.array(bundle.manifest.tolerance_of(FLOAT32))[:, None, None]  # each may be off, to either side
        found = []
        for board in BOARDS:
            run, environment = _python(board, root)
            verified = [_verified(bundle, precision, run, environment) for precision in bundle.manifest.precisions]
            forecasts = _forecasts(bundle, folder, run, environment, lines)
            apart = np.abs(forecasts - expected) if forecasts.shape == expected.shape else np.array(np.inf)
            about = {
                "python": _run([*run, "-V"], environment).stdout.split()[1],
                "verified": verified,
                "forecasts": len(forecasts),
                "apart": json_number(float(apart.max())),
                "right": all(one["passed"] for one in verified) and bool((apart <= near).all()),
            }
            found.append(asdict(board) | about)
    return {"found": found}


def report(result: dict[str, Any]) -> str:
    """Return the page: a row for each board and precision."""
    rows = []
    for board in result["found"]:
        versions = ", ".join(f"{name} {board[key]}" for name, key in VERSIONS.items())
        service = [f"{board['forecasts']:,}", number(board["apart"], ".2e")]
        for one in board["verified"]:
            off = [number(one[key], ".2e") for key in ("max_abs_error", "tolerance")]
            verified = "yes" if one["passed"] else "no"
            rows.append([board["name"], versions, one["precision"], verified, *off, *service])
            service = ["", ""]
    return page(
        "64-bit ARM",
        f"`make arm64` (`{result['command']}`) on {machine(result['environment'])} The ARM builds of numpy and ONNX "
        "Runtime under emulation (QEMU, user mode), with Debian's Python: what they compute, not how fast.",
        table(
            ["board", "processor and versions", "precision", "verified", "largest error", "tolerance",
             "forecasts of a service", "from this machine's at most"],
            rows,
        ),
    )  # fmt: skip


def _kept(name: str, fetch: Callable[[Path], list[str]]) -> Path:
    """Return a folder that a command has filled, now or before.

    Raises:
        ConfigError: if it cannot be filled.
    """
    folder, part = KEPT / name, KEPT / f"{name}.part"
    if not folder.is_dir():
        KEPT.mkdir(exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        done = subprocess.run(fetch(part), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(f"{name}: {done.stderr.strip()[-500:]}", "what is fetched once", "look at the network")
        part.rename(folder)
    return folder


def _python(board: Board, root: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of Python on a board, and its environment."""
    wheels = [f"numpy=={board.numpy}", f"onnxruntime=={board.onnxruntime}", "tzdata"]
    interpreter = next((root / "usr" / "bin").glob("python3.[0-9]*"))
    version = interpreter.name.removeprefix("python")
    options = ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *options]
    site = _kept(f"numpy-{board.numpy}-onnxruntime-{board.onnxruntime}", lambda to: [*pip, f"--target={to}", *wheels])
    run = [EMULATOR, "-cpu", board.processor, "-L", str(root), str(interpreter)]
    return run, {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "PYTHONDONTWRITEBYTECODE": "1"}


def _run(command: list[str], environment: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command from the repository."""
    own = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=own, input=text, capture_output=True, text=True, check=False)


def _verified(bundle: Bundle, precision: str, run: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Return what `stunet verify` says.

    Raises:
        BackendError: if it breaks off.
    """
    verify = ["-m", "stunet_deploy", "verify", str(bundle.path), "--precision", precision, "--json"]
    done = _run([*run, *verify], environment)
    if done.returncode not in (0, 1):
        raise BackendError(f"exit code {done.returncode}: {done.stderr[-500:]}", "a verification", "look at its output")
    said: dict[str, Any] = json.loads(done.stdout)
    return {
        name: said[name]
        for name in ("precision", "passed", "intervals", "max_abs_error", "mean_abs_error", "tolerance")
    }


def _lines(bundle: Bundle, intervals: int) -> str:
    """Return so many intervals as lines of JSON."""
    manifest = bundle.manifest
    rows = ((START_S + manifest.interval_s * step, values_of(manifest, step)) for step in range(intervals))
    said = (message_of(manifest, stamp, values) for stamp, values in rows if values is not None)
    return "".join(json.dumps(message) + "\n" for message in said)


def _forecasts(bundle: Bundle, folder: Path, run: list[str], environment: dict[str, str], lines: str) -> Array:
    """Return what a service forecasts from lines on standard input: [interval, target, horizon, sensor].

    Raises:
        BackendError: if it breaks off.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        config = Path(own) / "service.toml"
        config.write_text(config_text(bundle, 'kind = "stdin"\nclock = "messages"', ['kind = "stdout"']))
        done = _run([*run, "-m", "stunet_deploy", "run", "--config", str(config)], environment, lines)
    if done.returncode:
        raise BackendError(f"exit code {done.returncode}: {done.stderr[-500:]}", "forecasts", "look at its output")
    said = [json.loads(line)["values"] for line in done.stdout.splitlines()]
    return np.array([[values[target] for target in bundle.manifest.targets] for values in said])


if __name__ == "__main__":
    sys.exit(main())
