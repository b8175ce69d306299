"""What waits to take over a stream: another order, the way back, what fails meanwhile, and what is said of it."""

from __future__ import annotations

import logging
import shutil
import threading

import numpy as np
import pytest

from runtime.service import reloads, worker
from runtime.service.logs import LOG
from runtime.service.web import health
from stunet_deploy.errors import BackendError
from tests.runtime.service.test_swap import STDIN, STDOUT, begin, forecasts_of, handed_out, point_to
from tests.waiting import LONG_S, wait_for

RUNNING, OTHER, THIRD, MISSING, COPY = "running", "other", "third", "missing", "copy"


@pytest.fixture
def said(caplog, monkeypatch):
    """Return a function that counts the lines of the log with a text."""
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, LOG.name)
    return lambda text: sum(text in record.getMessage() for record in caplog.records)


@pytest.fixture
def reload(said):
    """Return a function that orders a reload and waits for its end."""

    def reload(running):
        before = said("has been read again")
        running.service.reload()
        running.wait_for(
            lambda _: (
                said("has been read again") > before
                and not any(thread.name == "reload" for thread in threading.enumerate())
            )
        )

    return reload


@pytest.fixture
def bundles(example, build_example, tmp_path):
    other, third = build_example((2, 1), (3,)).bundle, build_example((3, 1), (2,)).bundle
    shutil.copytree(other.path, tmp_path / "copy")
    paths = {RUNNING: example.bundle.path, OTHER: other.path, THIRD: third.path}
    return (
        {**paths, MISSING: tmp_path / "nothing", COPY: tmp_path / "copy"},
        {RUNNING: example.bundle, OTHER: other, THIRD: third, COPY: other},
    )


class Reader:
    """Reads standard output, or lets the stream wait."""

    def __init__(self, running):
        self.waits, self.reads = threading.Event(), threading.Event()
        write = running.out.write

        def held_up(line):
            self.waits.set()
            assert self.reads.wait(LONG_S)
            write(line)

        running.out.write = held_up


@pytest.mark.parametrize(
    ("orders", "taken", "trouble"),
    [
        ([OTHER], OTHER, None),
        ([OTHER, OTHER], OTHER, None),
        ([OTHER, COPY], COPY, None),
        ([OTHER, THIRD], THIRD, None),
        ([OTHER, RUNNING], RUNNING, None),
        ([OTHER, RUNNING, OTHER], OTHER, None),
        ([OTHER, MISSING], RUNNING, "no such folder"),
        ([OTHER, MISSING, OTHER], OTHER, None),
    ],
)
def test_of_orders_while_a_stream_waits_for_its_sink_the_last_one_counts(
    write_config, start, send, lines, readings, bundles, reload, orders, taken, trouble
):
    paths, opened = bundles
    config = write_config(STDIN, [STDOUT])
    running = begin(start, config, send, lines[:10])
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 10)
    reader = Reader(running)
    send(lines[10:11])
    assert reader.waits.wait(LONG_S)
    for order in orders:
        point_to(config, paths[order])
        reload(running)
        status = running.service.statuses()[0]
        assert status.config.bundle == paths[RUNNING]  # what is shown is what runs
        assert (status.not_taken is None) == (order != MISSING)
    reader.reads.set()
    running.wait_for(lambda status: status.manifest.bundle_id == opened[taken].manifest.bundle_id)
    send(lines[11:])
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 40)
    status = running.service.statuses()[0]
    assert status.config.bundle == paths[taken]
    assert (status.not_taken is None) if trouble is None else (trouble in status.not_taken)
    running.finish()

    expected = forecasts_of(opened[RUNNING], readings)[:11] + forecasts_of(opened[taken], readings)[11:]
    np.testing.assert_array_equal(handed_out(running), expected)


def test_what_waits_at_the_end_is_closed_and_takes_no_folder_with_it(write_config, start, send, lines, bundles, reload):
    paths, opened = bundles
    config = write_config(STDIN, [STDOUT])
    running = begin(start, config, send, lines[:10])
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 10)
    reader = Reader(running)
    send(lines[10:11])
    assert reader.waits.wait(LONG_S)
    point_to(config, paths[OTHER])
    reload(running)
    running.service.stop()
    reader.reads.set()
    running.finish()
    again = start(config)
    again.wait_for(lambda status: status.manifest.bundle_id == opened[OTHER].manifest.bundle_id)
    again.finish()


