"""The text of a data file: in UTF-8 or UTF-16, plain, compressed by gzip, or the only file of a zip archive."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal, TextIO, cast

from stunet_deploy.errors import DataError
from stunet_deploy.files import open_file
from stunet_deploy.limits import check_unpacked

_BINARY = {b"PK": "a zip archive", b"\x89HDF": "an HDF5 file", b"PAR1": "a Parquet file", b"\x93NUMPY": "an npy array"}


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open the text of a file, seekable, line ends as they are.

    Raises:
        DataError: damaged, or no text in one of these encodings.
    """
    try:
        with _telling_of_damage(path), _unpacked(path) as file:
            head = file.read(8)
            file.seek(0)
            for begin, what in _BINARY.items():
                if head.startswith(begin):
                    raise DataError(f"{path.name}, {what} within another", "one of the two", "unpack it")
            encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
            yield io.TextIOWrapper(file, encoding, newline="")
    except UnicodeError as error:
        raise DataError(
            f"{path.name}, which is no UTF-8 text table ({error})",
            "a CSV, Parquet, npz or HDF5 file",
            "export the readings as CSV in UTF-8",
        ) from error


@contextmanager
def binary_within(path: Path) -> Iterator[Path | None]:
    """Yield a copy of the binary file in a gzip or a zip archive of one; None where there is text in it, or no archive.

    Raises:
        DataError: damaged, or unpacks to far more than it is.
    """
    with TemporaryDirectory() as folder:
        with _telling_of_damage(path), _unpacked(path) as file:
            inside = Path(folder) / path.stem if file.peek(8).startswith(tuple(_BINARY)) else None
            if inside is not None and isinstance(file.raw, _Metered):
                with inside.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
            else:
                inside = None
        yield inside


@contextmanager
def _telling_of_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path.name}, a damaged or locked archive ({error})", "a whole file", "copy it again, or unpack it"
        ) from error


class _Metered(io.RawIOBase):
    """What an archive unpacks to, refused where it is far more than the archive."""

    def __init__(self, file: IO[bytes], name: str, packed: int) -> None:
        self._file, self._name, self._packed, self._unpacked = file, name, packed, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._unpacked = self._file.seek(offset, whence)
        return self._unpacked

    def tell(self) -> int:
        return self._unpacked

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._unpacked += len(part)
        check_unpacked(self._name, self._packed, self._unpacked, text=True)
        return len(part)


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(2)
        file.seek(0)
        if head == b"\x1f\x8b":
            with gzip.open(file) as unpacked:
                yield io.BufferedReader(_Metered(cast("IO[bytes]", unpacked), path.name, size))
        elif head == b"PK":
            with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, path.name)) as unpacked:
                yield io.BufferedReader(_Metered(unpacked, path.name, size))
        else:
            yield cast("io.BufferedReader", file)


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = files_in(archive.namelist())
    if len(members) != 1:
        raise DataError(
            f"{name} with {len(members)} files ({', '.join(members[:3])})",
            "an archive of one table",
            "unpack it, and give one of them, or the folder",
        )
    return members[0]


def kind_of_zip(path: Path) -> Literal["npz", "workbook", "text", "several"]:
    """Return what a zip archive is: arrays of numpy, an Excel workbook, one text, or several files.

    One that is too damaged to hold a table is said to be arrays, whose reader says what is wrong with it.

    Raises:
        DataError: a document of another office program.
    """
    try:
        members = zipfile.ZipFile(path).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return "npz"
    if "xl/workbook.xml" in members:
        return "workbook"
    if "[Content_Types].xml" in members or "META-INF/manifest.xml" in members:
        raise DataError(
            f"{path.name}, a document of an office program",
            "an Excel workbook (.xlsx), a CSV or a Parquet table",
            "save the sheet of readings as .xlsx, or as CSV in UTF-8",
        )
    if not members or any(member.endswith(".npy") for member in members):
        return "npz"
    return "text" if len(files_in(members)) == 1 else "several"


def files_in(members: list[str]) -> list[str]:
    """Return the members of an archive that somebody put there: no folders, nor what a Mac adds."""
    return [member for member in members if not member.endswith("/") and not member.startswith("__MACOSX")]
