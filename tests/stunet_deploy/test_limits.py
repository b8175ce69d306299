"""What a file may claim: large recordings may be read, and what is not there is refused."""

from __future__ import annotations

import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.limits import (
    BYTES_HELD,
    CELLS_HELD,
    FREE_BYTES,
    FREE_CELLS,
    MOST_COLUMNS,
    cells_of,
    check_cells,
    check_columns,
    check_unpacked,
)


@pytest.mark.parametrize(
    ("rows", "columns", "held"),
    [
        (35_040, 716, 0),  # a year of San Diego by the quarter of an hour, whatever its file takes
        (35_040, 8_600, 30_000_000),  # and of California, in a tenth of a byte for each reading
        (5 * 105_120, 8_600, 5_000_000_000),  # five years of it, every five minutes
        (7 * 365 * 1440, 1, 0),  # seven years of one sensor by the minute
    ],
)
def test_large_recordings_may_be_read(rows: int, columns: int, held: int) -> None:
    check_cells("a recording", cells_of(rows, columns), held, "")
    check_columns("a recording", columns)


@pytest.mark.parametrize("held", [0, FREE_CELLS // CELLS_HELD, FREE_CELLS])
def test_a_table_may_be_so_many_times_what_the_file_holds_of_it(held: int) -> None:
    most = max(FREE_CELLS, CELLS_HELD * held)
    check_cells("a table", most, held, "")
    with pytest.raises(DataError, match=r"a table; expected at most 34 million cells, or 16 for each .*; cut it"):
        check_cells("a table", most + 1, held, "cut it")


@pytest.mark.parametrize("packed", [0, FREE_BYTES // BYTES_HELD, FREE_BYTES])
def test_an_archive_may_unpack_to_so_many_times_its_size(packed: int) -> None:
    most = max(FREE_BYTES, BYTES_HELD * packed)
    check_unpacked("a.npz", packed, most)
    with pytest.raises(DataError, match=r"a\.npz, .* MB that unpack to .*; expected at most 600 MB, or 16 times"):
        check_unpacked("a.npz", packed, most + 1)


def test_there_are_at_most_so_many_columns() -> None:
    check_columns("a.csv", MOST_COLUMNS)
    with pytest.raises(DataError, match=r"a\.csv with 200,001 columns .*; turn rows and columns round"):
        check_columns("a.csv", MOST_COLUMNS + 1)
