"""Public recordings with their public graphs train and export as their authors distribute them, a command each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stunet_deploy.bundle import Bundle
from tests.paths import ROOT

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


def stunet(*arguments: object) -> dict[str, object]:
    """Run a command with --json in a process of its own and return its answer."""
    command = [sys.executable, "-m", "stunet_deploy", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("recording", "graph", "protocol", "first", "last"),
    [
        ("metr-la.h5", "adj_mx.pkl", "a", "773869", "769373"),
        ("PeMSD7_V_228.csv", "PeMSD7_W_228.csv", "b", "0", "227"),
        ("los_speed.csv", "los_adj.csv", "a", "773869", "769373"),
    ],
)
def test_it_trains_and_exports(
    recording: str, graph: str, protocol: str, first: str, last: str, shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    model = tmp_path / "model.pt"
    files = ["--data", shared_data / "layouts" / recording, "--graph", shared_data / "layouts" / graph]
    limits = ["--config", tmp_path / "tiny.toml", "--max-minutes", 0.02]

    trained = stunet("train", *files, *limits, "--timezone", "America/Los_Angeles", "--out", model)
    exported = stunet("export", model)

    assert trained["protocol"] == protocol
    manifest = Bundle.load(str(exported["bundle"])).manifest
    assert (manifest.sensor_ids[0], manifest.sensor_ids[-1]) == (first, last)
    assert (manifest.units, manifest.timezone, manifest.interval_s) == (("mph",), "America/Los_Angeles", 300)
