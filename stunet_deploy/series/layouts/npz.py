"""Read an npz of readings: the project's own, a cut of METR-LA or PeMSD7(M), or PEMS03, 04, 07 and 08."""

from __future__ import annotations

import json
import math
import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.array_files import Claimed, claimed_arrays, texts
from stunet_deploy.errors import DataError
from stunet_deploy.limits import cells_of, check_cells, check_columns
from stunet_deploy.series.layouts.table import PUBLIC_INTERVAL_S, FileTable
from stunet_deploy.series.times import parse_times

_OWN_KEYS = {
    "values", "scale", "observed", "timestamps", "sensor_ids", "features", "units", "timezone", "interval_s",
}  # fmt: skip
# What zipfile, zlib and numpy raise on altered bytes, down to numpy's parser of array headers.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip

_ROWS_AT_ONCE = 4096

# Not PeMSD7, which is another data set than PEMS07.
_PEMS_NAME = re.compile(r"pems(?:d?0?([348])|0?(7))(?!\d)", re.IGNORECASE)
# The files hold no times; these are the first days that the papers name.
_PEMS_STARTS = {"3": "2018-09-01T00:00", "4": "2018-01-01T00:00", "7": "2017-05-01T00:00", "8": "2016-07-01T00:00"}
_PEMS_FEATURES = {"flow": "veh/5 min", "occupancy": "", "speed": "mph"}


def read_npz(path: Path) -> FileTable:
    """Read an npz of a known layout, told by its keys; PEMS0x also by its name.

    Raises:
        DataError: the file is damaged, holds Python objects, or has other keys.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            claimed = claimed_arrays(archive, path.name)
            keys = set(claimed)
            for key in keys & {"values", "speed", "data"}:
                _check_readings(path, key, claimed[key])
            if keys >= _OWN_KEYS:
                return _own(path.name, archive)
            if keys >= {"speed", "sensor_ids", "meta"}:
                return _week(path.name, archive)
            if keys == {"data"}:
                return _pems(path, archive["data"])
    except _DAMAGE as error:
        raise DataError(
            f"{path.name}, a damaged npz file ({error})",
            "a whole file of plain arrays",
            "copy or make it again (its size or checksum tells)",
        ) from error
    raise DataError(
        f"{path.name} with the keys {', '.join(sorted(keys))[:120]}",
        f"the keys {', '.join(sorted(_OWN_KEYS))}; or speed, sensor_ids and meta; or data alone (PEMS0x.npz)",
        "convert the file, or give the readings as CSV",
    )


def _check_readings(path: Path, key: str, claimed: Claimed) -> None:
    """Refuse readings that are no numbers, or far more than the file is, before they are read."""
    shape, dtype = claimed
    if dtype.kind not in "biuf":
        raise ValueError(f"{key} of {dtype}")
    rows, columns = (*shape, 1)[0], math.prod(shape[1:])
    check_columns(path.name, columns)
    size = path.stat().st_size
    check_cells(
        f"{path.name}: {key} {list(shape)} in {size / 1e6:.3g} MB",
        cells_of(rows, columns),
        size,
        "make sure that it is what it should be; if so, cut it into shorter spans",
    )


def _own(name: str, archive: Any) -> FileTable:
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
    values = np.empty(stored.shape, np.float32)
    for first in range(0, len(stored), _ROWS_AT_ONCE):  # the products are float64, twice as large
        some = slice(first, first + _ROWS_AT_ONCE)
        values[some] = stored[some] * scale
    values[observed == 0] = np.nan
    stamp = cast(Literal["start", "end"], str(archive["stamp"]) if "stamp" in archive.files else "start")
    return FileTable(
        name,
        "npz",
        values,
        archive["timestamps"].astype(np.int64),
        False,
        texts(archive["sensor_ids"]),
        texts(archive["features"]),
        texts(archive["units"]),
        timezone=str(archive["timezone"]),
        interval_s=int(archive["interval_s"]),
        stamp=stamp,
        latitude=_degrees(archive, "latitude"),
        longitude=_degrees(archive, "longitude"),
        notes=_described(archive),
    )


def _week(name: str, archive: Any) -> FileTable:
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
        # -1 marks cells that could not be checked: they count as measured, as the upstream authors published them.
        speed = np.where(archive["observed"] != 0, speed, np.float32("nan"))
    return FileTable(
        name,
        "npz of one speed matrix",
        speed[..., None],
        times,
        local,
        texts(archive["sensor_ids"]),
        ("speed",),
        (str(meta.get("unit", "")),),
        interval_s=interval_s,
        latitude=_degrees(archive, "latitude"),
        longitude=_degrees(archive, "longitude"),
        notes=_described(archive),
    )


def _pems(path: Path, data: NDArray[Any]) -> FileTable:
    """PEMS03, 04, 07 or 08 of ASTGCN and STSGCN: flow alone or with occupancy and speed; no times, no ids."""
    named = _PEMS_NAME.search(path.stem)
    if named is None:
        raise DataError(
            f"{path.name} with the one key data, which holds no times",
            "PEMS03.npz, PEMS04.npz, PEMS07.npz or PEMS08.npz, whose first day is known from their papers",
            "give the file that name, or convert it to a CSV with a time column",
        )
    if data.ndim != 3 or data.shape[2] not in (1, 3) or data.dtype.kind not in "fiu":
        raise DataError(
            f"{path.name}: data of {data.dtype} {data.shape}",
            "numbers [time, sensor, 1 or 3]: flow, or flow, occupancy and speed",
            "take the file as its authors distribute it",
        )
    first = _PEMS_STARTS[named[1] or named[2]]
    (start,), _ = parse_times([first], path.name)
    features = tuple(_PEMS_FEATURES)[: data.shape[2]]
    notes = [f"the file holds no times: assumed every 5 min from {first[:10]} 00:00"]
    ids_file = path.with_suffix(".txt")
    if ids_file.is_file():
        sensor_ids = _listed_ids(ids_file, data.shape[1], path.name)
        notes.append(f"sensor ids of {ids_file.name}")
    else:
        sensor_ids = tuple(str(index) for index in range(data.shape[1]))
        notes.append("sensors are named by their position")
    return FileTable(
        path.name,
        "PEMS0x npz",
        data.astype(np.float32),
        start + PUBLIC_INTERVAL_S * np.arange(len(data)),
        True,
        sensor_ids,
        features,
        tuple(_PEMS_FEATURES[feature] for feature in features),
        interval_s=PUBLIC_INTERVAL_S,
        notes=tuple(notes),
    )


def _listed_ids(path: Path, sensors: int, name: str) -> tuple[str, ...]:
    listed = tuple(path.read_text(encoding="utf-8-sig").replace(",", "\n").split())
    if len(listed) != sensors:
        raise DataError(
            f"{path.name} with {len(listed)} sensor ids beside {name} with {sensors} sensors",
            "the ids of this very recording",
            f"take {path.name} from where {name} comes from, or move it elsewhere",
        )
    return listed


def _degrees(archive: Any, key: str) -> NDArray[np.float64] | None:
    return archive[key].astype(np.float64) if key in archive.files else None


def _described(archive: Any) -> tuple[str, ...]:
    if "meta" not in archive.files:
        return ()
    meta = json.loads(str(archive["meta"]))
    return tuple(str(meta[key]) for key in ("title", "dataset", "timestamps") if key in meta)
