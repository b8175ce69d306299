"""A training that is interrupted, then killed, and resumed each time is the training that was left alone."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.paths import ROOT

from .conftest import CONFIG, Place, run_stunet

EPOCHS = 6


def stop_after(epoch: int, how: signal.Signals, arguments: list[str]) -> tuple[int, str]:
    """Start a training, send it a signal once an epoch is logged, return the exit code and the rest it said."""
    command = [sys.executable, "-m", "stunet_deploy", *arguments]

    def hear_interrupts() -> None:
        """Undo what a shell does to background jobs: those ignore SIGINT, and hand that on to what they start."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith(f"epoch {epoch:3d}/"):
                run.send_signal(how)
                break
        rest = run.stderr.read()
    return run.returncode, rest


def read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]


def test_interrupted_and_killed_trainings_resume_to_the_same_model(place: Place, tmp_path: Path) -> None:
    config = tmp_path / "long.toml"
    config.write_text(CONFIG.format(epochs=EPOCHS))
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken.pt"
    run_stunet(place.train_arguments(whole, config))

    code, said = stop_after(1, signal.SIGINT, place.train_arguments(broken, config))
    assert code == 130
    assert "--resume" in said
    assert "Traceback" not in said
    code, _ = stop_after(3, signal.SIGKILL, [*place.train_arguments(broken, config), "--resume"])
    assert code == -signal.SIGKILL
    assert not broken.exists()
    assert (tmp_path / "broken.pt.state").is_file()
    run_stunet([*place.train_arguments(broken, config), "--resume"])

    expected, found = (torch.load(path, weights_only=True) for path in (whole, broken))
    assert expected["weights"].keys() == found["weights"].keys()
    for name, weight in expected["weights"].items():
        assert torch.equal(weight, found["weights"][name]), name
    assert expected["meta"] == found["meta"]
    assert read_log(tmp_path / "broken.log.csv") == read_log(tmp_path / "whole.log.csv")
    assert not (tmp_path / "broken.pt.state").exists()
