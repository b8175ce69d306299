"""Read a frame that pandas wrote to HDF5, in its fixed or its table format, without pandas."""

from __future__ import annotations

import math
import re
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.array_files import load_pickle, texts
from stunet_deploy.errors import DataError
from stunet_deploy.limits import cells_of, check_cells, check_columns
from stunet_deploy.series.layouts.table import FileTable

_TICKS_PER_S = {"": 10**9, "[ns]": 10**9, "[us]": 10**6, "[ms]": 10**3, "[s]": 1}
_KEYS_SHOWN = 10
# LargeST: ca_his_raw_2019.h5 as published, sd_his_2019.h5 as its notebooks make it.
_LARGEST_NAME = re.compile(r"_his(_raw)?_\d{4}")
# As DCRNN distributes them: metr-la.h5 has the key df, pems-bay.h5 the key speed.
_DCRNN_NAME = re.compile(r"metr[-_]?la|pems[-_]?bay", re.IGNORECASE)


class _Frame(NamedTuple):
    """The part that both formats share."""

    format: str
    values: NDArray[np.float32]
    ticks: NDArray[np.int64]
    kind: str
    """Kind of the index, such as ``datetime64[ns]``."""
    has_zone: bool
    columns: tuple[str, ...]
    items: tuple[str, ...]
    """Columns of the one block of numbers."""


def read_hdf5(path: Path) -> FileTable:
    """Read metr-la.h5 (key df), pems-bay.h5 (key speed), LargeST (key t), or a frame of one's own.

    Zeros are missing, as the authors of these public files use them; in LargeST's raw files, which also hold empty
    cells, and in files of one's own a zero is a reading.

    Raises:
        DataError: h5py is missing, the file is damaged, or holds no frame of numbers over times.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path.name}, an HDF5 file", "h5py to read it", "pip install h5py") from error
    try:
        with h5py.File(path) as file:
            here = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink)]
            found = [(key, file[key]) for key in here if file.get(key, getclass=True) is h5py.Group]
            frames = {key: group for key, group in found if "block0_values" in group or "table" in group}
            if len(frames) != 1:
                keys = ", ".join(islice(file, _KEYS_SHOWN))
                raise DataError(
                    f"{path.name} with {len(frames)} pandas frame(s), keys {keys}",
                    "one frame of one number type, written by pandas",
                    "export the frame alone, or as CSV",
                )
            ((key, group),) = frames.items()
            frame = _fixed(group) if "block0_values" in group else _table(group, path.name)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path.name}, a damaged or foreign HDF5 file ({error})",
            "a frame that pandas wrote, without compression or with zlib",
            "copy it again (its size or checksum tells)",
        ) from error
    unit = frame.kind.removeprefix("datetime64")
    if unit not in _TICKS_PER_S or frame.items != frame.columns:
        raise DataError(
            f"{path.name}: an index of kind {frame.kind!r}"
            if unit not in _TICKS_PER_S
            else f"{path.name}: columns of several types",
            "a DatetimeIndex and one block of numbers",
            "export the frame as CSV",
        )
    is_flow = key == "t" or _LARGEST_NAME.search(path.stem) is not None
    is_speed = not is_flow and (key == "speed" or _DCRNN_NAME.search(path.stem) is not None)
    values = frame.values
    notes: tuple[str, ...] = ()
    if is_speed or (is_flow and not np.isnan(values).any()):
        values = np.where(values == 0, np.float32("nan"), values)
        notes = ("0 read as missing",)
    return FileTable(
        path.name,
        f"pandas HDF5, {frame.format} format",
        values[..., None],
        frame.ticks // _TICKS_PER_S[unit],
        not frame.has_zone,
        frame.columns,
        ("flow",) if is_flow else ("speed",) if is_speed else (),
        ("veh/5 min",) if is_flow else ("mph",) if is_speed else ("",),
        notes=notes,
    )


def _dataset(group: Any, key: str) -> Any:
    """Return a dataset of a group, before anything of it is read.

    Raises:
        DataError: it claims far more than the file holds of it.
        KeyError, ValueError: there is none, or it lies elsewhere: HDF5 would open any file, pipe or device for it.
    """
    import h5py

    link = group.get(key, getlink=True)
    if link is None:
        raise KeyError(f"no {key}")
    if not isinstance(link, h5py.HardLink) or group.get(key, getclass=True) is not h5py.Dataset:
        raise ValueError(f"{key} is a link or no array")
    found = group[key]
    if found.external or found.is_virtual:
        raise ValueError(f"{key} lies in another file")
    name, size = Path(group.file.filename).name, found.id.get_storage_size()
    numbers = max(1, found.dtype.itemsize // 8)
    whole, chunk = (numbers * math.prod(shape) for shape in (found.shape, found.chunks or ()))
    rows = (*found.shape, 1)[0]
    columns = max(whole, chunk) // max(1, rows)
    check_cells(
        f"{name}: {key} {list(found.shape)}, of which {size / 1e6:.3g} MB are there",
        cells_of(rows, columns),
        size,
        "make sure that it is what it should be; if so, cut it into shorter spans",
    )
    check_columns(name, columns)
    return found


def _fixed(group: Any) -> _Frame:
    index = _dataset(group, "axis1")
    more = "block1_items" in group
    return _Frame(
        "fixed",
        _numbers(_dataset(group, "block0_values")[:]),
        index[:].astype(np.int64),
        _text(index.attrs.get("kind", "datetime64")),
        "tz" in index.attrs,
        texts(_dataset(group, "axis0")[:]),
        () if more else texts(_dataset(group, "block0_items")[:]),
    )


def _table(group: Any, name: str) -> _Frame:
    table = _dataset(group, "table")
    rows = table[:]
    blocks = [field for field in rows.dtype.names if field != "index"]
    # The names of the columns and of the zone are pickles in attributes; the zone's are never opened.
    items = load_pickle(bytes(table.attrs[f"{blocks[0]}_kind"]), name)
    if not all(isinstance(item, str | bytes | int | float) for item in items):
        raise ValueError("names of columns that are no text")
    items = [str(item) for item in items]
    values = _numbers(rows[blocks[0]]).reshape(len(rows), -1)
    return _Frame(
        "table",
        values,
        rows["index"].astype(np.int64),
        _text(table.attrs.get("index_kind", "datetime64")),
        b"Vtz\n" in bytes(group.attrs.get("info", b"")),
        tuple(items) if len(blocks) == 1 else tuple(blocks),
        tuple(items),
    )


def _numbers(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype.kind not in "biuf":
        raise TypeError(f"readings of {values.dtype}")
    return values.astype(np.float32)


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
