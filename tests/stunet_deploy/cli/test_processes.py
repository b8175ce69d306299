"""A training in two processes by command: one model, one log, one answer, and errors as from one process."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.cli import main
from tests.paths import ROOT

from .conftest import CONFIG, Place, run_stunet


def started(arguments: list[str], *launcher: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "stunet_deploy", *arguments, "--json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--processes", "torchrun"])
def test_two_processes_train_the_model_of_one(place: Place, tmp_path: Path, how: str) -> None:
    config = tmp_path / "no-dropout.toml"
    config.write_text(CONFIG.format(epochs=2) + "dropout = 0.0\n", encoding="utf-8")
    alone, model = tmp_path / "alone.pt", tmp_path / "model.pt"
    run_stunet(place.train_arguments(alone, config))
    arguments = place.train_arguments(model, config)
    if how == "--processes":
        done = started([*arguments, "--processes", "2"])
    else:
        done = started(arguments, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr.count("epoch   2") == 1
    expected, found = (Checkpoint.load(path) for path in (alone, model))
    for name, weight in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    assert json.loads(done.stdout)["best_validation_mae"] == found.training["validation_mae"]
    with (tmp_path / "model.log.csv").open(newline="") as log:
        assert [row["epoch"] for row in csv.DictReader(log)] == ["1", "2"]
    assert not (tmp_path / "model.pt.state").exists()


@pytest.mark.slow
def test_an_error_in_processes_is_said_once_with_its_exit_code(place: Place, tmp_path: Path) -> None:
    done = started([*place.train_arguments(tmp_path / "model.pt"), "--processes", "2", "--targets", "volume"])

    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "volume" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_processes_than_gpus_are_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = place.train_arguments(tmp_path / "model.pt")
    gpus = torch.cuda.device_count()

    assert main([*arguments, "--device", "cuda", "--processes", str(gpus + 2)]) == 2
    assert f"{gpus + 2} processes on {gpus} GPUs" in capsys.readouterr().err


def test_processes_are_asked_for_once(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert main([*place.train_arguments(tmp_path / "model.pt"), "--processes", "2"]) == 2
    assert "--processes 2 under torchrun" in capsys.readouterr().err
