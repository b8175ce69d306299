"""Files stay short, and name no machine they were written on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.paths import ROOT

ROOMS = ("stunet_deploy", "training", "export", "runtime")
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".csv", ".html", ".yml", ".yaml", ".service", ".sh", ""}
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/\w+")


def written_files() -> list[Path]:
    """The text files in the repository, without what tools and runs leave behind."""
    folders = (*ROOMS, "tests", "benchmarks", "docs", ".ci")
    below = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [
        path
        for path in [*ROOT.glob("*"), *below]
        if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts and path.name != ".git"
    ]


def test_no_file_of_a_room_is_long() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
    }

    assert {name: lines for name, lines in lengths.items() if lines > 420} == {}


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): match.group()
        for path in written_files()
        if (match := MACHINE_PATH.search(path.read_text(errors="replace")))
    }

    assert found == {}
