"""The benchmark of many streams runs whole, in small; what it times is left to the machine it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_throughput_compares_groups_and_processes(run_benchmark: Callable[..., tuple[Any, str]], small: Path) -> None:
    found, page = run_benchmark("speed.throughput", "--bundle", small)

    assert [row["streams"] for row in found["batched"]] == [1, 3]
    assert all(row["difference"] <= found["tolerance"] for row in found["batched"])
    assert all(len(row["samples_us"]) == row["push"]["count"] == 3 for row in found["batched"])
    assert {(row["processes"], row["threads"]) for row in found["processes"]} == {(1, 1), (1, 2), (2, 1)}
    assert all(row["push"]["count"] >= 5 * row["processes"] for row in found["processes"])
    assert "| 3 |" in page
