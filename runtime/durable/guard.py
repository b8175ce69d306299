"""A guard against an input that kills the process: journaled before it is run, it would kill every start."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from runtime.durable.journal import Input, decode, encode
from stunet_deploy.errors import DataError
from stunet_deploy.files import create_file, read_file

#: Starts that may end at one interval of the journal before it is set aside.
STARTS = 3
ASIDE = ".aside"


class Guard:
    """Notes which interval of the journal a start is about to run; one that has ended enough starts is set aside.

    The note survives the death of the process. If it cannot be written nothing is set aside.

    Args:
        folder: of a durable stream.
        shape: [node, feature] of its intervals.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self._folder = folder
        self._note = folder / "replaying"
        self._ended: list[int] = []  # journal, entry and starts that ended there
        with suppress(OSError, ValueError):
            self._ended = [int(number) for number in read_file(self._note, 100).split()]
        self._aside: set[bytes] = set()
        for path in folder.glob(f"*{ASIDE}"):
            with suppress(OSError, DataError):
                self._aside.add(_key(decode(read_file(path, 1 << 28), shape)))

    def passes(self, journal: int, entry: int, interval: Input) -> bool:
        """Note that an interval is about to be run; return False if that has ended too many starts, now or before."""
        if self.knows(interval):
            return False
        starts = self._ended[2] if self._ended[:2] == [journal, entry] and len(self._ended) == 3 else 0
        if starts < STARTS:
            with suppress(OSError), open(create_file(self._note), "w", encoding="ascii") as note:
                note.write(f"{journal} {entry} {starts + 1}")
        return starts < STARTS

    def set_aside(self, journal: int, entry: int, record: bytes, interval: Input) -> Path:
        """Keep an interval in a file of its own, to be looked at; it is not taken again. Return the file."""
        path = self._folder / f"{journal:08}.{entry}{ASIDE}"
        with suppress(OSError), open(create_file(path), "wb") as file:
            file.write(record)
        self._aside.add(_key(interval))
        return path

    def knows(self, interval: Input) -> bool:
        """Return whether an interval has been set aside."""
        return bool(self._aside) and _key(interval) in self._aside

    def over(self) -> None:
        """Note that the start has run all intervals."""
        with suppress(OSError):
            self._note.unlink(missing_ok=True)


def _key(entry: object) -> bytes:
    """Return the bytes by which an interval is recognised, whether or not it restarted the stream."""
    return encode(entry._replace(restart=False)) if isinstance(entry, Input) else b""
