"""Text tables of readings as people write them: delimiters, decimal signs, forms of times, names and orders, drawn."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from benchmarks.files.recordings import CASES, SENSOR_NAMES, TIME_NAMES, ZONES, Recording


@dataclass(frozen=True)
class TextDialect:
    """How a recording is written as text."""

    long: bool
    delimiter: str
    decimal: str
    quoting: Literal[0, 1]
    encoding: str
    line_end: str
    packed: str
    time_form: str
    zone: str
    time_name: str
    sensor_name: str
    row_numbers: str | None
    missing: str
    last_column_first: bool
    omits_empty: bool
    seed: int


#: A moment as text, by the name of the form.
TIME_FORMS: dict[str, Callable[[datetime], str]] = {
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
#: Those that name neither a zone nor an offset.
WALL_CLOCK = ("T", "blank", "basic", "digits", "digits of seconds")


@st.composite
def text_dialects(draw: st.DrawFn, recording: Recording) -> TextDialect:
    """Draw a way to write it."""
    delimiter = draw(st.sampled_from((",", ";", "\t", "|")))
    decimal = "." if delimiter == "," else draw(st.sampled_from((".", ",")))
    time_forms = [form for form in TIME_FORMS if decimal == "." or form != "epoch, decimal"]
    name = draw(st.sampled_from(CASES))
    return TextDialect(
        long=len(recording.features) > 1 or draw(st.booleans()),
        delimiter=delimiter,
        decimal=decimal,
        quoting=draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))),
        encoding=draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16"))),
        line_end=draw(st.sampled_from(("\n", "\r\n", "\r"))),
        packed=draw(st.sampled_from(("", "gz", "zip"))),
        time_form=draw(st.sampled_from(time_forms)),
        zone=draw(st.sampled_from(ZONES)),
        time_name=name(draw(st.sampled_from(TIME_NAMES))),
        sensor_name=name(draw(st.sampled_from(SENSOR_NAMES))),
        row_numbers=draw(st.sampled_from((None, "", "Unnamed: 0", "index"))),
        missing=draw(st.sampled_from(("", "NaN", "NA", "null", "-"))),
        last_column_first=draw(st.booleans()),
        omits_empty=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def write_text(recording: Recording, dialect: TextDialect, folder: Path) -> Path:
    """Write a recording in a dialect."""
    form, nodes = TIME_FORMS[dialect.time_form], list(enumerate(recording.sensors))
    times = list(map(form, recording.moments(dialect.zone if dialect.time_form in WALL_CLOCK else "UTC")))
    kept = recording.rows(without_empty=dialect.omits_empty)

    def number(value: float) -> str:
        return dialect.missing if np.isnan(value) else f"{value:.6g}".replace(".", dialect.decimal)

    if dialect.long:
        header = [dialect.time_name, dialect.sensor_name, *recording.features]
        rows = [
            [times[row], sensor, *map(number, recording.values[row, node])] for row in kept for node, sensor in nodes
        ]
        order = np.random.default_rng(dialect.seed).permutation(len(rows) - 1) + 1  # sensors appear in this order
        rows = [rows[0], *(rows[place] for place in order)]
        if dialect.last_column_first:
            header, rows = [header[-1], *header[:-1]], [[row[-1], *row[:-1]] for row in rows]
    else:
        header = [dialect.time_name, *recording.sensors]
        rows = [[times[row], *map(number, recording.values[row, :, 0])] for row in kept]
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
