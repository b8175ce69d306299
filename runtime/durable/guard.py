"""Guards against an input that kills the process: in the journal or at the broker, it would kill every start."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from runtime.durable.journal import Input, decode, encode
from stunet_deploy.errors import DataError, StreamError
from stunet_deploy.files import create_file, read_file

#: Starts that may end at one interval of the journal before it is set aside.
STARTS = 3
#: Bytes from which a message is noted before it is read for the first time.
LARGE = 2**20
ASIDE, MESSAGE_ASIDE = ".aside", ".message"


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


class MessageGuard:
    """Notes which message is about to be read; one that has ended enough processes is set aside.

    A broker repeats, at every start, what was not acknowledged. Only large messages and repeated ones are noted. The
    note survives the death of the process. If it cannot be written nothing is set aside.

    Args:
        folder: where the note and the messages set aside lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._note = folder / "reading"
        self._reading: str | None = None
        self._ended: dict[str, int] = {}  # processes that each message has ended
        with suppress(OSError, ValueError):
            for line in read_file(self._note, LARGE).decode("ascii").splitlines():
                key, times = line.split()
                self._ended[key] = int(times)
        self._aside = {path.stem for path in folder.glob(f"*{MESSAGE_ASIDE}")}

    def check(self, message: bytes, *, again: bool) -> None:
        """Note that a message is about to be read, by a process that it may end.

        Args:
            message: as it came.
            again: whether it has come before, without having been acknowledged.

        Raises:
            StreamError: if it has ended too many processes, now or before.
        """
        noted = again or len(message) > LARGE
        if not noted and not self._aside:
            return
        key = hashlib.sha256(message).hexdigest()[:32]
        path = self._folder / f"{key}{MESSAGE_ASIDE}"
        times = self._ended.get(key, 0)
        if times >= STARTS:
            with suppress(OSError), open(create_file(path), "wb") as file:
                file.write(message)
            self._aside.add(key)
            self._end(key)
        if key in self._aside:
            raise StreamError(
                f"a message of {len(message):,} bytes that has ended the process {STARTS} times, kept as {path}",
                "a message that can be read",
                "look at the file, and report it",
                reason="deadly",
            )
        if not noted:
            return
        self._reading = key
        self._write({**self._ended, key: times + 1})

    def over(self) -> None:
        """Note that the message has been read."""
        if self._reading is not None:
            self._end(self._reading)
            self._reading = None

    def _end(self, key: str) -> None:
        self._ended.pop(key, None)
        self._write(self._ended)

    def _write(self, ended: dict[str, int]) -> None:
        with suppress(OSError):
            if ended:
                with open(create_file(self._note), "w", encoding="ascii") as note:
                    note.writelines(f"{key} {times}\n" for key, times in ended.items())
            else:
                self._note.unlink(missing_ok=True)
