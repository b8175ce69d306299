from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from runtime.messages import DETECTION_MESSAGE, INTERVAL_MESSAGE
from runtime.service import supervisor
from runtime.service.config import read_config
from runtime.service.supervisor import Service
from runtime.stream import Stream
from stunet_deploy.cli import main
from stunet_deploy.errors import BackendError, BundleError, ConfigError, StreamError
from stunet_deploy.series.times import format_time
from tests.paths import ROOT
from tests.waiting import LONG_S, wait_for

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'


def handed_out(running):
    """Return the values [horizon, node] by time of issue of all lines on standard output."""
    lines = [json.loads(line) for line in running.out.getvalue().splitlines()]
    return [(line["issued_at"], np.array(line["values"]["speed"], np.float32)) for line in lines]


def assert_same(found, expected):
    assert [issued for issued, _ in found] == list(expected)
    for issued, values in found:
        np.testing.assert_array_equal(values, expected[issued][..., 0])


def test_a_replay_runs_to_its_end(write_config, recording, start, expected, tmp_path):
    config = write_config(
        f'kind = "replay"\npath = "{recording.name}"', [STDOUT, 'kind = "csv"\nfolder = "out"'], extra="queue = 2"
    )
    running = start(config)
    status = running.finish(stop=False)

    assert_same(handed_out(running), expected)
    assert status.counters["service"]["forecasts"] == status.counters["stream"]["pushes"] == 40
    assert status.last is not None
    assert format_time(status.last.issued_s) == list(expected)[-1]
    (path,) = (tmp_path / "out").iterdir()
    assert len(path.read_text().splitlines()) == 1 + 40 * 3


def test_a_stopped_service_goes_on_where_it_was(write_config, pipe, lines, start, expected):
    config = write_config(STDIN, [STDOUT])
    first = start(config)
    pipe.write("\n".join(lines[:25]) + "\n")
    pipe.flush()
    first.wait_for(lambda status: status.counters["service"]["forecasts"] == 25)
    first.finish()

    second = start(config)
    # The sender cannot know what was taken, and repeats itself.
    pipe.write("\n".join(lines[24:]) + "\n")
    pipe.close()
    status = second.finish(stop=False)

    assert_same(handed_out(first) + handed_out(second)[1:], expected)
    assert handed_out(second)[0][0] == list(expected)[24]  # the last one again: it may not have arrived
    assert status.counters["stream"]["repeats"] == 1
    assert not any(status.counters["stream"]["refused"].values())


RUBBISH = [
    (b"", None),
    (b"   ", None),
    (b"{", "message"),
    (b"[1, 2]", "message"),
    (b"nan", "message"),
    (b"\xff\xfe\x00", "message"),
    (b"[" * 100_000, "message"),
    (b"9" * 5000, "message"),
    (b'{"timestamp": 1, "values": {}, "more": 1}', "message"),
    (b'{"sensor": "s0", "timestamp": "2012-03-01T08:00:07Z", "values": 1}', "message"),
    (b'{"timestamp": "yesterday", "values": {}}', "timestamp"),
    (b'{"timestamp": "2012-03-01T08:02:00Z", "values": {}}', "off_grid"),
    (b'{"timestamp": "2999-03-01T08:00:00Z", "values": {}}', "ahead"),
    (b'{"timestamp": "2012-03-01T07:00:00Z", "values": {}}', "late"),
    (b'{"timestamp": "2012-03-01T11:15:00Z", "values": {"s0": {"speed": 1e1}}}', "conflict"),
    (b'{"timestamp": "2012-03-01T11:20:00Z", "values": {"nobody": null}}', "unknown_sensor"),
    (b'{"timestamp": "2012-03-01T11:20:00Z", "values": {"s0": {"nothing": 1}}}', "unknown_feature"),
    (b'{"timestamp": "2012-03-01T11:20:00Z", "values": {"s0": {"speed": "fast"}}}', "reading"),
]


