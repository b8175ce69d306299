"""The rows of a delimited text: which delimiter, which decimal sign, and the numbers in its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.files import lines_of
from stunet_deploy.limits import MOST_LINES, check_columns

DELIMITERS = (",", ";", "\t", "|")
#: Texts that stand for no reading, in lower case.
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "-", "--"})
#: Rows from which roles of columns are told.
LOOKED_AT = 50
_SAMPLE = 1 << 16
_CELLS_AT_ONCE = 1 << 18
#: 1.005 or 1,005 among whole numbers may be a thousand and five; 0.5 and 12.25 are what they are.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:[.,]\d{3})+")
_DECIMALS = re.compile(r"[+-]?(?:0[.,]\d+|\d+[.,](?:\d{1,2}|\d{4,})|\d{4,}[.,]\d+)(?:[eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?\d*[.,]?\d+(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Delimited:
    """A text table.

    Attributes:
        name: of its file, for messages.
        header: cells of the first line that is not blank, without blanks around them.
        first: number and cells of the first rows after it.
        later: of all others.
        decimal_comma: whether numbers have a comma for a point.
        doubtful: columns of whole numbers, in which the sign may part thousands.
        header_line: number of the line in which the header ends.
    """

    name: str
    header: list[str]
    first: list[tuple[int, list[str]]]
    later: Iterator[tuple[int, list[str]]]
    decimal_comma: bool
    doubtful: frozenset[str] = frozenset()
    header_line: int = 1

    @classmethod
    def of(cls, file: TextIO, name: str, *, quoted: bool = True) -> Delimited:
        """Read the header and the first rows of a seekable text; quotes stand around cells, or are part of them."""
        sample = file.read(_SAMPLE)
        file.seek(0)
        delimiter = _delimiter(sample)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.reader(
            lines_of(file, name), delimiter=delimiter, skipinitialspace=delimiter == ",", quoting=quoting
        )
        rows = _numbered(reader, name)
        line, header = next(rows, (0, list[str]()))
        check_columns(name, len(header))
        first = list(islice(rows, LOOKED_AT))
        header = [*map(plain, header)]
        comma, doubtful = False, set[str]()
        if delimiter != ",":
            comma = any(_DECIMAL_COMMA.fullmatch(cell) for _, row in first for cell in row)
            columns = zip(*(row for _, row in first if len(row) == len(header)), strict=True)
            doubtful = {column for column, cells in zip(header, columns, strict=False) if _whole(cells)}
        return cls(name, header, first, rows, comma, frozenset(doubtful), line)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield number and cells of every row, as many as the header has.

        Raises:
            DataError: a row has more or fewer.
        """
        for lines, rows in self.blocks():
            yield from zip(lines, rows, strict=True)

    def blocks(self) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Yield numbers and cells of the rows, so many at a time as are worth it; see :meth:`rows`."""
        width = len(self.header)
        size = max(1, _CELLS_AT_ONCE // width)
        lines, rows = list[int](), list[list[str]]()
        for line, row in chain(self.first, self.later):
            if len(row) != width:
                raise DataError(
                    f"{self.name}: {len(row)} cells in line {line}",
                    f"{width}, one per column",
                    "export the file again; this line is cut off or holds extra delimiters",
                )
            lines.append(line)
            rows.append(row)
            if len(rows) == size:
                yield lines, rows
                lines, rows = [], []
        if rows:
            yield lines, rows

    def looked_at(self, place: int) -> list[str]:
        """Return the cells of a column in the first rows."""
        return [row[place] for _, row in self.first if place < len(row)]

    def number(self, text: str) -> float:
        """Return the number of a cell; see :func:`number_of`."""
        return number_of(text, self.decimal_comma)

    def number_in(self, column: str, cell: str) -> float:
        """Return the number of a cell of a column, NaN for none.

        Raises:
            ValueError: the text is no number, or may have a sign between thousands.
        """
        if column in self.doubtful and _THOUSANDS.fullmatch(cell.strip()):
            raise ValueError(cell)
        return self.number(cell)

    def table(self, rows: Sequence[Sequence[str]], lines: Sequence[int], columns: Sequence[str]) -> NDArray[np.float32]:
        """Return the numbers of some rows, ``[row, column]``; see :meth:`numbers`."""
        if not self.decimal_comma and not self.doubtful:
            try:
                numbers = np.fromiter(map(float, chain.from_iterable(rows)), np.float64, len(rows) * len(columns))
                return numbers.astype(np.float32).reshape(len(rows), len(columns))
            except ValueError:
                pass  # as below, in one row or more
        return np.stack([self.numbers(cells, line, columns) for cells, line in zip(rows, lines, strict=True)])

    def numbers(self, cells: Sequence[str], line: int, columns: Sequence[str]) -> NDArray[np.float32]:
        """Return the numbers of a row.

        Args:
            cells: of the row.
            line: its number, for messages.
            columns: their names, for messages.

        Raises:
            DataError: a cell is no number.
        """
        if not self.decimal_comma and not self.doubtful:
            try:
                return np.array([float(cell) for cell in cells], np.float32)
            except ValueError:
                pass  # some cells have no number, or one has text
        row = list[float]()
        for cell, column in zip(cells, columns, strict=True):
            try:
                row.append(self.number_in(column, cell))
            except ValueError as error:
                raise DataError(
                    f"{self.name}: line {line}, column {column!r}: {cell[:40]!r}",
                    "a number, without a sign between thousands, or an empty cell where nothing was measured",
                    "correct the cell",
                ) from error
        return np.array(row, np.float32)


def number_of(text: str, decimal_comma: bool = False) -> float:
    """Return the number of a cell, NaN for no reading.

    Args:
        text: of the cell.
        decimal_comma: whether numbers have a comma for a point; a point is no part of them then.

    Raises:
        ValueError: the text is no number.
    """
    if not decimal_comma:
        try:
            return float(text)
        except ValueError:
            if text.strip().lower() in MISSING:
                return float("nan")
            raise
    if text.strip().lower() in MISSING:
        return float("nan")
    if "." in text:  # of thousands, or the decimal sign of another row
        raise ValueError(text)
    return float(text.replace(",", "."))


def all_numbers(cells: Iterable[str]) -> bool:
    """Return whether every cell is a number."""
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return True


def _whole(cells: Sequence[str]) -> bool:
    """Return whether the cells of a column are whole numbers, those apart in which thousands may be parted."""
    found = [cell.strip() for cell in cells]
    return any(map(str.isdecimal, found)) and not any(map(_DECIMALS.fullmatch, found))


def stacked(rows: Sequence[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    """Return rows as a table, also of none."""
    return np.stack(rows) if rows else np.empty((0, columns), np.float32)


def plain(cell: str) -> str:
    """Return a name without what programs put around it: blanks, quotes of their own, ``="…"`` that keeps zeros."""
    cell = cell.strip()
    if cell.startswith('="') and cell.endswith('"') and len(cell) > 3:
        return cell[2:-1]
    return cell[1:-1] if len(cell) > 2 and cell[0] == cell[-1] == "'" else cell


def _numbered(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line in which a row ends, and its cells; blank lines are no rows.

    Raises:
        DataError: a quote is not closed, so that the lines after it are one cell (names alone may have line ends); or
            the lines that are left are empty.
    """
    before, last, header = 0, 0, True
    for row in reader:
        if row:
            last = reader.line_num
            if reader.line_num - before > 1 and not header:
                raise DataError(
                    f"{name}: a quote that is opened in line {before + 1} and not closed in it",
                    "cells that end in their line",
                    "correct the quotes of that line",
                )
            header = False
            yield reader.line_num, row
        before = reader.line_num
        if before - last > MOST_LINES:
            raise DataError(
                f"{name} with more than {MOST_LINES:,} empty lines from line {last + 1} on",
                "rows of readings",
                "make sure that it is a text table, and export it again",
            )


def _delimiter(sample: str) -> str:
    """Return the delimiter that cuts the first two rows into equally many cells, at least two; a comma if none does.

    Of several it is the one that leaves the more numbers whole: a decimal comma, or one in a name, may do the same.
    """
    found = dict[str, list[list[str]]]()
    for delimiter in DELIMITERS:
        rows = islice(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), 20)
        found[delimiter] = [row for row in rows if row][:2]
    even = [delimiter for delimiter, rows in found.items() if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1]
    likely = even or [delimiter for delimiter, rows in found.items() if rows and len(rows[0]) > 1]

    def plausible(delimiter: str) -> tuple[float, int]:
        """Return the share of cells of the second row that are numbers, and the number of columns."""
        row = found[delimiter][-1]
        numbers = [cell for cell in row if cell.strip().lower() in MISSING or _NUMBER.fullmatch(cell.strip())]
        return len(numbers) / len(row), len(row)

    return max(likely, key=plausible, default=",")
