"""Some columns of a large text table, in the form that a program wrote: no cell of it becomes an object for long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.files import lines_of
from stunet_deploy.series.layouts.delimited import number_of


class Codes(dict[str, int]):
    """Ids numbered in the order of their first appearance."""

    def __missing__(self, text: str) -> int:
        known = text.strip()
        if not known:
            raise ValueError(text)
        return self.setdefault(known, len(self))


def read_columns(
    file: TextIO,
    name: str,
    places: Mapping[int, Callable[[str], float] | None],
    names: Sequence[str],
    header: bool = False,
) -> NDArray[np.float64]:
    """Read columns of a comma-separated text as numbers.

    Args:
        file: from whose beginning on.
        name: of the file, for messages.
        places: of the columns, and what makes a number of a cell; None reads numbers, NaN for no reading.
        names: of these columns, for messages.
        header: whether the first line holds names.

    Returns:
        The numbers, ``[row, column]``, in the order of ``places``.

    Raises:
        DataError: a row has other cells than the first one, or a cell is no number.
    """
    file.seek(0)
    lines = _Lines(file, name)
    columns = zip(names, places.items(), strict=True)
    converters: dict[int | str, Callable[[str], Any]] = {
        place: _cell(name, lines, column, convert or _number) for column, (place, convert) in columns
    }
    if header:
        next(lines, None)
    first = next(lines, None)
    if first is None:
        return np.empty((0, len(places)))
    try:
        read: NDArray[np.float64] = np.loadtxt(
            chain([first], lines), np.float64, comments=None, delimiter=",", converters=converters,
            usecols=tuple(places), ndmin=2, encoding=None, quotechar='"',
        )  # fmt: skip
        return read
    except ValueError as error:  # in which numpy wraps what a converter raises
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise DataError(f"{name}: {error}", "whole rows of plain cells", "copy the file again") from error


class _Lines(Iterator[str]):
    """The lines of a text that are not blank, of equally many cells."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._lines = enumerate(lines_of(file, name), 1)
        self._name, self._commas = name, -1
        self.number = 0

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        while line.isspace():
            self.number, line = next(self._lines)
        commas = line.count(",")
        if self._commas < 0:
            self._commas = commas
        if commas != self._commas:
            raise DataError(
                f"{self._name}: {commas + 1} cells in line {self.number}",
                f"{self._commas + 1}, as the lines before it have",
                "copy the file again; this line is cut off or holds extra commas",
            )
        return line


def _cell(name: str, lines: _Lines, column: str, convert: Callable[[str], float]) -> Callable[[str], float]:
    def number(cell: str) -> float:
        try:
            return convert(cell)
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{name}: {cell[:40]!r} as {column} (line {lines.number})",
                "what the layout has there, or an empty cell where nothing was measured",
                "correct the cell, or copy the file again",
            ) from error

    return number


def _number(cell: str) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return number_of(cell)
