"""Load arrays from .npy, .npz and pickle files without running what such a file may carry."""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import check_unpacked

_MOST_ARRAYS = 1000

# The constructors that pickled arrays name, asked from numpy itself: their modules moved between versions.
_reconstruct: Any = np.zeros(1).__reduce_ex__(2)[0]
_frombuffer: Any = np.zeros(1).__reduce_ex__(5)[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


def _array_to_be_filled(kind: object, shape: Any, code: object) -> NDArray[Any]:
    if kind is not np.ndarray or math.prod(shape):
        raise pickle.UnpicklingError("an array that is not in the file")
    made: NDArray[Any] = _reconstruct(np.ndarray, (0,), b"b")
    return made


_ALLOWED_IN_PICKLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _array_to_be_filled,
    ("numpy._core.multiarray", "_reconstruct"): _array_to_be_filled,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode_latin1,  # how Python 3 writes bytes for Python 2
}
#: Of these the one that is an argument, and not called.
_NOT_CALLED = np.ndarray
#: Opcodes that make objects in other ways than by a call, or sets.
_LEFT_OUT = {
    code[0]
    for code in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.PERSID, pickle.BINPERSID),
    )
}
# The unpickler in C takes memory for what is claimed, and says nothing between two opcodes.
_Unpickler: Any = pickle._Unpickler


class _NumpyUnpickler(_Unpickler):  # type: ignore[misc]
    """Python's unpickler in Python, whose opcodes can be left out and looked at.

    Nothing takes more memory than the file has bytes, and no key more time: a tuple of tuples of tuples, which a few
    bytes can nest by the billion, is no key.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: load for code, load in _Unpickler.dispatch.items() if code not in _LEFT_OUT
    }

    def load_reduce(self) -> None:
        """Call what was found by its name, and nothing else."""
        function = self.stack[-2]
        if function is _NOT_CALLED or not any(function is allowed for allowed in _ALLOWED_IN_PICKLE.values()):
            raise pickle.UnpicklingError("a call of what is no function")
        super().load_reduce()

    def load_build(self) -> None:
        """Fill an array or its type, and change nothing else."""
        made, state = self.stack[-2:]
        if not isinstance(made, np.ndarray | np.dtype):
            raise pickle.UnpicklingError("a state of what is no array")
        if isinstance(made, np.ndarray) and state[-3].hasobject and math.prod(state[-4]) != len(state[-1]):
            raise pickle.UnpicklingError("an array that is not in the file")
        super().load_build()

    def load_setitem(self) -> None:
        """Set an entry of a dict."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set entries of a dict."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Make a dict of entries."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_bytearray8(self) -> None:
        """Take bytes that are there, not as many as are claimed."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(length, sys.maxsize))))

    def load_global(self) -> None:
        """Find a name, which ends."""
        module, name = self.readline(), self.readline()
        if not name.endswith(b"\n"):
            raise EOFError("pickle data was truncated")
        self.append(self.find_class(module[:-1].decode(), name[:-1].decode()))

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.GLOBAL[0]: load_global,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few allowed constructors, or refuse the file."""
        if (module, name) not in _ALLOWED_IN_PICKLE:
            raise DataError(
                f"a pickle that asks for {module}.{name}, which could run code",
                "lists, dicts, text, numbers and numpy arrays",
                "do not trust this file; have it converted to CSV or .npz where it comes from",
            )
        return _ALLOWED_IN_PICKLE[module, name]


def _check_keys(keys: Sequence[object]) -> None:
    if not all(isinstance(key, str | bytes | int | float | None) for key in keys):
        raise pickle.UnpicklingError("a dict whose keys are no text or numbers")


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
        raise DataError(f"{name}: {_reason(error)}", "an undamaged pickle", "copy the file again") from error


def texts(array: NDArray[Any]) -> tuple[str, ...]:
    """The entries of an array of names, whether they were stored as text, bytes or numbers."""
    return tuple(
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in np.atleast_1d(array).tolist()
    )


def load_npy(content: bytes, name: str) -> NDArray[Any]:
    """Load the one array of a .npy file.

    Raises:
        DataError: the file is damaged, claims more than it holds, or holds Python objects.
    """
    try:
        _claimed(io.BytesIO(content), len(content))
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except Exception as error:  # numpy has many kinds for a header
        raise DataError(f"{name}: {_reason(error)}", "an undamaged .npy of numbers", "copy the file again") from error


def load_npz(source: bytes | Path, name: str, wanted: set[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Load those of the wanted arrays that an .npz file has; return them and the names of all its arrays.

    Raises:
        DataError: the file is damaged, unpacks to far more than it is, or a wanted array holds Python objects.
    """
    try:
        with np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False) as archive:
            claimed_arrays(archive, name, wanted)
            return {key: archive[key] for key in archive.files if key in wanted}, list(archive.files)
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each have their own
        raise DataError(f"{name}: {_reason(error)}", "an undamaged .npz of numbers", "copy the file again") from error


class Claimed(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def claimed_arrays(archive: Any, name: str, wanted: Collection[str] | None = None) -> dict[str, Claimed]:
    """Return what the headers of arrays say, before one of them is read.

    Args:
        archive: an .npz that is open.
        name: of its file, for messages.
        wanted: which arrays; all by default.

    Raises:
        DataError: together they unpack to far more than they are.
        ValueError: a header claims more than its array has; zipfile and numpy have further kinds for damage.
    """
    members = {
        key: archive.zip.getinfo(key if key in archive.zip.NameToInfo else f"{key}.npy") for key in archive.files
    }
    members = {key: member for key, member in members.items() if wanted is None or key in wanted}
    if len(members) > _MOST_ARRAYS:
        raise DataError(f"{name} with {len(members):,} arrays", f"at most {_MOST_ARRAYS}", "give another file")
    packed = sum(member.compress_size for member in members.values())
    check_unpacked(name, packed, sum(member.file_size for member in members.values()))
    claimed = {}
    for key, member in members.items():
        with archive.zip.open(member) as file:
            claimed[key] = _claimed(file, member.file_size)
    return claimed


def _claimed(file: IO[bytes], size: int) -> Claimed:
    """Return what the header of an array says.

    Args:
        file: at the begin of the header.
        size: bytes that the array and its header have.

    Raises:
        ValueError: it claims more.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if min(shape, default=0) < 0 or (not dtype.hasobject and math.prod(shape) * dtype.itemsize > size):
        raise ValueError(f"its header claims {dtype} {list(shape)}, it has {size:,} bytes")
    return Claimed(shape, dtype)


def _reason(error: Exception) -> str:
    """Return what an error says, not longer than a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
