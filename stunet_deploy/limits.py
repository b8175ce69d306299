"""What a file may claim: bounds that are checked before memory is taken for it.

A file may be as large as it is. What it may not do is to stand for far more than it holds: a header that claims an
array which is not there, text that unpacks to a thousand times its size, two readings that lie years of seconds apart.
Small multiples are usual (readings compress well, networks have silent sensors), and what is small in memory does no
harm, so that both are free.
"""

from __future__ import annotations

from stunet_deploy.errors import DataError

#: Cells of readings that any file may stand for, about half a gigabyte where all copies are counted; and how many
#: beyond that for each cell that it holds, or byte where it is compressed.
FREE_CELLS, CELLS_HELD = 1 << 25, 16
#: What the time of a row costs, in cells.
ROW_CELLS = 8
#: Bytes that any archive may unpack to, which is a dense graph of LargeST's 8,600 sensors, and how many beyond that
#: for each byte of its own.
FREE_BYTES, BYTES_HELD = 600_000_000, 16
#: The same of text, which takes some times its size when it is read, but is read part by part: empty cells and times
#: that repeat make it some twenty times as large as its archive.
FREE_TEXT, TEXT_HELD = 1 << 26, 24
#: Intervals of a horizon, a window or a dilation: a week of minutes; and seconds of an interval: a year.
MOST_INTERVALS, LONGEST_INTERVAL_S = 10_080, 366 * 86_400
#: Seconds that a forecast may reach ahead: a hundred years.
LONGEST_AHEAD_S = 100 * LONGEST_INTERVAL_S
#: Characters of a name, such as a sensor's; tensors of a step and their axes; files of a bundle.
LONGEST_NAME, MOST_TENSORS, MOST_AXES, MOST_FILES = 1000, 1 << 14, 8, 100
#: Values in a manifest, of which the most sensors with their places take a third; and entries of its tables.
MOST_VALUES, MOST_ENTRIES = 1 << 21, 1000
#: Settings of models and trainings: channels of a layer, layers, and what else is counted.
MOST_CHANNELS, MOST_LAYERS, MOST_BATCH, MOST_THREADS, MOST = 4096, 32, 1 << 16, 1024, 64
#: Bytes of all that a stream remembers; 33,000 nodes of 96 channels take a fifth of it.
MOST_STATE = 1 << 30
#: Columns of a table, and sensors of a recording.
MOST_COLUMNS = 200_000
#: Characters of a line: as many columns, with room for long names.
LONGEST_LINE = 1 << 24
#: Bytes of files that are read as a whole into lists and dicts: settings, and graphs written as text.
LONGEST_SETTINGS, LONGEST_GRAPH = 1 << 25, 1 << 26
#: Lines of a graph's text, and empty lines in a row.
MOST_LINES = 1 << 21
#: Bytes of a TOML file, and names or decimals in one of its lines.
LONGEST_TOML, MOST_DOTS = 1 << 22, 5000


def cells_of(rows: int, columns: int) -> int:
    """Return the size of a table, its times included."""
    return rows * (columns + ROW_CELLS)


def check_cells(came: str, cells: int, held: int, action: str) -> None:
    """Refuse a table that is far larger than what the file holds of it.

    Args:
        came: names the table, with its size.
        cells: of the table, see :func:`cells_of`.
        held: cells that the file has, or its bytes where it is compressed.
        action: what to do about it.

    Raises:
        DataError: it is too large.
    """
    if cells > max(FREE_CELLS, CELLS_HELD * held):
        raise DataError(
            came, f"at most {FREE_CELLS / 1e6:.0f} million cells, or {CELLS_HELD} for each that the file holds", action
        )


def check_unpacked(name: str, packed: int, unpacked: int, *, text: bool = False) -> None:
    """Refuse an archive that unpacks to far more than it is.

    Args:
        name: of the file.
        packed: its bytes.
        unpacked: bytes that it unpacks to, or has unpacked to so far.
        text: whether it is text.

    Raises:
        DataError: it unpacks to too much.
    """
    free, held = (FREE_TEXT, TEXT_HELD) if text else (FREE_BYTES, BYTES_HELD)
    if unpacked > max(free, held * packed):
        raise DataError(
            f"{name}, {packed / 1e6:.3g} MB that unpack to {unpacked / 1e6:,.0f} MB or more",
            f"at most {free / 1e6:.0f} MB, or {held} times its size",
            "make sure that it is what it should be; if so, cut it into shorter spans or unpack it",
        )


def check_columns(name: str, columns: int) -> None:
    """Refuse more columns than any network has sensors.

    Raises:
        DataError: there are too many.
    """
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{name} with {columns:,} columns or sensors",
            f"one for each sensor, at most {MOST_COLUMNS:,}",
            "turn rows and columns round if its columns are times; otherwise cut it into parts of the network",
        )
