"""The benchmarks of the field run whole in their short forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[Any, str]]


def test_every_disturbance_is_watched_on_both_weeks(run_benchmark: Run) -> None:
    result, page = run_benchmark("field.drift")

    for found in result["sets"].values():
        assert len(found["cases"]) == 12
        assert all(len(starts) == 4 for starts in found["cases"].values())
    assert [row["sensors"] for row in result["cost"]] == [6]
    assert "| clock 6 hours ahead |" in page


@pytest.mark.needs_system_package("chromium")
def test_the_page_of_both_networks_is_drawn(run_benchmark: Run) -> None:
    pytest.importorskip("playwright")
    result, page = run_benchmark("field.status_page")

    assert [one["sensors"] for one in result["found"]] == [8, 50]
    assert all(answer["bytes"] > 0 for one in result["found"] for answer in one["answers"].values())
    assert "| `/healthz` |" not in page
    assert "| `/api/values` |" in page


def test_a_monitor_is_asked_with_and_without_slow_clients(run_benchmark: Run) -> None:
    result, page = run_benchmark("field.slow_clients")

    assert [(one["clients"], len(one["answered_ms"])) for one in result["found"]] == [(0, 2), (4, 2)]
    assert "| 4 | 2 |" in page
