"""The table of the suite: a row for each kind of fault."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.page import commit, machine, page, table


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        fault: what was done.
        times: how often.
        failures: what went wrong, one text each.
        seen: what else was counted or measured.
        skipped: why it was not done, if so.
        data: measurements for the JSON beside the page.
    """

    fault: str
    times: int
    failures: list[str]
    seen: str
    skipped: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.fault}: skipped, {self.skipped}"
        said = "".join(f"\n    {failure}" for failure in self.failures[:5])
        return f"{self.fault}: {self.times:,} times, {len(self.failures)} failures; {self.seen}{said}"


def guarded(part: str, rows: Callable[[], Iterable[Row]]) -> list[Row]:
    """Return the rows of a part of the suite; if it breaks off, a row that says so."""
    found = []
    try:
        for row in rows():
            print(row, flush=True)
            found.append(row)
    except Exception as error:
        traceback.print_exc()
        found.append(Row(part, 0, [f"broken off: {type(error).__name__}: {error}"], ""))
    return found


def differences(found: dict[Any, Any], expected: dict[Any, Any], what: str) -> list[str]:
    """Return a text for each entry that is missing, was not expected, or is another."""
    lines = [f"no {what} {key}" for key in expected.keys() - found.keys()]
    lines += [f"unexpected {what} {key}" for key in found.keys() - expected.keys()]
    return lines + [f"another {what} {key}" for key in found.keys() & expected.keys() if found[key] != expected[key]]


def report(result: dict[str, Any]) -> str:
    """Return the table as a page: for each part its commit and its rows."""
    rows = []
    for part in result["parts"].values():
        for row in part["rows"]:
            counts = ["0", ""] if row["skipped"] else [f"{row['times']:,}", len(row["failures"])]
            seen = f"skipped: {row['skipped']}" if row["skipped"] else row["seen"]
            rows.append([row["fault"], *counts, seen, commit(part)])
    return page(
        "Reliability",
        f"`make faults` (`{result['command']}`; `--only PART` measures a part anew) on "
        f"{machine(result['environment'], 'paho-mqtt', 'mosquitto')} Seed {result['seed']}. What is done, and what "
        "counts as a failure, is said in the modules of `benchmarks/faults`; the JSON beside this page names each "
        "failure.",
        table(["fault", "times", "failures", "", "commit"], rows),
    )
