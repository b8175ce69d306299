"""Read a Parquet table of readings, wide or long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.table import OWN_LAYOUT, FileTable, pivoted
from stunet_deploy.series.times import parse_times


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
        table = parquet.read_table(path)
        table.validate(full=True)  # text that is no UTF-8 is found here, and not when it is used
        columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name}, a damaged Parquet file ({error})", "a whole file", "copy it again") from error
    if len(columns) < table.num_columns:
        raise DataError(f"{path.name} with a column name twice", "distinct columns", "rename one of them")
    times_name = next(
        (name for name, column in columns.items() if pyarrow.types.is_timestamp(column.type)),
        "timestamp" if "timestamp" in columns else next(iter(columns), ""),
    )
    if not times_name:
        raise DataError(f"{path.name} without columns", OWN_LAYOUT, "check the file's export")
    times, local = _arrow_times(columns.pop(times_name), path.name)
    ids = columns.pop("sensor_id", None)
    try:
        numbers = np.column_stack(
            [np.asarray(column.cast("float64").to_numpy(), np.float32) for column in columns.values()]
        )
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(
            f"{path.name}: a column that is not numeric ({error})",
            "numbers in every column but the time and sensor_id",
            "drop the other columns",
        ) from error
    if ids is None:
        return FileTable(path.name, "Parquet, one column per sensor", numbers[..., None], times, local, tuple(columns))
    sensors = ["" if sensor is None else str(sensor) for sensor in ids.to_pylist()]
    return pivoted(path.name, "Parquet, long form", times, local, sensors, numbers, columns)


def _arrow_times(column: Any, name: str) -> tuple[NDArray[np.int64], bool]:
    import pyarrow

    if column.null_count:
        raise DataError(f"{name}: {column.null_count} empty times", "a time in every row", "drop those rows")
    if pyarrow.types.is_timestamp(column.type):
        seconds = column.to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds, column.type.tz is None
    return parse_times([str(value) for value in column.to_pylist()], name)
