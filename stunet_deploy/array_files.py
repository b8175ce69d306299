"""Load arrays from .npy, .npz and pickle files without running what such a file may carry."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError

# The constructors that pickled arrays name, asked from numpy itself: their modules moved between versions.
_reconstruct: Any = np.zeros(1).__reduce_ex__(2)[0]
_frombuffer: Any = np.zeros(1).__reduce_ex__(5)[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


_ALLOWED_IN_PICKLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode_latin1,  # how Python 3 writes bytes for Python 2
}


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few allowed constructors, or refuse the file."""
        if (module, name) not in _ALLOWED_IN_PICKLE:
            raise DataError(
                f"a pickle that asks for {module}.{name}, which could run code",
                "lists, dicts, text, numbers and numpy arrays",
                "do not trust this file; have it converted to CSV or .npz where it comes from",
            )
        return _ALLOWED_IN_PICKLE[module, name]


def load_pickle(content: bytes, name: str) -> Any:
    """Unpickle containers, text, numbers and numpy arrays, written by Python 2 or 3, and nothing else.

    Args:
        content: the whole file.
        name: the file's name, for messages.

    Raises:
        DataError: the pickle is damaged, or asks for anything else; the message names it.
    """
    try:
        return _NumpyUnpickler(io.BytesIO(content), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{name}: {error.came}", error.expected, error.action) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{name}: {error}", "an undamaged pickle", "copy the file again") from error


def texts(array: NDArray[Any]) -> tuple[str, ...]:
    """The entries of an array of names, whether they were stored as text, bytes or numbers."""
    return tuple(
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in np.atleast_1d(array).tolist()
    )


def load_npy(content: bytes, name: str) -> NDArray[Any]:
    """Load the one array of a .npy file.

    Raises:
        DataError: the file is damaged, or holds Python objects.
    """
    try:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{name}: {error}", "an undamaged .npy of numbers", "copy the file again") from error


def load_npz(content: bytes, name: str, wanted: set[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Load those of the wanted arrays that an .npz file has; return them and the names of all its arrays.

    Raises:
        DataError: the file is damaged, or a wanted array holds Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in wanted}, list(archive.files)
    except Exception as error:  # numpy, zipfile and zlib each have their own
        raise DataError(f"{name}: {error}", "an undamaged .npz of numbers", "copy the file again") from error