def test_rubbish_is_counted_by_its_reason_and_changes_nothing(write_config, pipe, lines, start, expected):
    running = start(write_config(STDIN, [STDOUT]))
    pipe.write("\n".join(lines) + "\n")
    pipe.flush()
    for text, _ in RUBBISH:
        pipe.buffer.write(text + b"\n")
    pipe.close()
    refused = running.finish(stop=False).counters["stream"]["refused"]

    reasons = [reason for _, reason in RUBBISH if reason is not None]
    assert {reason: count for reason, count in refused.items() if count} == {r: reasons.count(r) for r in reasons}
    assert_same(handed_out(running), expected)


def test_a_strict_stream_ends_at_the_first_refusal(write_config, pipe, lines, start):
    running = start(write_config(STDIN, [STDOUT], extra="strict = true"))
    pipe.write(f"{lines[0]}\nrubbish\n{lines[1]}\n")
    pipe.close()

    with pytest.raises(StreamError, match="no JSON"):
        running.finish(stop=False)
    assert len(handed_out(running)) == 1


def test_single_readings_become_intervals(write_config, pipe, start, example):
    now = [1_330_588_800.0]
    rules = '[stream.assembler]\ngrace_s = 10\nrules = { speed = { weight = "flow" } }'
    running = start(write_config(STDIN, [STDOUT], extra=rules), clock=lambda: now[0])

    def send(sensor, seconds, speed, flow):
        values = {"speed": speed, "trend": 0.5, "flow": flow}
        pipe.write(json.dumps({"sensor": sensor, "timestamp": seconds, "values": values}) + "\n")
        pipe.flush()

    for offset, speed in ((0, 40.0), (60, 60.0)):
        now[0] = 1_330_588_800.0 + offset
        for node in range(5):
            send(f"s{node}", now[0] + node, speed + node, 1 + 2 * (offset > 0))
        running.wait_for(lambda status: status.counters["assembler"]["readings"] == (5 if offset == 0 else 10))  # noqa: B023
    send("s0", 1, 1, 1)
    pipe.write('{"timestamp": "2012-03-01T08:00:00Z", "values": {}}\n')
    pipe.flush()
    now[0] += 250.5  # ten seconds after the end
    running.wait_for(lambda status: status.last is not None)
    status = running.finish()

    plain = Stream.open(example.bundle)
    whole = plain.push([[55.0 + node, 0.5] for node in range(5)], 1_330_588_800)
    plain.close()
    ((issued, values),) = handed_out(running)
    assert issued == format_time(whole.issued_s)
    np.testing.assert_allclose(values, whole.values[..., 0], rtol=1e-6)
    assert status.counters["assembler"]["refused"]["late"] == 1
    assert status.counters["stream"]["refused"]["message"] == 1


@pytest.mark.parametrize(("assembler", "expected"), [("[stream.assembler]", DETECTION_MESSAGE), ("", INTERVAL_MESSAGE)])
@pytest.mark.parametrize(
    "line",
    [
        "hello",
        '{"sensor": "s0", "timestamp": 1330588800, "value": 60}',
        '{"time": 1330588800}',
        '{"timestamp": 1330588800, "values": [1]}',
    ],
)
def test_the_format_to_send_is_the_one_that_the_stream_takes(write_config, pipe, start, assembler, expected, line):
    running = start(write_config(STDIN, [STDOUT], extra=f"strict = true\n{assembler}"))
    pipe.write(f"{line}\n")
    pipe.flush()
    with pytest.raises(StreamError) as refused:
        running.finish(stop=False)

    assert (refused.value.expected, refused.value.reason) == (expected, "message")


def test_a_bundle_that_is_not_there_is_named_with_its_stream(write_config, example, tmp_path):
    config = write_config(STDIN, [STDOUT])
    text = config.read_text()
    for wrong, said in (("nope.bundle", "nope.bundle: no such folder"), (".", "no manifest.json in it")):
        config.write_text(text.replace(f'"{example.bundle.path}"', f'"{wrong}"'))
        with pytest.raises(BundleError, match='stream "ring"') as refused:
            Service(read_config(config), io.StringIO())
        assert refused.value.came.endswith(said)
        assert "relative to that file" in refused.value.action


