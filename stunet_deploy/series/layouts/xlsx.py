"""Read a sheet of an Excel workbook, as the same table in CSV would be read."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from itertools import dropwhile
from pathlib import Path
from typing import Any

from stunet_deploy.errors import DataError
from stunet_deploy.limits import check_unpacked
from stunet_deploy.series.layouts.delimited import LOOKED_AT, Delimited, number_of
from stunet_deploy.series.layouts.roles import looks_like
from stunet_deploy.series.layouts.table import OWN_LAYOUT, FileTable
from stunet_deploy.series.layouts.text import check_header, read_rows

_Rows = list[tuple[int, list[str]]]


def read_xlsx(path: Path) -> FileTable:
    """Read the one sheet of a workbook that holds a table with times, wide or long, as the CSV layouts are read.

    Raises:
        DataError: openpyxl is missing, the file is damaged, no sheet or several have such a table, or a formula has
            no result in the file.
    """
    try:
        import openpyxl as _
    except ImportError as error:
        raise DataError(
            f"{path.name}, an Excel workbook",
            "openpyxl to read it",
            "pip install 'stunet-deploy[excel]', or save the sheet as CSV in UTF-8",
        ) from error
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:  # what is damaged is told below
        unpacked = sum(member.file_size for member in archive.infolist())
        check_unpacked(path.name, path.stat().st_size, unpacked, text=True)
    try:
        book = _book(path, data_only=True)
        sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
        merged = {sheet.title: [str(cells) for cells in sheet.merged_cells.ranges] for sheet in book.worksheets}
        tables = [title for title, rows in sheets.items() if _holds_times(rows)]
        open_formulas = _without_result(path, book, tables)
    except Exception as error:  # a damaged workbook can fail in any way
        raise DataError(
            f"{path.name}, a damaged or locked Excel workbook ({error})",
            "a whole file without a password",
            "copy it again, or save the sheet as CSV in UTF-8",
        ) from error
    if len(tables) != 1:
        titles = ", ".join(map(repr, (tables or list(sheets))[:5]))
        raise DataError(
            f"{path.name} with {len(tables)} sheets that hold readings ({titles})",
            f"one sheet of {OWN_LAYOUT}",
            "save the one sheet as CSV in UTF-8; of several days or sensors, each as a file in one folder"
            if tables
            else "write names over the columns in the first row, and times as dates",
        )
    (title,) = tables
    where = f"{path.name}, sheet {title!r}"
    if open_formulas:
        raise DataError(
            f"{where}: a formula without a result in {open_formulas[0]}",
            "numbers, or formulas with the results that Excel stores",
            "open it in Excel and save it again, or paste the values",
        )
    if merged[title]:
        raise DataError(f"{where}: merged cells {merged[title][0]}", "one value in every cell", "part the cells")
    (_, header), *rows = sheets[title]
    text = Delimited(where, header, rows[:LOOKED_AT], iter(rows[LOOKED_AT:]), decimal_comma=False)
    check_header(text)
    table = read_rows(text, "Excel")
    others = [other for other in sheets if other != title and sheets[other]]
    return table.noting(f"sheets without times left out: {', '.join(others)}") if others else table


def _book(path: Path, *, data_only: bool) -> Any:
    """Open a workbook whatever its name, with the results of its formulas or with the formulas themselves."""
    import openpyxl

    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and checks of input that it does not keep
        return openpyxl.load_workbook(file, data_only=data_only)


def _rows(sheet: Any) -> _Rows:
    """Return number and cells of the rows that are not blank, each at least as long as the first of them."""
    found = [(row, [_text(cell) for cell in cells]) for row, cells in enumerate(sheet.iter_rows(values_only=True), 1)]
    found = [(row, _cut(cells)) for row, cells in found if any(cells)]
    width = len(found[0][1]) if found else 0
    return [(row, cells + [""] * (width - len(cells))) for row, cells in found]


def _cut(cells: list[str]) -> list[str]:
    """Return a row without the blank cells at its end."""
    return list(dropwhile(lambda cell: not cell, cells[::-1]))[::-1]


def _text(cell: object) -> str:
    """Return a cell as a CSV has it; the time of a cell is a number of days, rounded off within the second."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return (cell + timedelta(microseconds=500_000)).replace(microsecond=0).isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _holds_times(rows: _Rows) -> bool:
    """Return whether a sheet has several columns, and one of times under its first row."""
    first = [cells for _, cells in rows[1 : 1 + LOOKED_AT] if len(cells) > 1]
    return any(looks_like("", column, number_of).kind == "time" for column in zip(*first, strict=False))


def _without_result(path: Path, book: Any, titles: Sequence[str]) -> list[str]:
    """Return the cells of sheets that hold a formula and no result: they would be taken for empty."""
    empty = {
        title: [cell.coordinate for cells in book[title].iter_rows() for cell in cells if cell.value is None]
        for title in titles
    }
    if not any(empty.values()):
        return []
    formulas = _book(path, data_only=False)
    return [cell for title in titles for cell in empty[title] if formulas[title][cell].data_type == "f"]
