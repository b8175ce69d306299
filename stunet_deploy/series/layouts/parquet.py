"""Read a Parquet table of readings, wide or long."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import cells_of, check_cells, check_columns, check_unpacked
from stunet_deploy.series.layouts.delimited import LOOKED_AT, number_of
from stunet_deploy.series.layouts.own import arranged
from stunet_deploy.series.layouts.roles import Column, looks_like, number_column, roles_of
from stunet_deploy.series.layouts.table import OWN_LAYOUT, FileTable
from stunet_deploy.series.times import parse_times

#: What pandas calls the columns of a frame whose columns have two levels.
_TWO_LEVELS = re.compile(r"\('.*', .*\)")


def read_parquet(path: Path) -> FileTable:
    """Read a Parquet table of one's own, wide or long, with the columns of the CSV layouts.

    Raises:
        DataError: pyarrow is missing, the file is damaged or is no such table.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path.name}, a Parquet file", "pyarrow to read it", "pip install 'stunet-deploy[parquet]', or export CSV"
        ) from error
    try:
        with parquet.ParquetFile(path, read_dictionary=_check_claims(path, parquet.ParquetFile(path))) as file:
            table = file.read()
        table.validate(full=True)  # text that is no UTF-8 is found here, and not when it is used
        columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True)) | _even_index(table)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name}, a damaged Parquet file ({error})", "a whole file", "copy it again") from error
    if len(set(table.column_names)) < table.num_columns:
        raise DataError(f"{path.name} with a column name twice", "distinct columns", "rename one of them")
    if not columns:
        raise DataError(f"{path.name} without columns", OWN_LAYOUT, "check the file's export")
    names = list(columns)
    if levels := [name for name in names if _TWO_LEVELS.fullmatch(name)]:
        raise DataError(
            f"{path.name}: column {levels[0]!r}, of a frame whose columns have two levels",
            "one row per time and sensor, and one column per feature",
            "write frame.stack(0) with the sensors called sensor_id, or one file a feature",
        )
    roles = roles_of(path.name, [_look(name, column) for name, column in columns.items()])
    positions = () if roles.latitude is None or roles.longitude is None else (roles.latitude, roles.longitude)
    wanted = [names[place] for place in (*roles.readings, *positions)]
    try:
        numbers = np.column_stack([_numbers(columns[name]) for name in wanted])
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(
            f"{path.name}: a column that is not numeric ({error})",
            "numbers in every column but the time and sensor_id",
            "drop the other columns",
        ) from error
    clock = _arrow_times(columns[names[roles.time]], path.name)
    ids = [] if roles.sensor is None else _cells(columns[names[roles.sensor]])
    sensors = ["" if sensor is None else str(sensor).strip() for sensor in ids]
    return arranged(path.name, "Parquet", roles, wanted, numbers, clock, sensors)


def _even_index(table: Any) -> dict[str, Any]:
    """Return an index of evenly spaced numbers, which pandas keeps in the metadata alone, if it has a name."""
    import pyarrow

    found = dict[str, Any]()
    for index in (table.schema.pandas_metadata or {}).get("index_columns", []):
        if not isinstance(index, dict) or index.get("kind") != "range" or not index.get("name"):
            continue
        numbers = range(*(int(index.get(part, 0)) for part in ("start", "stop", "step")))
        if len(numbers) == table.num_rows:
            found[str(index["name"])] = pyarrow.chunked_array([np.array(numbers, np.int64)])
    return found


def _check_claims(path: Path, file: Any) -> list[str]:
    """Refuse a file that stands for far more than it is; return its columns of text.

    Such a column is read as the words that it has and which one stands where: a word may stand in every row.
    """

    metadata, size = file.metadata, path.stat().st_size
    schema = file.schema_arrow
    check_columns(path.name, len(schema))
    check_cells(
        f"{path.name}: {metadata.num_rows:,} rows of {len(schema):,} columns in {size / 1e6:.3g} MB",
        cells_of(metadata.num_rows, len(schema)),
        size,
        "make sure that it is what it should be; if so, cut it into shorter spans",
    )
    unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    check_unpacked(path.name, size, unpacked)
    return [field.name for field in schema if _is_text(field.type)]


def _is_text(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _cells(column: Any) -> list[Any]:
    """Return the cells of a column, equal words of a chunk being one object."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return list(column.to_pylist())
    cells = list[Any]()
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        cells += [None if place is None else words[place] for place in chunk.indices.to_pylist()]
    return cells


def _numbers(column: Any) -> NDArray[np.float32]:
    """Return the numbers of a column, also those that it holds as text."""
    import pyarrow

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    if _is_text(kind):
        return np.array([number_of(cell or "") for cell in _cells(column)], np.float32)
    return np.asarray(column.cast("float64").to_numpy(), np.float32)


def _look(name: str, column: Any) -> Column:
    """Return what a column looks like: by its type, and text by its first cells."""
    import pyarrow

    kind, first = column.type, column.slice(0, LOOKED_AT)
    example = str(first[0]) if len(first) else ""
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
        return Column(name.strip(), "time", example=example)
    if pyarrow.types.is_null(kind):
        return Column(name.strip(), "empty")
    if pyarrow.types.is_dictionary(kind) or _is_text(kind):
        return looks_like(name.strip(), ["" if cell is None else str(cell) for cell in _cells(first)], number_of)
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        return number_column(name.strip(), [math.nan if cell is None else cell for cell in first.to_pylist()], example)
    if pyarrow.types.is_decimal(kind) or pyarrow.types.is_boolean(kind):
        return Column(name.strip(), "number", example=example)
    return Column(name.strip(), "text", example=example)  # lists and the like


def _arrow_times(column: Any, name: str) -> tuple[NDArray[np.int64], bool]:
    import pyarrow

    if column.null_count:
        raise DataError(f"{name}: {column.null_count} empty times", "a time in every row", "drop those rows")
    if pyarrow.types.is_timestamp(column.type) or pyarrow.types.is_date(column.type):
        seconds = column.to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds, getattr(column.type, "tz", None) is None
    return parse_times([str(value) for value in _cells(column)], name)
