"""Files of a bundle are plain ones of known names; links, pipes and files beyond any size are refused unread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stunet_deploy.bundle_files import LARGEST, check_names, read_bundle_file
from stunet_deploy.errors import BundleError

SECRET = b"not to be read"


def linked(path: Path) -> None:
    (path.parent / "foreign").write_bytes(SECRET)
    path.symlink_to(path.parent / "foreign")


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST[path.suffix] + 1)


INSTEAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (linked, "a link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "a link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "a link"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a link"),
    "a pipe": (os.mkfifo if hasattr(os, "mkfifo") else large, "no file"),
    "a folder": (os.mkdir, "cannot be read"),
    "a large file": (large, "larger than"),
}


@pytest.mark.parametrize("suffix", LARGEST)
def test_a_file_is_read_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    for content in (b"", SECRET):
        path.write_bytes(content)
        assert read_bundle_file(path) == content


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bundle_file(tmp_path / "step.onnx")


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "of today").mkdir()
    (tmp_path / "of today" / "step.onnx").write_bytes(SECRET)
    (tmp_path / "current").symlink_to("of today")

    assert read_bundle_file(tmp_path / "current" / "step.onnx") == SECRET


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes, and links need a right")
@pytest.mark.parametrize("kind", INSTEAD)
@pytest.mark.parametrize("name", ["step.onnx", "golden.npz", "manifest.json", "x.engine"])
def test_what_is_no_file_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    make, reason = INSTEAD[kind]
    make(tmp_path / name)

    with pytest.raises(BundleError, match=reason) as refused:
        read_bundle_file(tmp_path / name)

    assert SECRET.decode() not in str(refused.value)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "engines/a", "a\0", "", ".", "A", "b"])
def test_names_are_known_ones(name: str) -> None:
    check_names(["a"], ("a", "c"), Path("bundle"))
    with pytest.raises(BundleError, match="with a file"):
        check_names(["a", name], ("a", "c"), Path("bundle"))
