"""Reading files that are files, writing them whole (to a temporary name in the same folder, then renamed), hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from stunet_deploy.errors import DataError, StunetError
from stunet_deploy.limits import LONGEST_LINE


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to be read.

    Raises:
        OSError: it cannot be, or is a pipe or a device, at which a reader may wait for ever.
    """
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "a pipe or a device and no file", os.fspath(path))
    return Path(path).open("rb")


def read_file(path: str | Path, most: int) -> bytes:
    """Return the content of a file.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no file, or is larger.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 20} MB", os.fspath(path))
        return file.read()


def create_file(path: str | Path) -> int:
    """Return the descriptor of a file that begins anew, to be written.

    Raises:
        OSError: it cannot be, or somebody has put a link, a pipe or a device there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o644)


def lines_of(file: TextIO, name: str) -> Iterator[str]:
    """Yield the lines of a text, their ends included.

    Args:
        file: open where they begin, line ends as they are.
        name: of it, for messages.

    Raises:
        DataError: a line is longer than any table's.
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{name} with a line of {LONGEST_LINE:,} characters or more",
                "rows that end",
                "make sure that it is a text table; turn rows and columns round if its columns are times",
            )
        yield line


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path whose file takes the place of ``path`` when the block ends, or nothing if it fails.

    Raises:
        StunetError: if the folder does not exist, is read-only or full; ``path`` is then as it was before.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):  # left by a process of this number, or put there as a link to write through
            temporary.unlink()
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise StunetError(
            f"{target} cannot be written ({error.strerror or error})",
            "a folder that exists, with write permission and enough space",
            "choose another place or free some space",
        ) from error
    finally:
        with suppress(OSError):  # where the folder is none there is no file either
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Sync a folder's files and its list of names to the disk, so that a power cut after a rename loses nothing.

    Raises:
        OSError: if the disk refuses.
    """
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
    sync_names(folder)


def sync_names(folder: str | Path) -> None:
    """Sync a folder's list of names to the disk, so that a power cut does not undo a rename.

    Raises:
        OSError: if the disk refuses.
    """
    if os.name == "posix":  # elsewhere a folder cannot be opened
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
