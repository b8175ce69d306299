"""Runs that are kept as they end, so that a benchmark that is stopped goes on where it was."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
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

    def complete(
        self,
        wanted: Iterable[tuple[Any, ...]],
        identify: Callable[..., Mapping[str, Any]],
        run: Callable[..., Run],
        processes: int,
        line: Callable[[Run], str],
    ) -> None:
        """Do the runs that are not kept yet, each in one of so many processes, and keep each as it ends.

        Args:
            wanted: arguments of every run.
            identify: returns the identity of the run of such arguments.
            run: does it, its identity among what it returns.
            processes: at a time.
            line: says in a line what came of a run.
        """
        todo = [arguments for arguments in wanted if not self.find(identify(*arguments))]
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(run, *one) for one in todo]
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    self.add(future.result())
                    print(f"{done}/{len(todo)} {line(self.runs[-1])}", flush=True)
            finally:
                pool.shutdown(cancel_futures=True)  # after an error, the runs that have not begun


def _as_stored(run: Mapping[str, Any]) -> Run:
    """Return what a file of JSON makes of a run: a tuple is a list there."""
    stored_run: Run = json.loads(json.dumps(run))
    return stored_run