def test_a_sink_that_fails_is_counted_and_the_others_go_on(write_config, recording, start, expected, tmp_path):
    url = "http://127.0.0.1:9/nobody"
    config = write_config(
        f'kind = "replay"\npath = "{recording.name}"',
        [f'kind = "http"\nurl = "{url}"\nattempts = 1', 'kind = "csv"\nfolder = "out"', STDOUT],
    )

    def fail(service):
        service.workers[0]._source.patient = False  # as a live source
        (tmp_path / "out").rmdir()

    running = start(config, prepare=fail)
    status = running.finish(stop=False)

    assert_same(handed_out(running), expected)
    assert status.counters["service"]["undelivered"] == {f"http {url}": 40, f"csv {tmp_path / 'out'}": 40, "stdout": 0}


def test_several_streams_run_in_one_process(write_config, recording, start, expected, tmp_path):
    config = write_config(f'kind = "replay"\npath = "{recording.name}"', ['kind = "csv"\nfolder = "out"'])
    text = config.read_text()
    second = text.replace('name = "ring"', 'name = "other"').replace('state = "state"', 'state = "other"')
    config.write_text(text + second)
    start(config).finish(stop=False)

    written = {path.name.split("-")[0]: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert written.keys() == {"ring", "other"}
    assert written["ring"] == written["other"]


def test_a_backend_that_fails_again_and_again_ends_the_service(write_config, pipe, lines, start, monkeypatch):
    running = start(write_config(STDIN, [STDOUT]))
    stream = running.service.workers[0].serving.stream
    step, failing = stream._mode.step, {1, 3, 4, 5}
    calls = iter(range(100))

    def fail(inputs):
        if next(calls) in failing:
            raise BackendError("the device is gone", "a device", "look at it")
        return step(inputs)

    monkeypatch.setattr(stream._mode, "step", fail)
    pipe.write("\n".join(lines[:10]) + "\n")
    pipe.close()

    with pytest.raises(BackendError, match="is gone"):
        running.finish(stop=False)
    assert len(handed_out(running)) == 2
    assert running.service.statuses()[0].counters["service"]["backend_failures"] == 4


def test_nothing_stays_open_when_a_service_cannot_be_opened(write_config, recording, start, expected):
    source = f'kind = "replay"\npath = "{recording.name}"'
    broken = write_config(source, [STDOUT]).read_text() + '[[stream.sink]]\nkind = "csv"\nfolder = "recording.csv/x"\n'
    config = write_config(source, [STDOUT])
    good = config.read_text()
    config.write_text(broken)
    with pytest.raises(Exception, match=r"recording\.csv/x"):
        Service(read_config(config), io.StringIO())

    config.write_text(good)
    running = start(config)  # the state folder is free
    with pytest.raises(ConfigError, match="another stream"):
        Service(read_config(config), io.StringIO())
    running.finish(stop=False)
    assert_same(handed_out(running), expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config", "x.toml", "bundle"], "--config with a bundle"),
        (["bundle"], "bundle bundle without --replay"),
        (["--replay", "x.csv"], "--replay without a bundle"),
        ([], "neither a bundle nor --config"),
        (["--dry-run"], "--dry-run without --config"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments, named, capsys):
    assert main(["run", *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_tells_systemd_and_ends_in_good_order_at_a_signal(write_config, lines, expected, tmp_path, number):
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 1000", top='log = "json"')
    told = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LONG_S)

        def listen():
            while told[-1:] != ["STOPPING=1"]:
                told.append(systemd.recv(100).decode())

        listening = threading.Thread(target=listen)
        listening.start()
        process = subprocess.Popen(
            [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)],
            cwd=ROOT,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "40000"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        out = [process.stdout.readline() for _ in lines]
        while told[-1:] != ["WATCHDOG=1"] and listening.is_alive():
            listening.join(0.01)
        process.send_signal(number)
        rest, log = process.communicate(timeout=LONG_S)
        listening.join()

    assert process.returncode == 0, log
    assert (told[0], set(told[1:-1])) == ("READY=1", {"WATCHDOG=1"})
    assert [json.loads(line)["issued_at"] for line in out] == list(expected)
    assert rest == ""
    messages = [json.loads(line) for line in log.splitlines()]
    assert {message["stream"] for message in messages} == {"service", "ring"}
    (folder,) = (tmp_path / "state").iterdir()
    assert max(path.name for path in folder.iterdir()).startswith("00000002")  # the snapshot of the stop


def test_a_reader_that_is_gone_ends_the_service(write_config, recording, start):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    config = write_config(f'kind = "replay"\npath = "{recording.name}"\nspeed = 1', [STDOUT])
    with pytest.raises(BrokenPipeError):
        Service(read_config(config), Gone()).run()


def test_the_watchdog_hears_nothing_of_a_stream_that_hangs(write_config, pipe, lines, start, monkeypatch):
    told = []
    monkeypatch.setattr(supervisor, "notify", told.append)
    monkeypatch.setattr(supervisor, "watchdog_s", lambda: 0.05)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    running = start(write_config(STDIN, [STDOUT]))
    worker = running.service.workers[0]
    stream = worker.serving.stream
    healthy, looks = worker.healthy, []

    def look(limit_s):
        looks.append(healthy(limit_s))
        return looks[-1]

    monkeypatch.setattr(worker, "healthy", look)
    hanging, released = threading.Event(), threading.Event()
    step = stream._mode.step

    def hang(inputs):
        hanging.set()
        released.wait(LONG_S)
        return step(inputs)

    monkeypatch.setattr(stream._mode, "step", hang)
    pipe.write(lines[0] + "\n")
    pipe.flush()
    assert hanging.wait(LONG_S)
    wait_for(lambda: looks[-1:] == [False])
    heard, seen = len(told), len(looks)
    wait_for(lambda: len(looks) > seen + 10)
    assert len(told) == heard
    released.set()
    running.finish()
    assert told[0] == "READY=1"
    assert told[-1] == "STOPPING=1"


def test_one_interval_far_in_the_future_is_refused_and_the_others_are_taken(
    write_config, send, pipe, start, lines, expected
):
    running = start(write_config('kind = "stdin"\nclock = "messages"', [STDOUT]), clock=lambda: 0.0)
    absurd = json.dumps(json.loads(lines[20]) | {"timestamp": "2099-01-01T00:00:00Z"})
    send([*lines[:7], absurd, *lines[7:], absurd])
    pipe.close()
    status = running.finish(stop=False)

    found = {
        line["issued_at"]: line["values"]["speed"] for line in map(json.loads, running.out.getvalue().split("\n")[:-1])
    }
    assert found.keys() == expected.keys()
    for issued, values in found.items():
        np.testing.assert_array_equal(np.array(values, np.float32), expected[issued][..., 0])
    assert status.counters["stream"]["refused"]["ahead"] == 2


def test_an_interval_behind_a_gap_that_is_refused_takes_none_with_it(write_config, send, pipe, start, lines):
    running = start(write_config('kind = "stdin"\nclock = "messages"', [STDOUT]), clock=lambda: 0.0)
    far = [
        json.dumps(json.loads(line) | {"timestamp": f"2013-01-01T00:{5 * step:02}:00Z"})
        for step, line in enumerate(lines[:3])
    ]
    send([lines[0], far[0].replace("s0", "nobody"), *far[1:]])
    pipe.close()
    status = running.finish(stop=False)

    assert [json.loads(line)["issued_at"][:16] for line in running.out.getvalue().splitlines()] == [
        "2012-03-01T08:00",
        "2013-01-01T00:05",
        "2013-01-01T00:10",
    ]
    assert status.counters["stream"]["refused"]["unknown_sensor"] == 1
