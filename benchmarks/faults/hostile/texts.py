"""Files that are none, and hostile tables of text, plain and compressed."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np

from benchmarks.faults.hostile.kinds import START_S, Kind, Maker, Place, Words, file, graph, look, train

#: What no file is given for.
USES: dict[str, tuple[str, Callable[[Place, Path], Words]]] = {
    "recording": ("speeds.csv", lambda _, path: look(path)),
    "graph": ("graph.csv", lambda place, path: train(place, graph=path)),
    "config": ("run.toml", lambda place, path: train(place, config=path)),
    "model": ("model.pt", lambda _, path: ["export", str(path)]),
}


def no_file(kind: str, use: str) -> Maker:
    """Return the maker of a folder, a pipe, a device or an empty file."""

    def make(place: Place) -> Words:
        name, words = USES[use]
        path = place.folder / name
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.touch()
        return words(place, path)

    return make


def rows(header: str, cells: Iterable[object], form: str) -> str:
    """Return a table of rows in one form."""
    return "\n".join([header, *(form % cell for cell in cells), ""])


def wide(place: Place) -> str:
    """Return as many columns as a table may have, nearly."""
    columns = place.size(20_000, 150_000)
    lines = [f"{START_S + 300 * row}" + f",{row + 1}" * columns for row in range(4)]
    return "\n".join(["time," + ",".join(f"s{column}" for column in range(columns)), *lines, ""])


def turned(place: Place) -> str:
    """Return a table with a column for each time."""
    columns = place.size(201_000, 1_000_000)
    return "\n".join(["sensor" + ",2012-03-01T00:00" * columns, "7" + ",60" * columns, "8" + ",61" * columns, ""])


def names_twice(place: Place) -> str:
    """Return a table whose columns have each name twice."""
    columns = place.size(20_000, 150_000)
    return "time" + "".join(f",s{column // 2}" for column in range(columns)) + f"\n{START_S}" + ",1" * columns + "\n"


def strewn(times: int, sensors: int) -> str:
    """Return a long table of sensors that are heard twice each: nearly nothing of times x sensors is there."""
    cells = ((START_S + 300 * (row // 2 % (times - 1) + row % 2), row // 2) for row in range(2 * sensors))
    return rows("time,sensor_id,flow", cells, "%d,%d,5")


def bridged_gaps(place: Place) -> str:
    """Return pairs of readings, a second apart, with as much between the pairs as is just bridged."""
    count = place.size(1000, 7300)
    return rows("time,7", (START_S + 9_900 * (row // 2) + row % 2 for row in range(count)), "%d,60")


def packed(line: bytes, name: str, head: bytes = b"") -> Maker:
    """Return the maker of a compressed text that is one line again and again."""

    def make(place: Place) -> Words:
        path, part = place.folder / name, line * ((1 << 20) // len(line))
        with ExitStack() as stack:
            if name.endswith(".zip"):
                archive = stack.enter_context(zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
                text = stack.enter_context(archive.open("speeds.csv", "w", force_zip64=True))
            else:
                text = cast("IO[bytes]", stack.enter_context(gzip.open(path, "wb", compresslevel=1)))
            text.write(head)
            for _ in range(place.size(10, 1000)):
                text.write(part)
        return look(path)

    return make


def csv(content: Callable[[Place], bytes | str]) -> Maker:
    """Return the maker of a text table."""
    return file("speeds.csv", content)


KINDS = (
    *(
        Kind(f"{kind} for a {use}", no_file(kind, use))
        for kind in ("folder", "pipe", "device", "empty file")
        for use in USES
        if (kind, use) != ("empty file", "config")  # which is a config of defaults
    ),
    Kind("a CSV of very many columns", csv(wide), read=True),
    Kind("a CSV with a column for each time", csv(turned)),
    Kind("a CSV of very many columns, names twice", csv(names_twice)),
    Kind("one endless line", csv(lambda place: b"1234567890" * place.size(2_000_000, 50_000_000))),
    Kind("an endless first cell", csv(lambda place: "time," + "1" * place.size(10**6, 10**8) + "\n1,2\n")),
    Kind("NUL bytes", csv(lambda place: bytes(place.size(1 << 20, 1 << 28)))),
    Kind("NUL bytes within a table", csv(lambda _: "time,7\n2012-03-01T00:00,60\n2012-03-01T00:05,6\0\n")),
    Kind("a cell of a million characters", csv(lambda _: f"time,7\n2012-03-01T00:00,{'1' * 10**6}\n")),
    Kind("a quote that never ends", csv(lambda place: 'time,7\n2012,"' + "1,2\n" * place.size(10**5, 10**8))),
    Kind("rows of nonsense", csv(lambda place: "time,7\n" + "x y z,!\n" * place.size(10**5, 10**7))),
    Kind("random bytes", csv(lambda place: np.random.default_rng(0).bytes(place.size(10**6, 10**8)))),
    Kind("the year 9999999", csv(lambda _: "time,7\n9999999-01-01T00:00,60\n9999999-01-01T00:05,61\n")),
    Kind("times of ten thousand digits", csv(lambda _: f"time,7\n{'9' * 10_000},60\n{'9' * 10_000},61\n")),
    Kind("a grid of seconds with gaps that are just bridged", csv(bridged_gaps)),
    Kind("sensors without number", csv(lambda place: strewn(1000, place.size(201_000, 1_000_000)))),
    Kind("a long table that is nearly empty", csv(lambda place: strewn(*[place.size(20_000, 100_000)] * 2))),
    Kind(
        "a sensor for each row",
        csv(lambda place: rows("time,sensor_id,flow", range(place.size(50_000, 10**7)), f"{START_S},s%d,5")),
    ),
    Kind(
        "a reading a second, for months",
        csv(lambda place: rows("time,7", range(START_S, START_S + place.size(50_000, 3 * 10**6)), "%d,60")),
        read=True,
    ),
    Kind("a gzip of zeros", packed(b"\0", "speeds.csv.gz")),
    Kind("a gzip of one line", packed(b"1", "speeds.csv.gz")),
    Kind("a gzip of the same row", packed(b"2012-03-01T00:00,60\n", "speeds.csv.gz", b"time,7\n")),
    Kind("a zip of empty lines", packed(b"\n", "speeds.zip")),
    Kind("a zip of commas", packed(b",", "speeds.zip")),
    Kind("a graph of one endless line", graph("g.csv", lambda place: b"1," * place.size(10**6, 10**8))),
    Kind("a sparse text as large as a disk", lambda place: train(place, graph=place.sparse("g.csv", 1 << 40))),
    Kind(
        "a matrix of very many words",
        file("g.csv", lambda place: ",".join(["a"] * 1000) + ("\n" + ",".join(["x"] * 1000)) * place.size(50, 4000)),
    ),
    Kind("an edge of NaN", graph("g.csv", lambda _: "from,to,weight\ns0,s1,nan\n")),
    Kind("an edge to position 10^9", graph("g.csv", lambda _: "from,to,weight\n7,8,0.5\n7,1000000000,0.5\n")),
)
