"""Tables of readings as people write them: a recording and a dialect, both drawn, and the file that comes of them."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from stunet_deploy.series.layouts import roles
from stunet_deploy.series.layouts.delimited import MISSING
from stunet_deploy.series.times import is_time

WIDE_FEATURE = "speed"


@dataclass(frozen=True)
class Recording:
    """What is written: NaN is no reading, times are UTC seconds."""

    values: np.ndarray
    times: np.ndarray
    sensors: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True)
class Dialect:
    """How it is written."""

    long: bool
    delimiter: str
    decimal: str
    quoting: int
    encoding: str
    line_end: str
    packed: str
    time_form: str
    time_name: str
    sensor_name: str
    row_numbers: str | None
    missing: str
    last_column_first: bool
    seed: int


TIME_FORMS = {
    "T": lambda moment: moment.strftime("%Y-%m-%dT%H:%M"),
    "blank": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
    "Z": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "offset": lambda moment: (moment + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S+0100"),
    "offset with a colon": lambda moment: (moment - timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M-08:00"),
    "basic": lambda moment: moment.strftime("%Y%m%dT%H%M"),
    "basic Z": lambda moment: moment.strftime("%Y%m%dT%H%M%SZ"),
    "digits": lambda moment: moment.strftime("%Y%m%d%H%M"),
    "digits of seconds": lambda moment: moment.strftime("%Y%m%d%H%M%S"),
    "epoch": lambda moment: str(int(moment.timestamp())),
    "epoch, decimal": lambda moment: f"{moment.timestamp():.1f}",
    "epoch of ms": lambda moment: str(int(moment.timestamp()) * 1000),
    "epoch of ns": lambda moment: str(int(moment.timestamp()) * 10**9),
}
TIME_NAMES = ("timestamp", "time", "datetime", "date_time", "Date-Time", "start time", "ts")
SENSOR_NAMES = ("sensor_id", "sensor", "Station ID", "detector", "segment-id", "link", "node", "id", "site")
_FEATURES = ("speed", "flow", "occupancy", "Mean speed", "q", "v/c")
_ids = st.text(st.characters(categories=("L", "N"), include_characters=" ,;'\"-_./µ"), min_size=1, max_size=12)


def _sensible(name: str) -> bool:
    """Return whether a name is that of a sensor, and of no column with another role."""
    known = (*roles.TIMES, *roles.SENSORS, *roles.LATITUDES, *roles.LONGITUDES, *roles.ROW_NUMBERS)
    if name != name.strip() or name.lower() in MISSING or name.endswith(".0") or is_time(name):
        return False
    return roles.Column(name, "number").key not in known


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Draw a recording of some sensors and features on a regular grid."""
    sensors = draw(st.lists(_ids.filter(_sensible), min_size=1, max_size=4, unique=True))
    features = draw(st.lists(st.sampled_from(_FEATURES), min_size=1, max_size=3, unique=True))
    rows, interval = draw(st.integers(2, 60)), draw(st.sampled_from((60, 300, 600, 3600, 86_400)))
    start = draw(st.integers(1_000_000_000 // 86_400, 1_750_000_000 // 86_400)) * 86_400
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.round(rng.gamma(2.0, 20.0, (rows, len(sensors), len(features))), draw(st.integers(0, 3)))
    values[rng.random(values.shape) < draw(st.sampled_from((0.0, 0.2)))] = np.nan
    values[0, 0, 0] = values[-1, -1, -1] = 3.5
    return Recording(values, start + interval * np.arange(rows), tuple(sensors), tuple(features))


@st.composite
def dialects(draw: st.DrawFn, recording: Recording) -> Dialect:
    """Draw a way to write it."""
    delimiter = draw(st.sampled_from((",", ";", "\t", "|")))
    decimal = "." if delimiter == "," else draw(st.sampled_from((".", ",")))
    time_forms = [form for form in TIME_FORMS if decimal == "." or form != "epoch, decimal"]
    name = draw(st.sampled_from((str.lower, str.upper, str.title, str)))
    return Dialect(
        long=len(recording.features) > 1 or draw(st.booleans()),
        delimiter=delimiter,
        decimal=decimal,
        quoting=draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))),
        encoding=draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16"))),
        line_end=draw(st.sampled_from(("\n", "\r\n"))),
        packed=draw(st.sampled_from(("", "gz", "zip"))),
        time_form=draw(st.sampled_from(time_forms)),
        time_name=name(draw(st.sampled_from(TIME_NAMES))),
        sensor_name=name(draw(st.sampled_from(SENSOR_NAMES))),
        row_numbers=draw(st.sampled_from((None, "", "Unnamed: 0", "index"))),
        missing=draw(st.sampled_from(("", "NaN", "NA", "null", "-"))),
        last_column_first=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def write(recording: Recording, dialect: Dialect, folder: Path) -> Path:
    """Write a recording in a dialect."""
    form = TIME_FORMS[dialect.time_form]
    times = [form(datetime.fromtimestamp(int(second), timezone.utc)) for second in recording.times]

    def number(value: float) -> str:
        return dialect.missing if np.isnan(value) else f"{value:.6g}".replace(".", dialect.decimal)

    if dialect.long:
        header = [dialect.time_name, dialect.sensor_name, *recording.features]
        rows = [
            [time, sensor, *map(number, recording.values[row, node])]
            for row, time in enumerate(times)
            for node, sensor in enumerate(recording.sensors)
        ]
        order = np.random.default_rng(dialect.seed).permutation(len(rows) - 1) + 1  # sensors appear in this order
        rows = [rows[0], *(rows[place] for place in order)]
        if dialect.last_column_first:
            header, rows = [header[-1], *header[:-1]], [[row[-1], *row[:-1]] for row in rows]
    else:
        header = [dialect.time_name, *recording.sensors]
        rows = [[time, *map(number, recording.values[row, :, 0])] for row, time in enumerate(times)]
    if dialect.row_numbers is not None:
        header, rows = [dialect.row_numbers, *header], [[str(row), *cells] for row, cells in enumerate(rows)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=dialect.delimiter, quoting=dialect.quoting, lineterminator=dialect.line_end)
    writer.writerows([header, *rows])
    return _store(text.getvalue().encode(dialect.encoding), dialect.packed, folder)


def _store(content: bytes, packed: str, folder: Path) -> Path:
    path = folder / f"table.csv{packed and '.' + packed}"
    if packed == "gz":
        path.write_bytes(gzip.compress(content))
    elif packed == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("table.csv", content)
    else:
        path.write_bytes(content)
    return path
