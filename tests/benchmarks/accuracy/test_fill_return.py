"""The shares of the fill's return are compared on the validation span, in small; the choice is left to the weeks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.accuracy.fill_return import SPANS


def test_every_share_forecasts_with_the_same_weights_and_no_run_is_repeated(
    run_benchmark: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, page = run_benchmark("accuracy.fill_return", "--set", "metr-la")
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.accuracy.fill_return.TrainingRun", None)  # a run that is stored needs none
        again, _ = run_benchmark("accuracy.fill_return", "--set", "metr-la")

    assert again["runs"] == found["runs"]
    assert [run["span"] for run in found["runs"]] == list(SPANS)
    assert {run["fill"] for run in found["runs"]} == {"usual"}
    assert [run["share"] for run in found["runs"]] == pytest.approx(
        [1, 2 / 4, 2 / 7, 2 / 13, 2 / 25, 2 / 49, 2 / 97, 0]
    )
    assert len({run["validation_mae"] for run in found["runs"]}) == 1
    # 432 intervals, 409 windows: 286 to train, 82 to test, of the 41 between those without a label of the test.
    counts = {one["count"] for run in found["runs"] for one in run["results"]}
    assert max(counts) <= 6 * (41 - 11)
    days = [[one["mae"] for one in run["results"] if one["loss"] == "sensors for days"] for run in found["runs"]]
    assert days[0] != days[3] != days[-1]
    assert page.count("| 1 | 0.154 |") == 1
