"""Reading the .npz file of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stunet_deploy.array_files import load_npz
from stunet_deploy.errors import DataError

Arrays = dict[str, NDArray[Any]]


def read_arrays(path: str | Path) -> Arrays:
    """Return all arrays of an .npz file by name.

    Raises:
        DataError: the file is absent, damaged or holds Python objects.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error})",
            "the data file of the task",
            "name its folder with STUNET_DATA or --data",
        ) from error
    _, names = load_npz(content, path.name, set())
    arrays, _ = load_npz(content, path.name, set(names))
    return arrays


def pick(arrays: Arrays, name: str, shape: tuple[int | None, ...], file: str) -> NDArray[Any]:
    """Return one array of a file; ``None`` in the shape stands for any length.

    Raises:
        DataError: it is absent, of another shape, or not finite.
    """
    found = arrays.get(name)
    expected = f"{name} of shape [{', '.join('any' if length is None else str(length) for length in shape)}]"
    if found is None:
        raise DataError(f"{file} without {name}", expected, "give the file of this task")
    fits = found.ndim == len(shape) and all(
        length in (None, there) for length, there in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype.kind not in "iuf":
        raise DataError(
            f"{file}: {name} of shape {list(found.shape)}, {found.dtype}", expected, "give the file of this task"
        )
    bad = int((abs(found) == float("inf")).sum() + (found != found).sum())
    if bad:
        raise DataError(f"{file}: {bad} numbers of {name} are not finite", "finite numbers", "repair the file")
    return found
