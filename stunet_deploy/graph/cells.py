"""The cells of a graph's text table, and the numbers in them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from stunet_deploy.errors import DataError
from stunet_deploy.limits import LONGEST_GRAPH, MOST_LINES
from stunet_deploy.series.layouts.delimited import MISSING, Delimited, plain
from stunet_deploy.series.layouts.packed import open_text
from stunet_deploy.series.layouts.pems import is_meta

GRAPH_KINDS = (
    "adj_mx.pkl, a square matrix (.csv or .npy), an edge list `from,to,weight` or `from,to,distance`, "
    "`sensor_id,latitude,longitude`, PeMS's list of stations, a .rel or .geo of LibCity, or an .npz with `adjacency` "
    "and `sensor_ids`"
)
"""The files that `stunet_deploy.graph.files.read_graph` reads, in the words of error messages."""


@dataclass(frozen=True)
class GraphTable:
    """A text table: cells stripped of blanks, empty lines left out, all rows of one length."""

    name: str
    rows: list[list[str]]
    lines: list[int]
    """Line number in the file of every row."""
    text: Delimited
    """By which its cells are made into numbers."""

    @classmethod
    def of_cells(cls, name: str, rows: list[list[str]]) -> GraphTable:
        """Return the table of a header and rows that stand in no file of this form."""
        return cls(name, rows, list(range(1, len(rows) + 1)), Delimited(name, rows[0], [], iter(()), False))

    @property
    def header(self) -> list[str]:
        """The cells of the first row, as names are compared."""
        return [key(cell) for cell in self.rows[0]]

    def value(self, row: int, column: int) -> float:
        """Return the number of a cell, NaN for none.

        Raises:
            ValueError: the cell holds something else.
        """
        names = self.text.header
        return self.text.number_in(names[column] if column < len(names) else "", self.rows[row][column])

    def lacks(self, row: int, *columns: int) -> bool:
        """Return whether none of some cells has anything in it."""
        return all(self.rows[row][column].lower() in MISSING for column in columns)

    def is_number(self, row: int, column: int) -> bool:
        """Return whether a cell holds a number."""
        try:
            return not math.isnan(self.value(row, column))
        except ValueError:
            return False

    def number(self, row: int, column: int, minimum: float = 0) -> float:
        """Return the number of a cell.

        Args:
            row, column: the place of the cell.
            minimum: the least that it may be.

        Raises:
            DataError: it is none, is not finite or is below the minimum; names line and column.
        """
        try:
            value = self.value(row, column)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= minimum):
            raise DataError(
                f"{self.name}, line {self.lines[row]}, column {column + 1}: {self.rows[row][column]!r}",
                "a finite number" + (" of at least 0" if minimum == 0 else ""),
                "correct the cell",
            )
        return value


def key(name: str) -> str:
    """Return the name of a column as it is compared: its letters and digits, small."""
    return "".join(filter(str.isalnum, name.lower()))


def column(header: Sequence[str], *names: str) -> int | None:
    """Return the place of the first of some names that a header has."""
    return next((header.index(name) for name in names if name in header), None)


def split_table(path: Path) -> GraphTable:
    """Split a text file into cells, or raise with the kind of file that it is.

    The delimiter and decimal sign are told from its first rows; it may be compressed, in UTF-8 or UTF-16, as a
    recording may.

    Raises:
        DataError: it is empty, no text, a web page, or its lines are of several lengths.
    """
    name = path.name
    if path.stat().st_size > LONGEST_GRAPH:
        raise DataError(
            f"{name}, {path.stat().st_size / 1e6:.0f} MB of text",
            GRAPH_KINDS,
            "give a graph as large as this as .npy or .npz",
        )
    try:
        with open_text(path) as file:
            # PeMS writes names of places as they are.
            quoted = not is_meta(file.readline())
            file.seek(0)
            text = Delimited.of(file, name, quoted=quoted)
            lines_and_cells = chain([(text.header_line, text.header)], text.first, text.later)
            found = list(islice(lines_and_cells, MOST_LINES + 1))
    except csv.Error as error:
        raise DataError(f"{name}: {error}", GRAPH_KINDS, "give one of these") from error
    except DataError as error:
        if not isinstance(error.__cause__, UnicodeError):
            raise
        raise DataError(f"{name}: a binary file of unknown kind", GRAPH_KINDS, "give one of these") from error
    if len(found) > MOST_LINES:
        raise DataError(
            f"{name}, more than {MOST_LINES:,} lines of text",
            GRAPH_KINDS,
            "give a graph as large as this as .npy or .npz",
        )
    stripped = [(line, [*map(plain, row)]) for line, row in found]
    lines, rows = [line for line, row in stripped if any(row)], [row for _, row in stripped if any(row)]
    if not rows:
        raise DataError(f"{name} is empty", GRAPH_KINDS, "copy the file again")
    if rows[0][0].startswith("<"):
        raise DataError(f"{name} is an HTML or XML page", GRAPH_KINDS, "download the file itself, not its page")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{name}, line {line}: {len(row)} columns",
                f"{len(rows[0])}, as line {lines[0]} has",
                "complete the line, or copy the file again",
            )
    return GraphTable(name, rows, lines, text)
