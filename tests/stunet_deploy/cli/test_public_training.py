"""Public recordings with their public graphs train as their authors distribute them, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stunet_deploy.checkpoint import Checkpoint

from .conftest import run_stunet

CONFIG = """\
[model]
hidden = 8
chebyshev_order = 2
window = 3
horizon = 3
time_features = "day"
[training]
epochs = 1
batch = 4
chunk = 48
warm_up = 3
"""


@pytest.mark.parametrize(
    ("recording", "graph", "protocol", "first", "last"),
    [
        ("metr-la.h5", "adj_mx.pkl", "a", "773869", "769373"),
        pytest.param("PeMSD7_V_228.csv", "PeMSD7_W_228.csv", "b", "0", "227", marks=pytest.mark.slow),
        pytest.param("los_speed.csv", "los_adj.csv", "a", "773869", "769373", marks=pytest.mark.slow),
    ],
)
def test_it_trains(
    recording: str, graph: str, protocol: str, first: str, last: str, shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    model = tmp_path / "model.pt"
    files = ["--data", shared_data / "layouts" / recording, "--graph", shared_data / "layouts" / graph]
    limits = ["--config", tmp_path / "tiny.toml", "--max-minutes", 0.02]
    arguments = ["train", *files, *limits, "--timezone", "America/Los_Angeles", "--out", model, "--json"]

    assert json.loads(run_stunet([*map(str, arguments)]))["protocol"] == protocol

    site = Checkpoint.load(model).site
    assert (site.sensor_ids[0], site.sensor_ids[-1]) == (first, last)
    assert (site.units, site.timezone, site.interval_s) == (("mph",), "America/Los_Angeles", 300)
