"""A search through the command line: its answer, its table, and a training with what it found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.weeks import small_recording
from stunet_deploy.cli import main

Answer = Callable[..., Any]


def test_the_best_settings_are_those_that_train_takes(tmp_path: Path, answer: Answer) -> None:
    data, study = small_recording(tmp_path / "small.npz"), tmp_path / "study"
    search = ("search", "--data", data, "--minutes-each", 0.01, "--out", study)

    answer(*search, "--trials", 1)
    found = answer(*search, "--trials", 2)

    assert found["complete"] == 2
    assert found["preset_validation_mae"] >= found["best"]["validation_mae"]
    assert sorted(path.name for path in study.iterdir()) == ["best.toml", "study.journal", "trials.csv"]
    model = tmp_path / "model.pt"
    trained = answer("train", "--data", data, "--config", found["config"], "--max-minutes", 0.01, "--out", model)
    assert trained["epochs"] >= 1
    assert model.is_file()


def test_errors_of_the_user_are_exit_code_2_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, study = small_recording(tmp_path / "small.npz"), tmp_path / "study"

    assert main(["search", "--data", str(data), "--targets", "flow", "--out", str(study)]) == 2
    assert "error:    feature 'flow'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["search", "--data", str(data), "--trials", "0"])
    assert ended.value.code == 2
    assert not study.exists()
