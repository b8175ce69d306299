"""Frames of readings as pandas and spreadsheets write them to Parquet, HDF5 and Excel: types, indexes, zones, drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from benchmarks.files.recordings import CASES, SENSOR_NAMES, TIME_NAMES, ZONES, Recording

#: Suffix of the file, by kind.
SUFFIXES = {"Parquet": "parquet", "HDF5 fixed": "h5", "HDF5 table": "h5", "Excel": "xlsx"}
_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class FrameDialect:
    """How a recording is written as a frame.

    Attributes:
        kind: a key of :data:`SUFFIXES`.
        long: one row for each sensor and time; otherwise one column for each sensor.
        two_levels: columns of sensor and feature, in a wide frame.
        time_form: ``naive`` or ``zoned`` moments, ``text`` or ``epoch`` seconds.
        zone: that moments are in.
        unit: of the ticks of moments.
        time_name, sensor_name: of columns.
        index: whether the time is the frame's index, or a column beside row numbers, or beside nothing.
        category: whether sensors are categories.
        number: type of the readings.
        compression: of Parquet.
        omits_empty: whether rows without a reading are left out.
    """

    kind: str
    long: bool
    two_levels: bool
    time_form: str
    zone: str
    unit: str
    time_name: str
    sensor_name: str
    index: str
    category: bool
    number: str
    compression: str
    omits_empty: bool


@st.composite
def frame_dialects(draw: st.DrawFn, recording: Recording) -> FrameDialect:
    """Draw a way to write it."""
    kind = draw(st.sampled_from([*SUFFIXES]))
    hdf5, excel = kind.startswith("HDF5"), kind == "Excel"
    name = draw(st.sampled_from(CASES))
    forms = ("naive", "zoned") if hdf5 else ("naive", "text") if excel else ("naive", "zoned", "text", "epoch")
    long = not hdf5 and (len(recording.features) > 1 or draw(st.booleans()))
    return FrameDialect(
        kind=kind,
        long=long,
        two_levels=kind == "Parquet" and not long and draw(st.integers(0, 9)) == 0,
        time_form=draw(st.sampled_from(forms)),
        zone=draw(st.sampled_from(ZONES)),
        unit=draw(st.sampled_from(_UNITS)),
        time_name=name(draw(st.sampled_from(TIME_NAMES))),
        sensor_name=name(draw(st.sampled_from(SENSOR_NAMES))),
        index="time" if hdf5 else draw(st.sampled_from(("none", "row numbers") if excel else ("none", "time", "kept"))),
        category=draw(st.booleans()),
        number=draw(st.sampled_from(("float64", "float32") if hdf5 or excel else ("float64", "float32", "str"))),
        compression=draw(st.sampled_from(("snappy", "gzip", "zstd"))),
        omits_empty=draw(st.booleans()),
    )


def write_frame(recording: Recording, dialect: FrameDialect, folder: Path) -> Path:
    """Write a recording in a dialect."""
    kept = recording.rows(without_empty=dialect.omits_empty)
    times, values = _times(recording, dialect)[kept], recording.values[kept]
    if dialect.number == "str":
        cells = np.array([[[_text(one) for one in cell] for cell in row] for row in values], object)
    else:
        cells = values.astype(dialect.number)
    if dialect.long:
        nodes = len(recording.sensors)
        sensors = pd.Series(list(recording.sensors) * len(kept), dtype="category" if dialect.category else "str")
        frame = pd.DataFrame(
            {dialect.time_name: times.repeat(nodes), dialect.sensor_name: sensors}
            | {name: cells[..., place].ravel() for place, name in enumerate(recording.features)}
        )
    else:
        frame = pd.DataFrame({sensor: cells[:, node, 0] for node, sensor in enumerate(recording.sensors)})
        frame.insert(0, dialect.time_name, times)
    path = folder / f"frame.{SUFFIXES[dialect.kind]}"
    if dialect.index == "time":
        frame = frame.set_index(dialect.time_name)
    elif dialect.index == "kept":  # rows of a larger frame keep their numbers
        frame.index = pd.Index(np.arange(len(frame)) + 7)
    if dialect.two_levels:
        frame.columns = pd.MultiIndex.from_product([frame.columns, ["speed"]])
    if dialect.kind == "Parquet":
        frame.to_parquet(path, compression=dialect.compression)
    elif dialect.kind == "Excel":
        frame.to_excel(path, index=dialect.index == "row numbers")
    else:
        frame.to_hdf(path, key="readings", mode="w", format=dialect.kind.split()[1])
    return path


def _times(recording: Recording, dialect: FrameDialect) -> pd.Index:
    moments = pd.DatetimeIndex(pd.to_datetime(recording.times, unit="s", utc=True)).as_unit(dialect.unit)
    zoned = moments.tz_convert(dialect.zone)
    if dialect.time_form == "zoned":
        return zoned
    if dialect.time_form == "epoch":
        return pd.Index(recording.times)
    naive = zoned.tz_localize(None)
    return naive if dialect.time_form == "naive" else pd.Index(naive.strftime("%Y-%m-%d %H:%M:%S"))


def _text(value: float) -> str | None:
    return None if np.isnan(value) else f"{value:.6g}"
