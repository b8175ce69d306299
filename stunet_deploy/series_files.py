"""Which layout a series file has, and the npz and HDF5 readers."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series_table import FileTable, parse_times, read_csv, read_parquet

_KNOWN = "a CSV or Parquet table, the project's npz, or an HDF5 file in the pandas fixed format"
_OWN_KEYS = {
    "values", "scale", "observed", "timestamps", "sensor_ids", "features", "units", "timezone", "interval_s",
}  # fmt: skip
# What zipfile, zlib and numpy raise on altered bytes, down to numpy's parser of array headers.
_NPZ_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
_TICKS_PER_S = {"": 10**9, "[ns]": 10**9, "[us]": 10**6, "[ms]": 10**3, "[s]": 1}


def read_table(path: Path) -> FileTable:
    """Read any known series file, telling the layout from its first bytes.

    Raises:
        DataError: the file is missing, damaged, or of no known layout.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DataError(f"{path}, which cannot be read ({error.strerror})", "a data file", "check the path") from error
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, hence unobserved
        return _read(path, head)


def _read(path: Path, head: bytes) -> FileTable:
    if head.startswith(b"PK"):
        return _read_npz(path)
    if head.startswith(b"\x89HDF"):
        return _read_hdf5(path)
    if head.startswith(b"PAR1"):
        return read_parquet(path)
    if head.startswith(b"\x1f\x8b"):
        raise DataError(f"{path.name}, a gzip file", _KNOWN, "unpack it with gunzip")
    if head.startswith(b"\x93NUMPY"):
        raise DataError(
            f"{path.name}, a bare npy array without times or sensor ids",
            _KNOWN,
            "write a CSV with a time column and a header of sensor ids",
        )
    if head.startswith(b"\x80") or path.suffix in (".pkl", ".pickle"):
        raise DataError(
            f"{path.name}, a pickle, which can run code when it is opened",
            _KNOWN,
            "give the readings in another format; the graph's adj_mx.pkl belongs to --graph",
        )
    return read_csv(path)


def _read_npz(path: Path) -> FileTable:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = set(archive.files)
            if keys >= _OWN_KEYS:
                return _own_npz(path.name, archive)
            if keys >= {"speed", "sensor_ids", "meta"}:
                return _week_npz(path.name, archive)
    except _NPZ_DAMAGE as error:
        raise DataError(
            f"{path.name}, a damaged npz file ({error})",
            "a whole file of plain arrays",
            "copy or make it again (its size or checksum tells)",
        ) from error
    raise DataError(
        f"{path.name} with the keys {', '.join(sorted(keys))[:120]}",
        f"the keys {', '.join(sorted(_OWN_KEYS))}; or speed, sensor_ids and meta",
        "convert the file, or give the readings as CSV",
    )


def _own_npz(name: str, archive: Any) -> FileTable:
    """The layout the package ships: integers times a scale per feature, UTC seconds."""
    stored = archive["values"]
    scale = np.atleast_1d(archive["scale"]).astype(np.float64)
    observed = archive["observed"]
    if stored.ndim != 3 or observed.shape != stored.shape or scale.shape != stored.shape[2:]:
        raise DataError(
            f"{name}: values {stored.shape}, observed {observed.shape}, scale {scale.shape}",
            "values and observed [time, node, feature] and one scale per feature",
            "make the file again",
        )
    values = (stored * scale).astype(np.float32)
    stamp = cast(Literal["start", "end"], str(archive["stamp"]) if "stamp" in archive.files else "start")
    return FileTable(
        name,
        "npz",
        np.where(observed != 0, values, np.float32("nan")),
        archive["timestamps"].astype(np.int64),
        False,
        _strings(archive["sensor_ids"]),
        _strings(archive["features"]),
        _strings(archive["units"]),
        timezone=str(archive["timezone"]),
        interval_s=int(archive["interval_s"]),
        stamp=stamp,
        latitude=_degrees(archive, "latitude"),
        longitude=_degrees(archive, "longitude"),
        notes=_described(archive),
    )


def _week_npz(name: str, archive: Any) -> FileTable:
    """A cut of METR-LA or PeMSD7(M): speed [time, node] with its facts in a JSON string."""
    meta = json.loads(str(archive["meta"]))
    speed = archive["speed"].astype(np.float32)
    interval_s = int(meta["freq_minutes"]) * 60
    if "timestamps" in archive.files:
        times, local = parse_times([str(text) for text in archive["timestamps"]], name)
    else:
        (start,), local = parse_times([meta["start"]], name)
        times = start + interval_s * np.arange(len(speed))
    if "observed" in archive.files:
        # -1 marks cells nobody could check: they count as measured, as the upstream authors published them.
        speed = np.where(archive["observed"] != 0, speed, np.float32("nan"))
    return FileTable(
        name,
        "npz of one speed matrix",
        speed[..., None],
        times,
        local,
        _strings(archive["sensor_ids"]),
        units=(str(meta.get("unit", "")),),
        interval_s=interval_s,
        latitude=_degrees(archive, "latitude"),
        longitude=_degrees(archive, "longitude"),
        notes=_described(archive),
    )


def _read_hdf5(path: Path) -> FileTable:
    """A pandas frame in the fixed format with one block: metr-la.h5 (key df), pems-bay.h5 (key speed)."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path.name}, an HDF5 file", "h5py to read it", "pip install h5py") from error
    try:
        with h5py.File(path) as file:
            frames = [group for group in file.values() if isinstance(group, h5py.Group) and "block0_values" in group]
            if len(frames) != 1 or "block1_values" in frames[0]:
                raise DataError(
                    f"{path.name} with {len(frames)} pandas frame(s), keys {', '.join(file)}",
                    "one frame of one number type, written by pandas with format='fixed'",
                    "export the frame alone, or as CSV",
                )
            frame = frames[0]
            values = frame["block0_values"][:].astype(np.float32)
            ids = _strings(frame["axis0"][:])
            items = _strings(frame["block0_items"][:])
            ticks = frame["axis1"][:].astype(np.int64)
            kind, has_zone = (
                _text(frame["axis1"].attrs.get("kind", "datetime64")),
                "tz" in frame["axis1"].attrs,
            )
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path.name}, a damaged or foreign HDF5 file ({error})",
            "a pandas frame in the fixed format",
            "copy it again (its size or checksum tells)",
        ) from error
    unit = kind.removeprefix("datetime64")
    if unit not in _TICKS_PER_S or items != ids:
        raise DataError(
            f"{path.name}: an index of kind {kind!r}" if unit not in _TICKS_PER_S else f"{path.name}: mixed blocks",
            "a DatetimeIndex and one block of numbers",
            "export the frame as CSV",
        )
    values[values == 0] = np.nan
    return FileTable(
        path.name,
        "pandas HDF5",
        values[..., None],
        ticks // _TICKS_PER_S[unit],
        not has_zone,
        ids,
        units=("mph",),
        notes=("0 read as missing",),
    )


def _strings(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(_text(item) for item in np.atleast_1d(array).tolist())


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _degrees(archive: Any, key: str) -> NDArray[np.float64] | None:
    return archive[key].astype(np.float64) if key in archive.files else None


def _described(archive: Any) -> tuple[str, ...]:
    if "meta" not in archive.files:
        return ()
    meta = json.loads(str(archive["meta"]))
    return tuple(str(meta[key]) for key in ("title", "dataset", "timestamps") if key in meta)
