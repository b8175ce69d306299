"""The files of a bundle: known names in its one folder, read once, whole, and without following a link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from stunet_deploy.errors import BundleError, shown

ENGINES = "engines"
#: Bytes that a file of each kind may have: a dense graph of 8,600 sensors has 600 MB, a golden stream 32 MB but for the
#: largest networks, and an engine about as much as its graph.
LARGEST = {".onnx": 1 << 30, ".npz": 1 << 28, ".json": 1 << 25, ".engine": 1 << 31, ".timings": 1 << 28}
_AGAIN = "copy the bundle again, its files and no links, or export the model again"
#: A link that is no longer followed, and a pipe that is not waited for; Windows has neither.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def engines_of(folder: Path) -> Path:
    """Return the folder of what was compiled for a device; it may not exist.

    Raises:
        BundleError: if it is a link, behind which are not the bundle's own.
    """
    engines = folder / ENGINES
    if engines.is_symlink():
        raise BundleError(f"{engines}, a link", "a folder in the bundle", "delete it and build its engines again")
    return engines


def check_names(named: Iterable[str], known: Iterable[str], folder: Path) -> None:
    """Refuse names in a manifest that are not those of a bundle's files: a name could lead out of its folder.

    Raises:
        BundleError: naming the first of them.
    """
    strange = sorted(set(named) - set(known))
    if strange:
        raise BundleError(f"{folder} with a file {shown(strange[0])}", f"some of {', '.join(known)}", _AGAIN)


def read_bundle_file(path: Path) -> bytes:
    """Return the content of a file of a bundle.

    Args:
        path: of the file, whose suffix says how large it may be.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it is a link, a pipe, a folder or a device, is too large, or cannot be read.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _PLAIN)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or (not hasattr(os, "O_NOFOLLOW") and path.is_symlink()):
                raise BundleError(f"{path}, which is no file", "a file", _AGAIN)
            most = LARGEST[path.suffix]
            if found.st_size > most:
                raise BundleError(f"{path}, larger than {most >> 20} MB", "a file of a bundle", _AGAIN)
            content = file.read(found.st_size + 1)
            if len(content) > found.st_size:
                raise BundleError(f"{path}, which grows while it is read", "a file that stays", _AGAIN)
            return content
    except FileNotFoundError:
        raise
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EMLINK)  # the second on BSD
        raise BundleError(
            f"{path}, a link" if link else f"{path} cannot be read ({error.strerror or error})", "a file", _AGAIN
        ) from error
