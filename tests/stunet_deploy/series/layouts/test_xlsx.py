"""Excel workbooks: the same tables as in CSV, with dates in the place of text."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.series.series import read_series
from tests.paths import ROOT

openpyxl = pytest.importorskip("openpyxl")

START = datetime(2025, 3, 3)


def moments(rows: int) -> list[datetime]:
    """Times as Excel stores them: days as a float, here a thousandth of a second short of most of them."""
    return [START + timedelta(minutes=5 * row) - timedelta(microseconds=1000 * (row % 3 > 0)) for row in range(rows)]


def workbook(path: Path, rows: list[list[object]], change: Callable[[Any], None] = lambda book: None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    book.save(path)
    return path


def wide(rows: int = 6) -> list[list[object]]:
    return [["time", 773869, "b 2"], *([time, 60 + row, 50.5 - row] for row, time in enumerate(moments(rows)))]


def test_one_column_per_sensor(tmp_path: Path) -> None:
    table = wide()
    table[3][2] = None
    table[4][1:] = [" 61.5", "n/a"]

    series = read_series(workbook(tmp_path / "a.xlsx", table), timezone="Europe/Berlin")

    assert (series.sensor_ids, series.features, series.interval_s) == (("773869", "b 2"), ("speed",), 300)
    assert series.timestamps.tolist() == [1_740_956_400 + 300 * row for row in range(6)]
    expected = [[60, 50.5], [61, 49.5], [62, np.nan], [61.5, np.nan], [64, 46.5], [65, 45.5]]
    np.testing.assert_array_equal(np.where(series.observed, series.values, np.nan)[..., 0], expected)


def test_long_form_with_positions(tmp_path: Path) -> None:
    rows = [[time, sensor, 60.5, row, 52.5, 13.4] for row, time in enumerate(moments(5)) for sensor in (7, 8)]
    table: list[list[object]] = [["Timestamp", "Sensor ID", "speed", "flow", "lat", "lon"], *rows]

    series = read_series(workbook(tmp_path / "a.xlsx", table))

    assert (series.sensor_ids, series.features) == (("7", "8"), ("speed", "flow"))
    assert series.latitude == (52.5, 52.5)
    assert series.observed.all()


def test_blank_rows_and_columns_around_it_and_sheets_beside_it(tmp_path: Path) -> None:
    def change(book: Any) -> None:
        book.active.insert_rows(1, 2)
        book.active.cell(40, 9).font = openpyxl.styles.Font(bold=True)
        book.create_sheet("About", 0).append(["Made by", "the city"])
        book.create_sheet("Empty")

    series = read_series(workbook(tmp_path / "a.xlsx", wide(), change))

    assert series.values.shape == (6, 2, 1)
    assert "sheets without times left out: About" in series.source


def merge(book: Any) -> None:
    book.active.merge_cells("B3:B5")


def second(book: Any) -> None:
    for row in wide():
        book.create_sheet("Day 2" if "Day 2" not in book.sheetnames else "x").append(row)
        break
    for row in wide()[1:]:
        book["Day 2"].append(row)


def cell(place: str, value: object) -> Callable[[Any], None]:
    def change(book: Any) -> None:
        book.active[place] = value

    return change


FAULTS = {
    "formula": (cell("B3", "=SUM(B4:B5)"), "a formula without a result in B3", "save it again"),
    "merged": (merge, "merged cells B3:B5", "part the cells"),
    "two sheets": (second, "2 sheets that hold readings ('Sheet', 'Day 2')", "as a file in one folder"),
    "decimal comma": (cell("B3", "61,5"), "'61,5' in column '773869'", "correct the cell"),
    "error": (cell("B3", "#DIV/0!"), "'#DIV/0!'", "correct the cell"),
    "truth": (cell("B3", True), "'True'", "correct the cell"),
    "no time": (cell("A4", None), "'' as a time (line 4)", "convert the time column"),
    "no name": (cell("C1", None), "3 cells in line 2", "export the file again"),
    "beyond": (cell("D4", 5), "4 cells in line 4", "export the file again"),
    "title": (lambda book: book.active.insert_rows(1) or cell("A1", "Speeds")(book), "0 sheets", "names over the col"),
    "twice": (cell("A4", START), "2025-03-03T00:05:00 is followed by 2025-03-03T00:00:00", "sort the rows"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_read_as_meant_is_refused(tmp_path: Path, case: str) -> None:
    change, came, action = FAULTS[case]

    with pytest.raises(DataError) as refused:
        read_series(workbook(tmp_path / "a.xlsx", wide(), change))

    assert came in refused.value.came
    assert action in refused.value.action


def test_its_name_does_not_matter_and_damage_does(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", wide())
    (tmp_path / "speeds.zip").write_bytes(path.read_bytes())
    assert read_series(tmp_path / "speeds.zip").sensor_ids == ("773869", "b 2")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as part:
        for name in whole.namelist():
            part.writestr(name, whole.read(name)[: -9 if "sheet1" in name else None])
    with pytest.raises(DataError, match="a damaged or locked Excel workbook"):
        read_series(tmp_path / "b.xlsx")


def test_other_office_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    with pytest.raises(DataError, match=r"old.xls, an Excel file of before 2007.*save it as .xlsx"):
        read_series(tmp_path / "old.xls")
    with zipfile.ZipFile(tmp_path / "a.xlsb", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.bin", "")
    with pytest.raises(DataError, match="a document of an office program"):
        read_series(tmp_path / "a.xlsb")


def test_without_openpyxl_its_extra_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", wide())
    script = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from stunet_deploy.series.series import read_series\n"
        "try: read_series(sys.argv[1])\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'stunet-deploy[excel]'" in done.stdout
