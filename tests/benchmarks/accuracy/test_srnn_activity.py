"""The command of an experiment does the missing runs, keeps the stored ones, and leaves checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.accuracy.srnn_activity import ACTIVITY
from benchmarks.accuracy.srnn_motion import MOTION
from benchmarks.accuracy.srnn_tasks import reproduce
from stunet_deploy import cli
from stunet_deploy.checkpoint import Checkpoint
from tests.paths import ROOT

CONFIGS = ROOT / "benchmarks" / "configs" / "tasks"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The activities' config with few updates and few channels."""
    text = (CONFIGS / "activity.toml").read_text(encoding="utf-8")
    for name, number in {"updates": 4, "sequences": 20, "steps": 6, "edge_hidden": 4, "node_hidden": 6}.items():
        text = re.sub(rf"^{name} = \d+", f"{name} = {number}", text, flags=re.M)
    (tmp_path / "human-object-generated.toml").write_text((CONFIGS / "human-object-generated.toml").read_text())
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def run(config: Path, tmp_path: Path) -> Callable[..., None]:
    """Return what runs the experiment with that config and its results in the test's folder."""

    def run(*options: str) -> None:
        reproduce(ACTIVITY, None, ["--config", str(config), "--out", str(tmp_path), "--seeds", "1", *options])

    return run


def test_runs_are_stored_and_not_repeated(
    run: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--models", "srnn")
    first = capsys.readouterr()
    before = json.loads((tmp_path / "srnn-activity.json").read_text())["runs"]
    run()
    second = capsys.readouterr()

    assert "GENERATED" in first.out
    assert "srnn, all, seed 0: stored" in second.err
    runs = json.loads((tmp_path / "srnn-activity.json").read_text())["runs"]
    assert [one["model"] for one in runs] == ["srnn", "lstm", "rule"]
    assert runs[:1] == before
    assert "| rule | 1.00 | 1.00 |" in (tmp_path / "srnn-activity.md").read_text()


def test_stored_runs_that_are_not_asked_for_stay_on_the_page(run: Callable[..., None], tmp_path: Path) -> None:
    run("--models", "lstm")
    run("--models", "rule")

    assert [one["model"] for one in json.loads((tmp_path / "srnn-activity.json").read_text())["runs"]] == [
        "lstm",
        "rule",
    ]


def test_other_settings_are_run_anew(
    run: Callable[..., None], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--models", "srnn")
    config.write_text(config.read_text().replace("updates = 4", "updates = 5"))
    capsys.readouterr()

    run("--models", "srnn")

    assert "stored" not in capsys.readouterr().err


def test_checkpoints_are_kept(run: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--models", "srnn", "--checkpoints", str(tmp_path / "kept"))

    path = tmp_path / "kept" / "srnn-activity-srnn-all-0.pt"
    assert Checkpoint.load(path).training["task"] == "activity (generated)"
    assert cli.main(["evaluate", str(path), "--data", "a recording without labels.csv"]) == 2
    assert "no feature of a recording" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [(("--models", "gru"), "gru"), (("--folds", "9"), "9"), (("--config", "absent.toml"), "absent.toml")],
)
def test_what_is_unknown_is_named(
    run: Callable[..., None], options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*options)

    assert named in capsys.readouterr().err


def test_absent_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        reproduce(MOTION, None, ["--data", str(tmp_path), "--out", str(tmp_path), "--models", "zero-velocity"])

    assert "cmu-mocap.npz" in capsys.readouterr().err
