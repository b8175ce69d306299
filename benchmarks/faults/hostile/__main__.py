"""Hostile files: those that claim more than they hold, unpack to more than they are, or are none.

    python -m benchmarks.faults.hostile [--only WORDS ...]

Each is given to the ``stunet`` command that a user would give it to. One that is wrong ends with exit code 2 and three
clauses, one with which nothing is wrong is read; both within a minute of the processor and 2 GB. Every command runs in
a process of its own that has the packages loaded, so that the times are those of the files. Writes the page "hostile"
and returns 1 if anything failed.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.faults.hostile import arrays, folders, graphs, models, stores, texts
from benchmarks.faults.hostile.kinds import SECRET, Kind, Place
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, page, table
from stunet_deploy.cli import main as stunet
from stunet_deploy.files import sha256

KINDS = (*texts.KINDS, *arrays.KINDS, *stores.KINDS, *models.KINDS, *graphs.KINDS, *folders.KINDS)
#: What a file may take of the processor and of memory, and characters that may be said about it.
SECONDS, MEGABYTES, LONGEST = 60, 2000, 5000
#: After so long it waits for something that does not come.
_WAITING_S = 240
_LOADED = ("onnxruntime", "stunet_deploy.checkpoint", "stunet_deploy.data_files", "training.run", "runtime.verify")


def main(arguments: Sequence[str] | None = None) -> int:
    """Give every file to its command, write the page, and return 1 if anything failed."""
    command = Command("benchmarks.faults.hostile", __doc__)
    command.option("--only", ("",), "kinds with these words in their names")
    _, result = command.run(measure, report, arguments)
    return int(any(row["failure"] for row in result["rows"]))


def measure(options: Namespace) -> dict[str, Any]:
    """Run every kind."""
    for name in _LOADED:
        import_module(name)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        good = Path(scratch) / "good"
        good.mkdir()
        models.good_files(good)
        for kind in KINDS:
            if any(words in kind.name for words in options.only):
                folder = Path(scratch) / "kind"
                folder.mkdir()
                rows.append(outcome(kind, Place(folder, good, not options.quick)))
                shutil.rmtree(folder)
                print(*rows[-1].values(), sep=" | ", flush=True)
    return {"rows": rows}


def outcome(kind: Kind, place: Place) -> dict[str, Any]:
    """Write the file of a kind and give it to its command; return what came of it."""
    sys.stdout.flush()
    writer = os.fork()  # what writing takes is not to be counted
    if writer == 0:
        _write(kind, place)
    os.waitpid(writer, 0)
    words, said = (place.folder / "words").read_text().split("\n"), place.folder / "said"
    child = os.fork()
    if child == 0:
        _become(words, said)
    _, status, usage = os.wait4(child, 0)
    text = said.read_text(encoding="utf-8", errors="replace")
    found: dict[str, Any] = {
        "seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "megabytes": round(usage.ru_maxrss / 1024),
        "code": os.waitstatus_to_exitcode(status),
    }
    text = text.replace(str(place.folder), "").strip()
    return {"kind": kind.name, **found, "failure": _failure(kind, text, **found), "said": text[-600:]}


def _write(kind: Kind, place: Place) -> NoReturn:
    try:
        words = kind.make(place)
        (place.folder / "words").write_text("\n".join(words))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _become(words: Sequence[str], said: Path) -> NoReturn:
    """Run a command in this process and end it; a signal ends it where it waits."""
    code = 99
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT)
        for number in (1, 2):
            os.dup2(output, number)
        signal.alarm(_WAITING_S)
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a machine with less would end other programs
        code = stunet(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _failure(kind: Kind, said: str, seconds: float, megabytes: int, code: int) -> str:
    """Return what is wrong with an outcome; nothing if it is as it should be."""
    if seconds > SECONDS or megabytes > MEGABYTES:
        return f"more than {SECONDS} s or {MEGABYTES} MB"
    return failure_of(kind, said, code)


def failure_of(kind: Kind, said: str, code: int) -> str:
    """Return what is wrong with an exit code and with what was said; nothing if both are as they should be."""
    if code != (0 if kind.read else 2):
        return f"exit code {code}"
    if not kind.read and not all(f"\n{clause}" in f"\n{said}" for clause in ("error:", "expected:", "to do:")):
        return "not three clauses"
    if leaked(said):
        return "something of a foreign file came out"
    if "Traceback" in said or len(said) > LONGEST:
        return f"{len(said):,} characters said"
    return ""


def leaked(said: str) -> bool:
    """Return whether what was said has something of a foreign file, or of the hash of one."""
    known = (SECRET.encode(), Path("/etc/passwd").read_bytes())
    return any(word in said for content in known for word in (content.decode()[:12], sha256(content)[:6]))


def report(result: dict[str, Any]) -> str:
    """Return the page."""
    rows = []
    for row in result["rows"]:
        said = row["said"].partition("error:")[2].partition("\nexpected:")[0].strip().replace("|", "/")
        came = "read" if row["code"] == 0 else said if len(said) < 160 else f"{said[:160]}…"
        rows.append([row["kind"], row["seconds"], row["megabytes"], row["failure"] or came])
    least = min(row["megabytes"] for row in result["rows"])
    failed = sum(bool(row["failure"]) for row in result["rows"])
    return page(
        "Hostile files",
        f"`{result['command']}` on {machine(result['environment'])} What each file is, is said in the modules of "
        f"`benchmarks/faults/hostile`. The packages that are loaded take {least} MB of each.",
        f"{len(rows)} kinds, {failed} of them not refused (or read) within {SECONDS} s and {MEGABYTES:,} MB.",
        table(["file", "CPU s", "peak MB", "what was said"], rows),
    )


if __name__ == "__main__":
    sys.exit(main())
