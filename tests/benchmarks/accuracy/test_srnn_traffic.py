"""Both families on a small week under the names of the real ones: what is scored, stored and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.srnn_tasks import reproduce
from benchmarks.accuracy.srnn_traffic import TRAFFIC, WEEKS, read_traffic_config, run
from stunet_deploy.errors import ConfigError
from tests.paths import ROOT

CONFIGS = ROOT / "benchmarks" / "configs" / "tasks"
SENSORS, ROWS = 5, 400
META = json.dumps({"freq_minutes": 5})
SMALL = """
[model]
{widths}
[training]
epochs = 1
batch = 2
chunk = 24
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ring of sensors with a daily wave, as a week of METR-LA; small configs of both families beside it."""
    rng = np.random.default_rng(0)
    adjacency = np.roll(np.eye(SENSORS), 1, axis=1) + np.roll(np.eye(SENSORS), -1, axis=1)
    wave = 10 * np.sin(2 * np.pi * np.arange(ROWS)[:, None] / 288 + np.arange(SENSORS))
    speed = (50 + wave + rng.normal(0, 1, (ROWS, 1))).astype(np.float32)
    start = np.datetime64("2012-03-05T00:00:00")
    stamps = [str(start + np.timedelta64(5 * row, "m")) for row in range(ROWS)]
    ids = [f"s{node}" for node in range(SENSORS)]
    arrays = {"speed": speed, "timestamps": stamps, "sensor_ids": ids, "adjacency": adjacency, "meta": META}
    np.savez(tmp_path / "metr-la.npz", **arrays)
    (tmp_path / "metr-la.toml").write_text(SMALL.format(widths="hidden = 4"))
    (tmp_path / "metr-la-srnn.toml").write_text(SMALL.format(widths="edge_hidden = 4\nnode_hidden = 4"))
    (tmp_path / "traffic.toml").write_text('minutes = 1\nconfigs = "."')
    return tmp_path


@pytest.mark.parametrize("model", TRAFFIC.models)
def test_every_row_is_scored_at_the_same_horizons(folder: Path, model: str) -> None:
    config = read_traffic_config(folder / "traffic.toml")
    epochs: list[int] = []

    found = run(folder, config, model, "metr-la", 0, lambda epoch, error: epochs.append(epoch))

    for regime in ("window", "stream"):
        for error in ("MAE", "RMSE"):
            assert [*found.scores[regime][error]] == ["15 min", "30 min", "60 min"]
            assert all(0 < number < 50 for number in found.scores[regime][error].values())
    assert (found.checkpoint is None) == (model == "persistence")
    assert epochs == ([] if found.checkpoint is None else [0])


def test_a_run_is_known_by_the_config_of_its_own_model(folder: Path) -> None:
    config = read_traffic_config(folder / "traffic.toml")
    before = {model: TRAFFIC.identity(config, model, "metr-la", 0) for model in TRAFFIC.models}
    (folder / "metr-la-srnn.toml").write_text(SMALL.format(widths="edge_hidden = 5\nnode_hidden = 4"))
    after = read_traffic_config(folder / "traffic.toml")

    changed = [model for model in TRAFFIC.models if TRAFFIC.identity(after, model, "metr-la", 0) != before[model]]

    assert changed == ["srnn"]


def test_the_page_is_written_by_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(folder), "--config", str(folder / "traffic.toml"), "--folds", "metr-la", "--seeds", "1"]

    reproduce(TRAFFIC, None, [*options, "--out", str(folder / "results"), "--models", "srnn"])

    assert "## One week of METR-LA, stream" in capsys.readouterr().out
    (stored,) = json.loads((folder / "results" / "srnn-traffic.json").read_text())["runs"]
    assert stored["scores"]["epochs"] == 1
    assert stored["config"]["model"]["edge_hidden"] == 4


@pytest.mark.parametrize("week", WEEKS)
@pytest.mark.parametrize("model", ["srnn", "stunet"])
def test_the_configs_of_the_repository_are_read(model: str, week: str) -> None:
    assert read_traffic_config(CONFIGS / "traffic.toml").run_config(model, week).model.horizon == 12


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("minutes = 1", "configs"),
        ('minutes = "long"\nconfigs = "."', "minutes = 'long'"),
        ('minutes = 0\nconfigs = "."', "minutes = 0"),
    ],
)
def test_a_wrong_config_is_refused(folder: Path, text: str, named: str) -> None:
    (folder / "wrong.toml").write_text(text)

    with pytest.raises(ConfigError, match=named):
        read_traffic_config(folder / "wrong.toml")


def test_an_absent_config_of_a_model_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"pemsd7-m-srnn.toml"):
        TRAFFIC.identity(read_traffic_config(folder / "traffic.toml"), "srnn", "pemsd7-m", 0)
