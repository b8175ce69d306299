"""``stunet reproduce`` does what is missing, keeps what is stored, and leaves checkpoints that export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stunet_deploy import cli
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


def reproduce(config: Path, out: Path, *options: str) -> int:
    return cli.main(["reproduce", "srnn-activity", "--config", str(config), "--out", str(out), *options])


def test_runs_are_stored_and_not_repeated(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"

    assert reproduce(config, out, "--seeds", "1", "--models", "srnn") == 0
    first = capsys.readouterr()
    before = (out / "srnn-activity" / "srnn-all-0.json").stat().st_mtime_ns
    assert reproduce(config, out, "--seeds", "1", "--json") == 0
    second = capsys.readouterr()

    assert "GENERATED" in first.out
    assert "srnn, all, seed 0: stored" in second.err
    assert (out / "srnn-activity" / "srnn-all-0.json").stat().st_mtime_ns == before
    answer = json.loads(second.out)
    assert [run["model"] for run in answer["runs"]] == ["srnn", "lstm", "rule"]
    assert json.loads((out / "srnn-activity.json").read_text()) == answer
    assert "| rule | 1.00 | 1.00 |" in (out / "srnn-activity.md").read_text()


def test_other_settings_are_run_anew(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, options = tmp_path / "results", ("--seeds", "1", "--models", "srnn")
    reproduce(config, out, *options)
    config.write_text(config.read_text().replace("updates = 4", "updates = 5"))
    capsys.readouterr()

    assert reproduce(config, out, *options) == 0

    assert "stored" not in capsys.readouterr().err


def test_a_checkpoint_becomes_a_bundle_that_streams(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from runtime.stream import Stream
    from stunet_deploy.bundle import Bundle

    kept, bundle = tmp_path / "kept", tmp_path / "activity.bundle"
    options = ("--seeds", "1", "--models", "srnn", "--checkpoints", str(kept))
    assert reproduce(config, tmp_path / "results", *options) == 0

    assert cli.export_main([str(kept / "srnn-activity-srnn-all-0.pt"), "--out", str(bundle)]) == 0
    assert cli.main(["verify", str(bundle)]) == 0
    assert cli.main(["evaluate", str(bundle), "--data", "a recording without labels.csv"]) == 2
    assert "no feature of a recording" in capsys.readouterr().err

    opened = Bundle.load(bundle)
    stream = Stream.open(opened)
    forecast = stream.push({"scene": dict.fromkeys(opened.manifest.features, 0.5)}, 100)
    stream.close()
    assert forecast.values.shape == (2, 1, 7 + 3 * 8)
    assert forecast.values[0, 0, :7].sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [(("--models", "gru"), "--models gru"), (("--folds", "9"), "--folds 9"), (("--config", "absent.toml"), "absent")],
)
def test_what_is_unknown_is_named(
    config: Path, tmp_path: Path, options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(config, tmp_path, *options) == 2
    assert named in capsys.readouterr().err


def test_absent_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "srnn-motion", "--config", str(CONFIGS / "motion-paper.toml"), "--data", str(tmp_path)]

    assert cli.main([*arguments, "--out", str(tmp_path), "--models", "zero-velocity"]) == 2
    assert "cmu-mocap.npz" in capsys.readouterr().err
