"""A trial: a new bundle opened and verified in a process of its own, which may hang, crash or take all memory.

The running service survives whatever a model does there, and can cut it off at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from runtime.service.config import StreamConfig
from runtime.service.serving import load_bundle, make_assembler, open_stream
from runtime.verify import verify
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import BundleError, StunetError
from stunet_deploy.manifest import Manifest

#: ``-m`` would look into the current folder first, whoever may write there.
_COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from runtime.service.trial import main; main()"
_LOOK_S = 0.05


@dataclass(frozen=True)
class Limits:
    """What a trial may take before it is given up.

    Attributes:
        seconds: from the start of its process on. A thousand intervals of the largest network take some minutes.
        bytes: of memory in use; enforced where the system has /proc.
    """

    seconds: float = 1800.0
    bytes: int = 4 << 30


class CutOffError(Exception):
    """The service stops, and with it what was being prepared."""


def try_out(
    config: StreamConfig,
    stopped: threading.Event,
    *,
    trust: Sequence[Path] | None,
    manifest: Manifest | None = None,
    limits: Limits,
) -> None:
    """Open the stream of a config without a state, in a process of its own.

    Args:
        config: of the stream.
        stopped: set when the service stops.
        trust: see :func:`runtime.service.serving.load_bundle`.
        manifest: what its bundle must have; the golden stream is replayed then, as ``stunet verify`` does.
        limits: after which the process is ended.

    Raises:
        StunetError: if the stream cannot be opened or does not verify, or the process takes too much or crashes.
        CutOffError: if the service stops.
    """
    question = {
        "parent": os.getpid(),
        "config": asdict(config),
        "trust": trust,
        "manifest": None if manifest is None else manifest.to_json(),
    }
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what a model lets ONNX Runtime print could look like lines of the log
        start_new_session=True,  # Ctrl-C is for the service, which ends this process
    ) as process:
        try:
            said = _answer(process, json.dumps(question, default=str).encode(), config, stopped, limits)
        finally:
            process.kill()
    if said:
        raise BundleError(*said)


def main() -> None:
    """Be the process of a trial: a question on standard input, on standard output null or the clauses of an error."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd sends it to every process; the service ends this one
    with suppress(OSError):
        os.nice(10)  # the running streams come first
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")  # where memory runs out, it is this process that has to go
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # for libraries that print
    question = json.load(sys.stdin.buffer)
    config = from_mapping(StreamConfig, question["config"])
    trust = None if question["trust"] is None else [Path(path) for path in question["trust"]]
    threading.Thread(target=_end_with, args=(question["parent"],), daemon=True).start()
    said = None
    try:
        _try_here(config, trust, question["manifest"])
    except StunetError as error:
        said = (error.came, error.expected, error.action)
    except Exception as error:
        came = f"bundle {config.bundle}, at which the trial failed with {type(error).__name__} ({error})"
        said = (came, "one that can be opened", "look at it with 'stunet verify'")
    json.dump(said, answer)
    answer.flush()
    os._exit(0)  # without the end of an interpreter, which a thread of a library could hold up


def _try_here(config: StreamConfig, trust: Sequence[Path] | None, manifest: str | None) -> None:
    bundle = load_bundle(config, trust)
    make_assembler(config, bundle.manifest)
    if manifest is None:
        open_stream(config, bundle).close()
        return
    if bundle.manifest.to_json() != manifest:
        raise BundleError(
            f"bundle {config.bundle}, which changes while it is read", "one that stays", "copy it whole, then reload"
        )
    open_stream(config, bundle).close()
    result = verify(bundle, config.backend, precision=config.precision)
    if not result.passed:
        raise BundleError(
            f"bundle {config.bundle}, whose forecasts are off by {result.max_abs_error:.2e} here",
            f"at most {result.tolerance:g}",
            "see 'stunet verify', or export the model again",
        )


def _answer(
    process: subprocess.Popen[bytes], question: bytes, config: StreamConfig, stopped: threading.Event, limits: Limits
) -> list[str] | None:
    """Return what the process says, while nothing ends it.

    Raises:
        BundleError, CutOffError: see :func:`try_out`.
    """
    end = time.monotonic() + limits.seconds
    unasked: bytes | None = question
    while True:
        try:
            said, _ = process.communicate(unasked, timeout=_LOOK_S)
            break
        except subprocess.TimeoutExpired:
            unasked = None
            if stopped.is_set():
                raise CutOffError from None
            if time.monotonic() > end:
                _give_up(config, f"takes longer than {limits.seconds:g} s")
            if _resident(process.pid) > limits.bytes:
                _give_up(config, f"takes more than {limits.bytes / 2**20:,.0f} MB of memory")
    if stopped.is_set():
        raise CutOffError
    try:
        clauses: list[str] | None = json.loads(said)
    except ValueError:
        _give_up(config, f"ends with exit code {process.returncode} and without an answer")
    return clauses


def _give_up(config: StreamConfig, trouble: str) -> NoReturn:
    raise BundleError(
        f"bundle {config.bundle}, whose trial in a process of its own {trouble}",
        "one that is opened and verified here",
        "look at it with 'stunet verify' on a machine that serves nothing",
    )


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process has in use; 0 where that cannot be known."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _end_with(parent: int) -> None:
    """End this process when that of the service has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
