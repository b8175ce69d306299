"""Runs that are kept as they end, so that a benchmark that is stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.page import stored, write

#: A stored run: its identity, its scores, and where and how long it ran.
Run = dict[str, Any]


class Store:
    """The runs of a benchmark, in the JSON behind its page.

    A run is found by its identity: entries of its own that no run of other settings shares. Its commit is not one of
    them, so that a change elsewhere repeats nothing; remove the file to do all runs anew.

    Args:
        path: of the JSON.

    Attributes:
        runs: all that are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[Run] = stored(path).get("runs", [])

    def find(self, identity: Mapping[str, Any]) -> list[Run]:
        """Return the runs of an identity."""
        known = _as_stored(identity)
        return [run for run in self.runs if known.items() <= run.items()]

    def add(self, *runs: Run) -> None:
        """Keep runs."""
        self.runs += map(_as_stored, runs)
        write(self._path, json.dumps({"runs": self.runs}, ensure_ascii=False) + "\n")


def _as_stored(run: Mapping[str, Any]) -> Run:
    """Return what a file of JSON makes of a run: a tuple is a list there."""
    stored_run: Run = json.loads(json.dumps(run))
    return stored_run