def test_a_take_over_that_fails_is_said_until_a_reload_succeeds(
    write_config, start, send, lines, readings, bundles, reload, monkeypatch
):
    paths, opened = bundles
    config = write_config(STDIN, [STDOUT])
    running = begin(start, config, send, lines[:10])
    point_to(config, paths[OTHER])

    def fail(new, old):
        raise BackendError("no memory", "some", "wait")

    with monkeypatch.context() as failing:
        failing.setattr(worker, "take_over", fail)
        reload(running)
        running.wait_for(lambda status: status.not_taken is not None)
    status = running.service.statuses()[0]
    assert "no memory" in status.not_taken
    assert status.config.bundle == paths[RUNNING]
    send(lines[10:20])
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 20)
    reload(running)
    running.wait_for(lambda status: status.manifest.bundle_id == opened[OTHER].manifest.bundle_id)
    assert running.service.statuses()[0].not_taken is None
    running.finish()

    np.testing.assert_array_equal(handed_out(running), forecasts_of(opened[RUNNING], readings)[:20])


@pytest.mark.parametrize("lossy", [True, False])
def test_what_a_new_bundle_could_not_restore_is_said(
    write_config, start, send, lines, bundles, reload, said, tmp_path, lossy
):
    paths, opened = bundles
    config = write_config(STDIN, [STDOUT])
    point_to(config, paths[OTHER])
    before = begin(start, config, send, lines[:10])
    before.finish()
    snapshots = sorted((tmp_path / "state").glob(f"{opened[OTHER].manifest.bundle_id[:16]}-*/*.snapshot"))
    assert len(snapshots) > 1
    for snapshot in snapshots[0 if lossy else -1 :]:
        snapshot.write_bytes(snapshot.read_bytes()[:-1])

    point_to(config, paths[RUNNING])
    running = begin(start, config, send, lines[10:20])
    assert running.service.statuses()[0].lost == ()
    point_to(config, paths[OTHER])
    reload(running)
    running.wait_for(lambda status: status.manifest.bundle_id == opened[OTHER].manifest.bundle_id)
    running.wait_for(lambda _: said("goes on with bundle"))
    status = running.finish()
    assert said("restored in part: snapshot" if lossy else "restored: snapshot")
    assert bool(status.lost) == lossy
    assert any("restored in part" in warning for warning in health.warnings(status)) == lossy


@pytest.mark.parametrize("wrong", ["ring", "second"])
def test_a_fault_of_one_stream_is_not_that_of_another(
    write_config, start, send, lines, bundles, reload, recording, tmp_path, monkeypatch, wrong
):
    paths, opened = bundles
    config = write_config(STDIN, [STDOUT])
    text = (
        config.read_text()
        + f"""
[[stream]]
name = "second"
bundle = "{paths[RUNNING]}"
state = "second"
[stream.source]
kind = "replay"
path = "{recording}"
speed = 1
[[stream.sink]]
kind = "csv"
folder = "out"
"""
    )
    config.write_text(text)
    running = begin(start, config, send, lines[:10])
    load = reloads.load_bundle

    def faulty(wanted, trust):
        if wanted.name == wrong:
            raise RuntimeError("a fault")
        return load(wanted, trust)

    monkeypatch.setattr(reloads, "load_bundle", faulty)
    config.write_text(text.replace(str(paths[RUNNING]), str(paths[OTHER])))
    reload(running)

    def ids():
        return {status.stream: status.manifest.bundle_id for status in running.service.statuses()}

    wait_for(lambda: opened[OTHER].manifest.bundle_id in ids().values(), ids)
    assert ids()[wrong] == opened[RUNNING].manifest.bundle_id
    for status in running.service.statuses():
        assert status.not_taken == ("RuntimeError: a fault; the old one goes on" if status.stream == wrong else None)
    running.finish()
