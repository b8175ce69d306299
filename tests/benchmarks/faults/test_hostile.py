"""Hostile files are refused with three clauses, in time and in little memory; what is only large is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

for package in ("h5py", "pyarrow"):
    pytest.importorskip(package)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no fork, or other limits of memory")

from benchmarks.faults.hostile.__main__ import KINDS  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.sharing import Shared  # noqa: E402

#: What the packages that are loaded take, and what a file may take beside them in its small size.
MEGABYTES = 1200


@pytest.fixture(scope="module")
def outcomes(shared: Shared) -> dict[str, Any]:
    """What came of every kind, in processes of their own."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.faults.hostile", "--quick", "--out", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        (folder / "log").write_text(done.stdout + done.stderr, encoding="utf-8")

    folder = shared.folder("hostile", make)
    found = json.loads((folder / "hostile.json").read_text(encoding="utf-8"))["rows"]
    return {row["kind"]: row for row in found}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_refused_or_read_in_little_memory(kind: Any, outcomes: dict[str, Any]) -> None:
    outcome = outcomes[kind.name]

    assert not outcome["failure"], outcome
    assert outcome["megabytes"] < MEGABYTES, outcome


def test_every_kind_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(kind.name for kind in KINDS).items() if count > 1] == []
