"""Which layout a series file has, told from its first bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.files import open_file
from stunet_deploy.series.facts import Facts
from stunet_deploy.series.layouts.hdf5 import read_hdf5
from stunet_deploy.series.layouts.npz import read_npz
from stunet_deploy.series.layouts.packed import binary_within, kind_of_zip
from stunet_deploy.series.layouts.parquet import read_parquet
from stunet_deploy.series.layouts.several import one_of, sorted_out, unpacked
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.series.layouts.text import read_csv
from stunet_deploy.series.layouts.xlsx import read_xlsx

SERIES_KINDS = "a CSV, Parquet or Excel table, an npz of a known layout, or an HDF5 file written by pandas"
"""The layouts that `read_table` reads, in the words of its error messages."""


def read_table(path: Path, facts: Facts) -> FileTable:
    """Read any known series file, telling the layout from its first bytes, or several in a folder or a zip archive.

    Args:
        path: of the file or folder.
        facts: by which its readings are named.

    Raises:
        DataError: the file is missing, damaged, or of no known layout; files of a folder are not of one recording; or
            the facts contradict a file.
    """
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, hence unobserved
        if not are_several(path):
            return facts.named(_read(path, read_head(path)))
        with unpacked(path) as folder:
            name = path.resolve().name
            files, left = sorted_out(folder, name)
            return one_of(name, [facts.named(_read_of_several(file)) for file in files], left)


def are_several(path: Path) -> bool:
    """Return whether a path is a folder, or an archive of several files."""
    return path.is_dir() or (read_head(path).startswith(b"PK") and kind_of_zip(path) == "several")


def _read_of_several(path: Path) -> FileTable:
    try:
        return _read(path, read_head(path))
    except DataError as error:
        action = f"{error.action}; if it is no recording, move it elsewhere"
        raise DataError(error.came, error.expected, action) from error


def read_head(path: Path) -> bytes:
    """Return the first bytes of a data file, by which kinds of files are told apart.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open_file(path) as file:
            return file.read(8)
    except OSError as error:
        raise DataError(f"{path}, which cannot be read ({error.strerror})", "a data file", "check the path") from error


def _read(path: Path, head: bytes, *, within: bool = False) -> FileTable:
    if not within and (head.startswith(b"\x1f\x8b") or (head.startswith(b"PK") and kind_of_zip(path) == "text")):
        with binary_within(path) as inside:
            if inside is not None:
                return _read(inside, read_head(inside), within=True)
    if head.startswith(b"PK") and (kind := kind_of_zip(path)) in ("npz", "workbook"):
        return read_npz(path) if kind == "npz" else read_xlsx(path)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(
            f"{path.name}, an Excel file of before 2007 (.xls), or one with a password",
            "an Excel workbook (.xlsx) without a password",
            "save it as .xlsx, or the sheet as CSV in UTF-8",
        )
    if head.startswith(b"\x89HDF"):
        return read_hdf5(path)
    if head.startswith(b"PAR1"):
        return read_parquet(path)
    if head.startswith(b"\x93NUMPY"):
        raise DataError(
            f"{path.name}, a bare npy array without times or sensor ids",
            SERIES_KINDS,
            "write a CSV with a time column and a header of sensor ids; a matrix of weights belongs to --graph",
        )
    if head.startswith(b"\x80") or path.suffix in (".pkl", ".pickle"):
        raise DataError(
            f"{path.name}, a pickle, which can run code when it is opened",
            SERIES_KINDS,
            "give the readings in another format; the graph's adj_mx.pkl belongs to --graph",
        )
    return read_csv(path)
