"""The fault suite in short: ``make faults`` runs it in full."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.__main__ import PARTS
from benchmarks.faults.clients import KINDS
from benchmarks.faults.receivers import WAYS
from stunet_deploy.bundle import Bundle
from tests.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL and no select on pipes on this system"),
]


@pytest.fixture
def run(small: Path, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """A function that runs parts of the suite, which must find no failure, and returns their rows.

    In a process of its own: the suite takes standard input away and limits the size of files.
    """

    def run_parts(*parts: str, other: Path | None = None) -> list[dict[str, Any]]:
        out = tmp_path / "-".join(parts)
        options = ["--quick", "--bundle", str(small), "--only", *parts, "--out", str(out)]
        options += [] if other is None else ["--other", str(other)]
        command = [sys.executable, "-m", "benchmarks.faults", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((out / "reliability.json").read_text(encoding="utf-8"))
        page = (out / "reliability.md").read_text(encoding="utf-8")
        assert list(found["parts"]) == [part for part in PARTS if part in parts]
        rows = [row for part in found["parts"].values() for row in part["rows"]]
        assert [row["failures"] for row in rows] == [[]] * len(rows)
        assert all(f"| {row['fault']} |" in page for row in rows)
        return rows

    return run_parts


def test_a_process_killed_at_random_instants_loses_and_doubles_nothing(run: Any) -> None:
    rows = run("kills")
    assert [row["fault"].partition(",")[0] for row in rows] == ["kill -9"] * 4
    assert sum(row["times"] for row in rows) >= 12


def test_a_service_ends_in_good_order_whenever_it_is_told_to(run: Any) -> None:
    assert [row["times"] for row in run("signals")] == [2, 2, 2]


def test_damage_of_every_file_is_detected_and_a_bad_disk_survived(run: Any, small: Path) -> None:
    rows = run("damage", "disks")
    flipped = [row["times"] for row in rows if row["fault"].startswith("one bit of")]
    assert flipped == [30] * (2 + 1 + len(Bundle.load(small).manifest.files))


def test_nobody_but_the_owner_of_the_key_can_alter_a_signed_bundle(run: Any) -> None:
    assert [row["times"] for row in run("signatures")] == [20] * 4


@pytest.mark.needs_system_package("mosquitto")
def test_wrong_messages_are_refused_counted_and_change_nothing_and_a_broker_may_come_and_go(run: Any) -> None:
    pytest.importorskip("paho.mqtt.client")
    rows = run("messages", "brokers", "hostile-brokers")
    assert [row["times"] for row in rows] == [403, 400, 400, 3, 12]


@pytest.mark.needs_system_package("mosquitto")
def test_a_service_killed_while_its_broker_comes_and_goes_loses_and_doubles_nothing(run: Any) -> None:
    pytest.importorskip("paho.mqtt.client")
    assert [row["times"] for row in run("broker kills")] == [2] * 4


@pytest.mark.needs_system_package("mosquitto")
def test_days_in_fast_forward(run: Any, other: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    one, restarts = run("month", other=other)
    assert "other bundle 1 times" in one["seen"]
    assert len(restarts["data"]["least_of_each_day"]) == 1


@pytest.mark.needs_system_package("mosquitto")
def test_outages_lose_and_double_nothing(run: Any) -> None:
    pytest.importorskip("paho.mqtt.client")
    assert [row["times"] for row in run("outages")] == [2, 2]


def test_damaged_recordings_are_refused_or_replayed(run: Any) -> None:
    pytest.importorskip("pyarrow")
    assert sum(row["times"] for row in run("recordings")) == 400


def test_receivers_and_clients_that_hang_hold_up_no_stream(run: Any) -> None:
    assert [row["times"] for row in run("receivers")] == [6] * len(WAYS)
    assert len(run("clients")) == len(KINDS)


def test_a_stream_goes_on_step_after_step(run: Any) -> None:
    (row,) = run("endurance")
    assert row["times"] == row["data"]["steps"] == 3000


def test_clocks_that_jump_and_days_with_gaps(run: Any) -> None:
    assert len(run("clocks", "gaps")) == 8


def test_hostile_manifests_are_refused_or_good_for_a_stream(run: Any) -> None:
    (row,) = run("manifests")
    assert row["times"] == sum(row["data"]["codes"].values()) == 40


def test_hostile_bundles_are_refused_and_the_good_one_is_verified(run: Any) -> None:
    hostile, good = run("bundles")[:2]
    assert hostile["times"] >= 6
    assert good["times"] == 2
