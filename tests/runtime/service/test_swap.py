from __future__ import annotations

import json
import logging
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from runtime.service.config import read_config
from runtime.service.logs import LOG
from runtime.service.orders import Orders
from runtime.service.trial import Limits
from runtime.stream import Stream
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.precisions import STEP

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'
EVERY = "snapshot_every = 1000"


@pytest.fixture
def other(build_example):
    """Return another model of the same network."""
    return build_example((2, 1), (3,)).bundle


@pytest.fixture
def heard(caplog, monkeypatch):
    """Return a function that says whether a text is in the log."""
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, LOG.name)
    return lambda text: any(text in record.getMessage() for record in caplog.records)


def begin(start, config, send, lines, **options):
    """Start a service that can read its config again, and let it forecast from some lines."""
    running = start(config, reread=lambda: read_config(config), **options)
    send(lines)
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == len(lines))
    return running


def point_to(config, bundle):
    """Write another bundle into a config file."""
    old = next(line for line in config.read_text().splitlines() if line.startswith("bundle"))
    config.write_text(config.read_text().replace(old, f'bundle = "{bundle}"'))


def forecasts_of(bundle, readings, mode="carry"):
    values, observed, timestamps = readings
    stream = Stream.open(bundle, mode=mode)
    found = [stream.push(values[t], int(timestamps[t]), observed[t]).values[..., 0] for t in range(len(timestamps))]
    stream.close()
    return found


def handed_out(running):
    return [np.array(json.loads(line)["values"]["speed"], np.float32) for line in running.out.getvalue().splitlines()]


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_new_bundle_goes_on_as_if_it_had_always_run(write_config, start, send, lines, readings, example, other, mode):
    config = write_config(STDIN, [STDOUT], extra=f'{EVERY}\nmode = "{mode}"')
    orders = Orders()
    running = begin(start, config, send, lines[:20], orders=orders)
    point_to(config, other.path)
    with orders.from_signals():
        signal.raise_signal(signal.SIGHUP)
        running.wait_for(lambda status: status.manifest.bundle_id == other.manifest.bundle_id)
    send(lines[20:30])
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 30)
    running.finish()

    again = start(config)  # what is restored is the new bundle's
    send(lines[30:])
    again.wait_for(lambda status: status.counters["service"]["forecasts"] == 11)
    again.finish()

    found = handed_out(running) + handed_out(again)[1:]
    expected = forecasts_of(example.bundle, readings, mode)[:20] + forecasts_of(other, readings, mode)[20:]
    assert len(found) == 40
    np.testing.assert_array_equal(found, expected)


def damaged(bundle, config):
    data = bytearray((bundle.path / STEP).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.path / STEP).write_bytes(data)


def inaccurate(bundle, config):
    (bundle.path / MANIFEST).write_text(replace(bundle.manifest, tolerance=(1e-12,)).to_json())


def of_another_network(bundle, config):
    ends = replace(bundle.manifest, site=replace(bundle.manifest.site, stamp="end"))
    whole = replace(ends, bundle_id=ends.identity(bundle.read(STEP)))
    (bundle.path / MANIFEST).write_text(whole.to_json())


def without_bundle(bundle, config):
    point_to(config, bundle.path / "nothing")


def without_config(bundle, config):
    config.write_text("[[stream]]\n")


@pytest.mark.parametrize(
    ("spoil", "said", "later"),
    [
        (damaged, "was altered", "would fail"),
        (inaccurate, "off by", "would run the new one"),
        (of_another_network, "other stamp", "would run the new one"),
        (without_bundle, "nothing: no such folder", "would fail"),
        (without_config, "config cannot be read", "would fail"),
    ],
)
def test_if_anything_fails_the_old_bundle_goes_on(
    write_config, start, send, lines, readings, example, other, heard, caplog, spoil, said, later
):
    config = write_config(STDIN, [STDOUT], extra=EVERY)
    running = begin(start, config, send, lines[:20])
    point_to(config, other.path)
    spoil(other, config)
    running.service.reload()
    running.wait_for(lambda status: heard(said))
    last = caplog.records[-1]
    assert last.levelname == "ERROR"
    assert "next start" in last.getMessage()
    assert later in last.getMessage()
    assert said in running.service.statuses()[0].not_taken
    send(lines[20:])
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == 40)
    running.finish()

    np.testing.assert_array_equal(handed_out(running), forecasts_of(example.bundle, readings))


