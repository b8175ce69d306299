"""The fault suite in short: ``make faults`` runs it in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paths import ROOT


def run(out, bundle, only, *options):
    """Run parts of the suite, which must find no failure, and return their rows."""
    command = [sys.executable, "-m", "benchmarks.faults", "--only", only, "--out", str(out), *options]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((out / "reliability.json").read_text())["parts"]
    assert sorted(parts) == sorted(only.split(","))
    rows = [row for part in parts.values() for row in part["rows"]]
    assert [row["failures"] for row in rows] == [[]] * len(rows)
    page = (out / "reliability.md").read_text()
    assert all(f"| {row['fault']} |" in page for row in rows)
    return rows


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL and no select on pipes on this system")


def test_a_process_killed_at_random_instants_loses_and_doubles_nothing(example, tmp_path):
    rows = run(tmp_path, example.bundle.path, "kills", "--kills", "12", "--intervals", "60")
    assert [row["fault"].partition(",")[0] for row in rows] == ["kill -9"] * 4
    assert sum(row["times"] for row in rows) >= 12


def test_damage_of_every_file_is_detected_and_a_bad_disk_survived(example, tmp_path):
    rows = run(tmp_path, example.bundle.path, "damage,disks", "--flips", "30")
    flipped = [row["times"] for row in rows if row["fault"].startswith("one bit of")]
    assert flipped == [30] * (2 + 1 + len(example.bundle.manifest.files))


@pytest.mark.needs_system_package("mosquitto")
def test_wrong_messages_are_refused_counted_and_change_nothing_and_a_broker_may_come_and_go(example, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    rows = run(tmp_path, example.bundle.path, "messages,brokers", "--messages", "400", "--restarts", "3")
    assert [row["times"] for row in rows] == [403, 400, 400, 3]


def test_damaged_recordings_are_refused_or_replayed(example, tmp_path):
    pytest.importorskip("pyarrow")
    rows = run(tmp_path, example.bundle.path, "recordings", "--messages", "150")
    assert sum(row["times"] for row in rows) == 150


def test_a_stream_goes_on_step_after_step(example, tmp_path):
    (row,) = run(tmp_path, example.bundle.path, "endurance", "--steps", "3000")
    assert row["times"] == row["data"]["steps"] == 3000


def test_clocks_that_jump_and_days_with_gaps_with_the_suite_s_own_model(tmp_path):
    rows = run(tmp_path, None, "clocks,gaps")
    assert len(rows) == 8
