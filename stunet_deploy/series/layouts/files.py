"""Which layout a series file has, told from its first bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.files import open_file
from stunet_deploy.series.layouts.hdf5 import read_hdf5
from stunet_deploy.series.layouts.npz import read_npz
from stunet_deploy.series.layouts.packed import is_npz
from stunet_deploy.series.layouts.parquet import read_parquet
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.series.layouts.text import read_csv

SERIES_KINDS = "a CSV or Parquet table, an npz of a known layout, or an HDF5 file written by pandas"
"""The layouts that `read_table` reads, in the words of its error messages."""


def read_table(path: Path) -> FileTable:
    """Read any known series file, telling the layout from its first bytes.

    Raises:
        DataError: the file is missing, damaged, or of no known layout.
    """
    head = read_head(path)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, hence unobserved
        return _read(path, head)


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


def _read(path: Path, head: bytes) -> FileTable:
    if head.startswith(b"PK") and is_npz(path):
        return read_npz(path)
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
