"""Messages that would end a process: too large, too costly, or deadly for a reason that nobody knows."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.paths import ROOT
from tests.waiting import LONG_S

pytest.importorskip("paho.mqtt.client")

from tests.runtime.service.mqtt.brokers import FORECAST, SINK, SOURCE, STATUS, table

pytestmark = [
    pytest.mark.needs_system_package("mosquitto"),
    pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory on this system"),
]

#: The service of a config file, with an end of memory; a message with DEADLY in it kills it.
PROCESS = textwrap.dedent("""
    import os, resource, signal, sys
    from runtime.service import worker
    from stunet_deploy.cli import main

    read = worker.read_message

    def deadly(text, expected):
        if b"DEADLY" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(text, expected)

    worker.read_message = deadly
    resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
    sys.exit(main(["run", "--config", sys.argv[1]]))
""")


@pytest.fixture
def run(write_config, broker, tmp_path):
    """Return a function that starts the service as a process; what still runs at the end is killed."""
    config = write_config(SOURCE, [SINK], top=table(broker))
    started = []

    def begin():
        with open(tmp_path / "log", "ab") as log:
            started.append(subprocess.Popen([sys.executable, "-c", PROCESS, str(config)], cwd=ROOT, stderr=log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait(LONG_S)


@pytest.mark.parametrize(
    "poison",
    [
        b"[" + b"[]," * 20_000_000 + b"0]",  # dropped by the broker, which knows the limit
        b"[" + b"[]," * 5_000_000 + b"0]",
        b'{"timestamp": 1, "values": ' + b'{"a":' * 3_000_000,
        b"[" * 10_000_000,
    ],
    ids=["60 MB", "lists", "objects", "nested"],
)
def test_a_message_that_costs_memory_is_refused_and_the_service_goes_on(peer, run, lines, poison, tmp_path):
    process = run()
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    peer.publish("intervals", poison)
    peer.publish("intervals", lines[0])
    peer.wait_for(lambda: peer.of(FORECAST))

    assert process.poll() is None
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert ("refused: message" in log) == (len(poison) < 16 * 2**20)


def test_a_message_that_has_ended_the_process_again_and_again_is_set_aside(peer, run, lines, tmp_path):
    deadly = json.dumps({"timestamp": "DEADLY", "values": {}})
    for start in range(4):  # the first time nobody knows that it will come again
        process = run()
        if start == 0:
            peer.wait_for(lambda: peer.of(STATUS) == ["online"])
            peer.publish("intervals", deadly)
            peer.publish("intervals", lines[0])
        assert process.wait(LONG_S) < 0
    process = run()
    peer.wait_for(lambda: peer.of(FORECAST))

    assert process.poll() is None
    (aside,) = (tmp_path / "state").glob("*.message")
    assert aside.read_text() == deadly
    assert "has ended the process 3 times" in (tmp_path / "log").read_text()
    peer.publish("intervals", deadly)  # it comes once more, and is known
    peer.publish("intervals", lines[1])
    peer.wait_for(lambda: len(peer.issued()) == 2)
    assert process.poll() is None