@pytest.mark.parametrize(
    ("limits", "said"),
    [(Limits(seconds=0), "takes longer than 0 s"), (Limits(bytes=1 << 20), "takes more than 1 MB of memory")],
)
def test_a_bundle_that_takes_too_much_is_given_up_and_the_next_reload_works(
    write_config, start, send, lines, readings, example, other, heard, tmp_path, limits, said
):
    config = write_config(STDIN, [STDOUT], extra=EVERY)
    running = begin(start, config, send, lines[:20], limits=limits)
    point_to(config, other.path)
    for _ in range(3):  # orders during a reload are one more
        running.service.reload()
    running.wait_for(lambda status: heard(said))
    (tmp_path / "same").symlink_to(example.bundle.path)
    point_to(config, "same")
    running.service.reload()
    running.wait_for(lambda status: heard("is the running model"))
    send(lines[20:])
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == 40)
    running.finish()

    np.testing.assert_array_equal(handed_out(running), forecasts_of(example.bundle, readings))


def test_a_stop_during_a_reload_cuts_it_off(write_config, start, send, lines, readings, example, other, heard):
    config = write_config(STDIN, [STDOUT], extra=EVERY)
    running = begin(start, config, send, lines[:20])
    point_to(config, other.path)
    running.service.reload()
    running.wait_for(lambda status: heard("has been read again"))
    running.finish()

    assert not heard("not taken")
    assert not any(thread.name == "reload" for thread in threading.enumerate())
    np.testing.assert_array_equal(handed_out(running), forecasts_of(example.bundle, readings)[:20])


def test_changes_that_wait_for_a_restart_are_named(write_config, start, send, lines, example, heard, tmp_path):
    config = write_config(STDIN, [STDOUT], extra=EVERY, top="[http]\nport = 0")
    running = begin(start, config, send, lines[:2])
    text = config.read_text()
    (tmp_path / "same").symlink_to(example.bundle.path)
    renamed = text.replace('name = "ring"', 'name = "tt"').replace("port = 0", 'port = 0\nhost = "localhost"')
    for new, named in [
        (renamed, 'after a restart: [http] host, stream "ring", which is gone, stream "tt", which is new'),
        (
            text.replace("[http]\nport = 0", 'log = "json"').replace(EVERY, "queue = 7"),
            "after a restart: log, [http], stream",
        ),
        (text.replace(EVERY, "queue = 6"), 'after a restart: stream "ring" snapshot_every, stream "ring" queue'),
        (text.replace(EVERY, f'{EVERY}\nmode = "window"\nprecision = "tf32"'), 'stream "ring" precision'),
        (text + '[mqtt]\nclient_id = "new"\n', "restart: [mqtt]"),
    ]:
        config.write_text(new)
        running.service.reload()
        running.wait_for(lambda status: heard(named))  # noqa: B023
    config.write_text(text.replace(f'"{example.bundle.path}"', '"same"'))
    running.service.reload()
    running.wait_for(lambda status: heard("is the running model"))
    running.finish()


def test_readings_of_the_open_interval_are_kept(write_config, start, send, example, other):
    now = [1_330_588_800.0]
    config = write_config(STDIN, [STDOUT], extra=f"{EVERY}\n[stream.assembler]\ngrace_s = 0")
    running = start(config, clock=lambda: now[0], reread=lambda: read_config(config))

    def reading(node, value):
        values = {"speed": value, "trend": 0.5}
        return json.dumps({"sensor": f"s{node}", "timestamp": now[0], "values": values})

    send([reading(0, 40.0)])
    running.wait_for(lambda status: status.counters["assembler"]["readings"] == 1)
    point_to(config, other.path)
    running.service.reload()
    running.wait_for(lambda status: status.manifest.bundle_id == other.manifest.bundle_id)
    now[0] += 60
    send([reading(0, 60.0)])
    running.wait_for(lambda status: status.counters["assembler"]["readings"] == 2)
    now[0] += 241
    running.wait_for(lambda status: status.last is not None)
    running.finish()

    plain = Stream.open(other)
    whole = plain.push({"s0": {"speed": 50.0, "trend": 0.5}}, 1_330_588_800)
    plain.close()
    np.testing.assert_array_equal(handed_out(running), [whole.values[..., 0]])


def test_the_same_model_and_other_changes_change_nothing_while_it_runs(
    write_config, start, send, lines, readings, example, heard
):
    config = write_config(STDIN, [STDOUT], extra=EVERY)
    running = begin(start, config, send, lines[:20])
    config.write_text(config.read_text().replace(EVERY, "snapshot_every = 7"))
    running.service.reload()
    running.wait_for(lambda status: heard("after a restart"))
    send(lines[20:])
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == 40)
    running.finish()

    np.testing.assert_array_equal(handed_out(running), forecasts_of(example.bundle, readings))
