"""The benchmark of the parts of a step: its harness, not the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy.ablation import ROWS
from benchmarks.harness.weeks import small_recording
from benchmarks.speed.step_parts import BARE_TITLE, configurations
from stunet_deploy.series.series import read_series


def test_the_benchmark_writes_its_page(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    result, page = run_benchmark("speed.step_parts")
    first = ROWS[0].title
    assert list(result["models"]) == [ROWS[0].title, ROWS[1].title, BARE_TITLE]
    assert result["against_first"][first] == result["against_bare"][BARE_TITLE] == 1
    assert result["against_first"].keys() == result["samples_us"].keys()
    assert f"| {BARE_TITLE} |" in page


@pytest.mark.slow
def test_every_model_is_there_once_and_the_bare_one_has_no_perceptron(tmp_path: Path) -> None:
    found = configurations(read_series(small_recording(tmp_path / "data.npz")), len(ROWS))
    models = [config.model for config in found.values()]
    assert all(models.count(model) == 1 for model in models)
    bare, default = found[BARE_TITLE].model, found[ROWS[0].title].model
    assert (bare.lags, bare.profile, bare.hidden, bare.scales) == (0, False, default.hidden, default.scales)
