"""Damage: one bit, a cut or bytes too many in every file that a stream or a bundle lives by.

Positions are drawn from three zones: the first kilobyte (or third), the last, and what lies between. Damage must be
detected, whatever it hits:

* a snapshot is refused by its reader, and a start from its folder uses the older one and both journals: it says so, and
  is where the stream was, to the last bit;
* after damage to a journal a start says so, and is where the stream was after some of its intervals, never anywhere
  else; where intervals are missing it calls that a loss, unless the file just ends early, as a crash leaves it;
* a file of a bundle is refused when the bundle is loaded or verified, which is what ``stunet verify`` and the change to
  a new bundle begin with.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.faults.network import START_S, in_memory, readings_of
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from runtime.durable.recovery import JOURNAL, SNAPSHOT
from runtime.durable.stream import DurableStream
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BundleError, DataError

_EVERY, _INTERVALS = 6, 16  # two snapshots, and four intervals in the newest journal
_COMMANDS = 3  # files of each kind that are also given to the program


def damage(bundle: Bundle, copies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Damage so many copies of each file by one bit, and a tenth as many by a cut or further bytes."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        stream = _Stream(bundle, Path(scratch))
        for suffix, check in ((SNAPSHOT, stream.after_snapshot), (JOURNAL, stream.after_journal)):
            path = max((stream.folder).glob(f"*{suffix}"))
            yield _row(f"of a {suffix[1:]}", path, copies, rng, check)
        stream.close()
        for name in ("manifest.json", *sorted(bundle.manifest.files)):
            copy = Path(scratch) / "bundle"
            shutil.copytree(bundle.path, copy)
            yield _row(f"of {name} in a bundle", copy / name, copies, rng, lambda *_: _bundle_failure(copy))  # noqa: B023
            shutil.rmtree(copy)


def flipped(whole: bytes, number: int, rng: np.random.Generator) -> bytes:
    """Return a copy with one bit changed, in the zone that it is the turn of."""
    edge = min(1000, len(whole) // 3)
    zones = ((0, edge), (edge, len(whole) - edge), (len(whole) - edge, len(whole)))
    damaged = bytearray(whole)
    damaged[int(rng.integers(*zones[number % 3]))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut_or_longer(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy that ends early, or that further bytes follow: zeros, as a power cut leaves them, or any."""
    kind, length = int(rng.integers(3)), int(rng.integers(1, 600))
    if kind == 0:
        return whole[: int(rng.integers(len(whole)))]
    return whole + (bytes(length) if kind == 1 else rng.integers(0, 256, length, np.uint8).tobytes())


def _row(
    name: str, path: Path, copies: int, rng: np.random.Generator, check: Callable[[bytes, bytes, bool], str | None]
) -> Row:
    """Return the row of a file, damaged in its place and whole again afterwards."""
    whole, failures = path.read_bytes(), []
    other = max(1, copies // 10)
    for number in range(copies + other):
        flip = number < copies
        damaged = flipped(whole, number, rng) if flip else cut_or_longer(whole, rng)
        path.write_bytes(damaged)
        failure = check(damaged, whole, flip)
        if failure is None and path.parent.name == "bundle" and number in range(copies - _COMMANDS, copies):
            failure = _command_failure(path.parent)
        if failure is not None:
            place = next((i for i, (a, b) in enumerate(zip(damaged, whole, strict=False)) if a != b), len(damaged))
            failures.append(f"byte {place} of {len(whole)}, {len(damaged)} long: {failure}")
    path.write_bytes(whole)
    return Row(f"one bit {name}", copies, failures, f"{len(whole):,} bytes; and {other} cut or followed by more")


class _Stream:
    """A durable stream that has died, and all that it has ever been: by pushes, the state and the last forecast."""

    def __init__(self, bundle: Bundle, scratch: Path) -> None:
        self.folder = scratch / "dead"
        self._scratch = scratch
        self._bundle = bundle
        self._been: dict[int, tuple[bytes, ...]] = {}
        alive = scratch / "alive"
        durable = DurableStream(Stream.open(bundle), alive, every=_EVERY)
        for step in range(_INTERVALS):
            durable.push(readings_of(bundle.manifest, step), START_S + bundle.manifest.interval_s * step)
            self._been[step + 1] = _bits(durable.stream)
        shutil.copytree(alive, self.folder)
        durable.close()
        self._again = Stream.open(bundle)  # opened once: recovery begins from a fresh state
        self._fresh = self._again.snapshot()

    def after_snapshot(self, damaged: bytes, whole: bytes, flip: bool) -> str | None:
        """Return what is wrong with reading a damaged snapshot, and with a start from its folder."""
        try:
            Snapshot.from_bytes(damaged)
            return "read without a word"
        except DataError:
            pass
        pushes, said, lossy, bits = self._start()
        if not said or lossy:
            return f"said {said}, lossy is {lossy}"
        return None if pushes == _INTERVALS and bits == self._been[pushes] else "not where the stream was"

    def after_journal(self, damaged: bytes, whole: bytes, flip: bool) -> str | None:
        """Return what is wrong with a start from a folder with a damaged journal."""
        pushes, said, lossy, bits = self._start()
        if bits != self._been.get(pushes):
            return f"after {pushes} intervals, but not where the stream was then"
        if whole.startswith(damaged):
            # Cut between two records nothing can tell it from a journal that was not written any further.
            return None
        if not said:
            return "not a word"
        if pushes < _INTERVALS and not lossy:
            return f"{_INTERVALS - pushes} intervals lost, and not called a loss: {said}"
        return None

    def close(self) -> None:
        """Let go of the stream."""
        self._again.close()

    def _start(self) -> tuple[int, list[str], bool, tuple[bytes, ...]]:
        """Start from a copy of the folder; return pushes, what was said, whether it was a loss, and the state."""
        copy = self._scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy)
        self._again.reset()
        self._again.restore(self._fresh)
        durable = DurableStream(self._again, copy, every=_EVERY)
        found = durable.recovery
        bits, pushes = _bits(self._again), self._again.counters.pushes
        durable.close()
        return pushes, found.notes, found.lossy, bits


def _bits(stream: Stream) -> tuple[bytes, ...]:
    last = b"" if stream.last is None else stream.last.values.tobytes()
    return (*(line.tobytes() for line in stream.read_lines().values()), last)


def _bundle_failure(folder: Path) -> str | None:
    """Return what is wrong if a damaged bundle is taken for a whole one."""
    try:
        Bundle.load(folder).check_files()
    except BundleError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded and compared without a word"


def _command_failure(folder: Path) -> str | None:
    command = [sys.executable, "-m", "stunet_deploy", "verify", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 2 and "Traceback" not in done.stderr:
        return None
    return f"stunet verify: exit code {done.returncode}, {done.stderr[-300:]}"
