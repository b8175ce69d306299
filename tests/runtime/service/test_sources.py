from __future__ import annotations

import os
import threading

import pytest

from runtime.service import sources
from runtime.service.config import ReplayConfig
from runtime.service.sources import Delivery, End, Inbox, ReplaySource, StdinSource
from stunet_deploy.errors import DataError
from tests.waiting import LONG_S, wait_for


def everything(inbox):
    """Return what an inbox holds up to its end, and the end."""
    found = []
    while isinstance(delivery := inbox.take(LONG_S), Delivery):
        found.append(delivery.content)
    assert isinstance(delivery, End)
    return found, delivery


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, os.fdopen(write, "wb", buffering=0)
    os.close(read)


def test_lines_come_whole_however_they_are_cut(pipe):
    read, write = pipe
    inbox = Inbox(100)
    StdinSource(read).start(inbox, threading.Event(), None)
    for part in (b"on", b"e\ntw", b"o\n\n \nthree\nfour", b""):
        write.write(part)
    write.close()

    found, end = everything(inbox)
    assert found == [b"one", b"two", b"three", b"four"]
    assert end.error is None


def test_a_file_that_gets_the_number_of_a_closed_pipe_is_not_read(pipe, tmp_path):
    read, write = pipe
    inbox, stopped = Inbox(100), threading.Event()
    StdinSource(read).start(inbox, stopped, None)
    other = tmp_path / "other"
    other.write_bytes(b"of another\n")
    with other.open("rb", buffering=0) as file:
        os.dup2(file.fileno(), read)
    write.write(b"one\n")
    write.close()

    assert everything(inbox)[0] == [b"one"]
    assert os.read(read, 100) == b"of another\n"


def test_a_line_that_would_fill_the_memory_is_cut(pipe, monkeypatch):
    monkeypatch.setattr(sources, "LONGEST_MESSAGE", 2000)
    read, write = pipe
    inbox = Inbox(100)
    StdinSource(read).start(inbox, threading.Event(), None)
    for _ in range(5):
        write.write(b"x" * 1000)
    write.write(b"\nnext\n")
    write.close()

    assert everything(inbox)[0] == [b"x" * 1000, b"next"]


def test_lines_that_were_read_before_a_stop_are_delivered(pipe):
    read, write = pipe
    inbox, stopped = Inbox(1), threading.Event()
    StdinSource(read).start(inbox, stopped, None)
    write.write(b"one\ntwo\nthree\n")
    wait_for(lambda: inbox.full)
    stopped.set()

    assert everything(inbox)[0] == [b"one", b"two", b"three"]
    write.close()


def test_a_replay_waits_for_room_and_goes_on_behind_the_last_interval(recording, example, readings):
    source = ReplaySource(ReplayConfig("replay", recording), example.bundle.manifest, ignore_unknown=False)
    timestamps = readings[2].tolist()
    inbox = Inbox(3)
    source.start(inbox, threading.Event(), timestamps[9])

    stamps = []
    while isinstance(delivery := inbox.take(LONG_S), Delivery):
        assert len(inbox) <= 3
        stamps.append(delivery.content.timestamp)
    assert stamps == timestamps[10:]


def test_a_replay_at_the_speed_of_a_clock_waits_between_intervals(recording, example):
    stopped = threading.Event()
    config = ReplayConfig("replay", recording, speed=1.0)
    inbox = Inbox(100)
    ReplaySource(config, example.bundle.manifest, ignore_unknown=False).start(inbox, stopped, None)

    assert isinstance(inbox.take(LONG_S), Delivery)
    assert inbox.take(0.1) is None  # the next one is due in 300 seconds
    stopped.set()

    inbox = Inbox(100)
    config = ReplayConfig("replay", recording, speed=1e6)
    ReplaySource(config, example.bundle.manifest, ignore_unknown=False).start(inbox, threading.Event(), None)
    assert len(everything(inbox)[0]) == 40


def test_a_recording_that_does_not_fit_is_refused_before_anything_runs(recording, example):
    recording.write_text(recording.read_text().replace("s3", "nobody"))

    with pytest.raises(DataError, match="nobody"):
        ReplaySource(ReplayConfig("replay", recording), example.bundle.manifest, ignore_unknown=False)
