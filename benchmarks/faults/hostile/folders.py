"""Hostile folders of bundles: links, pipes and names that lead out of them, and files larger than any."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.hostile.kinds import FOREIGN, SECRET, Kind, Maker, Place, Words
from benchmarks.faults.hostile.models import whole_bundle
from stunet_deploy.files import sha256


def after(change: Callable[[Path], object]) -> Maker:
    """Return the maker of a bundle whose folder is changed when its manifest is written."""

    def make(place: Place) -> Words:
        words = whole_bundle(lambda folder: None)(place)
        (place.folder / FOREIGN).write_text(SECRET)
        change(place.folder / "model.bundle")
        return words

    return make


def linked(name: str, target: str) -> Callable[[Path], None]:
    """Return what puts a link in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def moved(name: str) -> Callable[[Path], None]:
    """Return what moves a file away, with a link to it in its place."""

    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return change


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what puts something else in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def endless(path: Path) -> None:
    """Write a file that is as large as a disk and takes no room."""
    path.touch()
    os.truncate(path, 1 << 40)


def named(name: str, content: bytes = SECRET.encode()) -> Maker:
    """Return the maker of a bundle that names a further file, with the hash of a content."""
    return whole_bundle(lambda _: None, lambda data: data["files"].update({name: sha256(content)}))


def golden(change: Callable[[dict[str, Any]], object]) -> Maker:
    """Return the maker of a bundle whose golden stream is changed."""

    def alter(folder: Path) -> None:
        with np.load(folder / "golden.npz") as loaded:
            content = dict(loaded)
        change(content)
        np.savez(folder / "golden.npz", **content)

    return whole_bundle(alter)


def engines(folder: Path) -> None:
    """Let the folder of engines be that of somebody else."""
    (folder.parent / "others").mkdir()
    (folder / "engines").symlink_to(folder.parent / "others")


def engine_note(folder: Path) -> None:
    """Put a pipe in the place of the note of an engine."""
    (folder / "engines").mkdir()
    (folder / "engines" / "x.engine").touch()
    os.mkfifo(folder / "engines" / "x.json")


def inspected(make: Maker) -> Maker:
    """Return the maker of the same bundle that is looked at, engines included."""
    return lambda place: ["inspect", *make(place)[1:]]


def deep_manifest(folder: Path) -> None:
    """Let the manifest name very many files."""
    data = json.loads((folder / "manifest.json").read_text())
    data["files"] |= {f"step.{number}.onnx": "0" * 64 for number in range(100_000)}
    (folder / "manifest.json").write_text(json.dumps(data))


#: What is in the place of a file.
INSTEAD: Mapping[str, Callable[[str], Callable[[Path], None]]] = {
    "a link to a foreign file": lambda name: linked(name, f"../{FOREIGN}"),
    "a link to the true one": moved,
    "a link to itself": lambda name: linked(name, name),
    "a link to a device": lambda name: linked(name, "/dev/zero"),
    "a pipe": lambda name: replaced(name, os.mkfifo),
    "a folder": lambda name: replaced(name, os.mkdir),
    "as large as a disk": lambda name: replaced(name, endless),
}
KINDS = (
    *(
        Kind(f"a bundle whose {name} is {words}", after(change(name)))
        for name in ("step.onnx", "golden.npz", "manifest.json")
        for words, change in INSTEAD.items()
    ),
    *(
        Kind(f"a bundle that names a file {name!r}", named(name))
        for name in (*(f"../{FOREIGN}", "../../etc/passwd", "/etc/passwd", "engines/x"), *("step.onnx\0", ".", "", "w"))
    ),
    Kind("a bundle that names its manifest", named("manifest.json")),
    Kind("a bundle that names very many files", after(deep_manifest)),
    Kind("a bundle whose golden stream lacks an array", golden(lambda content: content.pop("scored"))),
    Kind(
        "a bundle whose golden stream has rows that are not there",
        golden(lambda content: content.update(scored=content["scored"] + 10**9)),
    ),
    Kind("a bundle whose golden stream is of another type", golden(lambda c: c.update(values=c["values"] > 0))),
    Kind("a bundle whose golden stream has no interval", golden(lambda c: c.update(timestamps=c["timestamps"][:0]))),
    Kind("a bundle with engines behind a link", inspected(after(engines))),
    Kind("a bundle with a pipe for the note of an engine", inspected(after(engine_note)), read=True),
)  # fmt: skip
