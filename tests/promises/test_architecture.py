"""The page on the architecture names the folders, files and classes that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("stunet_deploy", "training", "export", "runtime", "benchmarks")


def test_every_folder_of_code_is_named_and_every_folder_named_is_one() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    named = re.findall(r"^\| `([\w/]+)/` \| \S", PAGE, re.M)

    assert sorted(named) == sorted(folders)


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.\w+)`", PAGE))

    assert len(named) > 20
    assert [path for path in sorted(named) if "/" in path and not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(("noun", "path"), re.findall(r"^\| `([A-Z]\w+)` \| `([\w/]+\.py)` \|", PAGE, re.M))
def test_a_noun_is_defined_in_its_file(noun: str, path: str) -> None:
    assert re.search(rf"^class {noun}\b", (ROOT / path).read_text(encoding="utf-8"), re.M)
