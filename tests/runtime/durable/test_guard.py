from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from runtime.aggregation import Assembler
from runtime.durable.guard import MESSAGE_ASIDE, STARTS, Guard, MessageGuard
from runtime.durable.journal import Input, Reset, encode
from runtime.durable.stream import DurableStream
from runtime.readings import Interval
from runtime.stream import Stream
from stunet_deploy.errors import StreamError
from tests.paths import ROOT

START, INTERVAL_S, DEADLY = 1_330_588_800, 300, 6

#: A sender that goes on where the stream is, and a step that cannot bear one of its intervals.
PROCESS = textwrap.dedent(f"""
    import os, signal, sys
    import numpy as np
    from runtime import window
    from runtime.aggregation import Assembler
    from runtime.durable.stream import DurableStream
    from runtime.stream import Stream
    from stunet_deploy.errors import StreamError

    bundle, folder, single = sys.argv[1:]
    run = window.Carry.step

    def step(mode, inputs):
        if (inputs["values"] == 66).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return run(mode, inputs)

    window.Carry.step = step
    stream = Stream.open(bundle)
    assembler = Assembler(stream.bundle.manifest, grace_s=0) if single == "True" else None
    durable = DurableStream(stream, folder, every=50, assembler=assembler)
    first = 0 if stream.last is None else (stream.last.issued_s - {START}) // {INTERVAL_S} + 1
    for number in range(first, 10):
        stamp = {START} + {INTERVAL_S} * number
        values = np.full((5, 2), 66.0 if number == {DEADLY} else number / 10)
        try:
            if assembler is None:
                durable.push(values, stamp)
            else:
                for sensor, row in zip(stream.bundle.manifest.sensor_ids, values.tolist()):
                    durable.add(sensor, stamp, dict(zip(("speed", "trend"), row)), now=stamp)
                list(durable.due(stamp + {INTERVAL_S}))
        except StreamError as error:
            print(number, error.reason)
    print(durable.recovery.notes, durable.recovery.lossy)
    os._exit(0)  # without a last snapshot
""")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on this system")
@pytest.mark.parametrize("single", [False, True], ids=["intervals", "readings"])
def test_an_interval_that_kills_the_process_is_set_aside_after_some_starts(example, tmp_path, single):
    folder = tmp_path / "stream"

    def start():
        command = [sys.executable, "-c", PROCESS, str(example.bundle.path), str(folder), str(single)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for _ in range(1 + STARTS):
        assert start().returncode == -9
    survived = start()
    assert survived.returncode == 0, survived.stderr
    (aside,) = folder.glob("*.aside")
    assert f"the interval 2012-03-01T08:30:00Z ended {STARTS} starts and is now in {aside.name}" in survived.stdout
    assert survived.stdout.strip().endswith("True")
    # A sender that heard no answer repeats itself; single readings of a closed interval are late.
    assert survived.stdout.startswith("6 late" if single else "6 deadly")

    plain = Stream.open(example.bundle)
    for number in [n for n in range(10) if n != DEADLY]:
        last = plain.push(np.full((5, 2), number / 10), START + INTERVAL_S * number)
    assembler = Assembler(example.bundle.manifest, grace_s=0) if single else None
    durable = DurableStream(Stream.open(example.bundle), folder, assembler=assembler)
    assert durable.recovery.notes == []
    assert durable.stream.last.values.tobytes() == last.values.tobytes()
    durable.close()


def interval(value, stamp=START, *, restart=False):
    return Input(Interval(np.full((5, 2), value, np.float32), np.ones((5, 2), np.bool_)), stamp, restart)


def test_starts_are_counted_at_one_entry_of_one_journal(tmp_path):
    for _ in range(STARTS):
        assert Guard(tmp_path, (5, 2)).passes(7, 3, interval(0.5))
    for other in [(7, 4), (8, 3), (7, 3)]:  # each of them begins to count anew
        assert Guard(tmp_path, (5, 2)).passes(*other, interval(0.5))
    guard = Guard(tmp_path, (5, 2))
    guard.over()
    assert not any(tmp_path.iterdir())
    for damaged in ("", "7 3", "seven 3 9", "7 3 -1"):
        (tmp_path / "replaying").write_text(damaged)
        assert Guard(tmp_path, (5, 2)).passes(7, 3, interval(0.5))


def test_what_was_set_aside_is_known_by_its_readings_and_time(tmp_path):
    Guard(tmp_path, (5, 2)).set_aside(7, 3, encode(interval(1.5, restart=True)), interval(1.5, restart=True))
    (tmp_path / "00000001.1.aside").write_bytes(b"damaged")
    (tmp_path / "00000001.2.aside").write_bytes(encode(Reset()))
    guard = Guard(tmp_path, (5, 2))
    assert guard.knows(interval(1.5))
    assert not guard.knows(interval(1.5, START + INTERVAL_S))
    assert not guard.knows(interval(1.25))
    assert not guard.passes(9, 1, interval(1.5))  # an older journal of it may be met again
    assert guard.passes(9, 1, interval(1.25))


def test_a_refused_interval_changes_nothing(example, tmp_path):
    deadly = Input(Interval(np.zeros((5, 2), np.float32), np.ones((5, 2), np.bool_)), START)
    Guard(tmp_path, (5, 2)).set_aside(1, 1, encode(deadly), deadly)
    durable = DurableStream(Stream.open(example.bundle), tmp_path)
    with pytest.raises(StreamError, match="killed the process"):
        durable.push(np.zeros((5, 2)), START)
    assert durable.stream.last is None
    assert not any(line.any() for line in durable.stream.read_lines().values())
    assert durable.stream.counters.refused["deadly"] == 1
    assert durable.push(np.ones((5, 2)) / 2, START).issued_s == START
    durable.close()


def test_a_message_is_set_aside_after_enough_processes_and_stays_there(tmp_path):
    deadly, good = b"deadly", b"good"
    for _ in range(STARTS):
        guard = MessageGuard(tmp_path)
        guard.check(good, again=True)
        guard.over()
        guard.check(deadly, again=True)  # and the process dies
    for _ in range(2):  # at the next start, and when it comes again
        guard = MessageGuard(tmp_path)
        for again in (True, False):
            with pytest.raises(StreamError, match="has ended the process 3 times") as caught:
                guard.check(deadly, again=again)
            assert caught.value.reason == "deadly"
        guard.check(good, again=False)
        guard.over()
    (aside,) = tmp_path.iterdir()
    assert aside.read_bytes() == deadly
    aside.unlink()
    MessageGuard(tmp_path).check(deadly, again=True)


@pytest.mark.parametrize(("message", "again", "noted"), [(b"x", False, 0), (b"x", True, 1), (b"x" * 2**21, False, 1)])
def test_only_large_and_repeated_messages_are_noted(tmp_path, message, again, noted):
    guard = MessageGuard(tmp_path)
    guard.check(message, again=again)
    assert len(list(tmp_path.iterdir())) == noted
    guard.over()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"0{MESSAGE_ASIDE}").write_bytes(b"another one")
    guard = MessageGuard(tmp_path)
    guard.check(message, again=again)
    assert len(list(tmp_path.iterdir())) == noted + 1


@pytest.mark.parametrize("note", [b"\xff", b"a b c", b"a x\n", b"a\n"])
def test_a_note_that_cannot_be_read_counts_nothing(tmp_path, note):
    (tmp_path / "reading").write_bytes(note)
    MessageGuard(tmp_path).check(b"x", again=True)
    MessageGuard(tmp_path / "missing").check(b"x", again=True)
