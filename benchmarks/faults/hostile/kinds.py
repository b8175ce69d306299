"""A kind of hostile file, where it is written, and the commands that a user would give it to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
NS = 10**9
#: A file that belongs to none of the kinds, beside what they write, and its content, of which nothing may come out.
FOREIGN, SECRET = "foreign", "this belongs to somebody else and is 64 bytes long for all to see"

#: The words of a command.
Words = list[str]


@dataclass(frozen=True)
class Place:
    """Where a kind writes.

    Attributes:
        folder: of its own.
        good: a folder with ``speeds.csv``, ``graph.csv``, ``model.pt`` and ``model.bundle``, with which nothing is
            wrong.
        large: whether to write the large size, where there are two.
    """

    folder: Path
    good: Path
    large: bool

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file and return its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def sparse(self, name: str, size: int, head: bytes = b"") -> Path:
        """Write a file that ends in zeros, which take no room on the disk."""
        path = self.write(name, head)
        os.truncate(path, size)
        return path

    def size(self, small: int, large: int) -> int:
        """Return the number that belongs to the size."""
        return large if self.large else small


#: Writes a file and returns the command.
Maker = Callable[[Place], Words]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: in words.
        make: writes it.
        read: whether nothing is wrong with it, so that it is to be read.
    """

    name: str
    make: Maker
    read: bool = False


def look(path: Path) -> Words:
    """Return the command that looks at a data file."""
    return ["data", "inspect", str(path)]


def train(place: Place, *, data: Path | None = None, graph: Path | None = None, **options: object) -> Words:
    """Return the command that trains for a moment, on good files where no other is given."""
    words = ["train", "--data", str(data or place.good / "speeds.csv"), "--epochs", "1", "--max-minutes", "0.01"]
    words += ["--graph", str(graph or place.good / "graph.csv"), "--out", str(place.folder / "new.pt")]
    return words + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def graph(name: str, content: Callable[[Place], bytes | str]) -> Maker:
    """Return the maker of a graph to train with."""
    return lambda place: train(place, graph=place.write(name, content(place)))


def file(name: str, content: Callable[[Place], bytes | str]) -> Maker:
    """Return the maker of a data file to look at."""
    return lambda place: look(place.write(name, content(place)))


def cut_off(make: Maker, name: str) -> Maker:
    """Return the maker of a file that ends in its middle."""

    def cut(place: Place) -> Words:
        words = make(place)
        os.truncate(place.folder / name, (place.folder / name).stat().st_size * 6 // 10)
        return words

    return cut
