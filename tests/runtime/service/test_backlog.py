"""What a stream knows of the backlog of its source, in a time that the test tells."""

from __future__ import annotations

import pytest

from runtime.service import backlog as module
from runtime.service.backlog import PAUSE_S, QUIET_S, SENDERS_S, Backlog
from runtime.service.sources import Answer, Inbox, StdinSource

CLOCK_S = 1_330_588_800.0


class Time:
    now_s = 1000.0


@pytest.fixture
def time(monkeypatch):
    monkeypatch.setattr(module, "elapsed_s", lambda: Time.now_s)
    return Time


@pytest.fixture
def inbox():
    return Inbox(10)


@pytest.fixture
def backlog(time, inbox):
    return Backlog(StdinSource(), inbox)


def turn(backlog, time, seconds):
    """Let time pass in turns as short as those of an idle stream."""
    end_s = time.now_s + seconds
    while time.now_s < end_s:
        time.now_s = min(end_s, time.now_s + 0.25)
        backlog.turn()


def ask(backlog, inbox):
    """Return what the clock showed when the source was asked, as far as it answers at once."""
    backlog.ask(CLOCK_S)
    assert isinstance(inbox.take(0), Answer)
    return backlog.answered()


def test_in_the_steady_state_the_answer_of_the_source_is_enough(backlog, inbox, time):
    turn(backlog, time, 100)
    assert not backlog.expected
    assert ask(backlog, inbox) == CLOCK_S
    assert backlog.drain() is None


@pytest.mark.parametrize(("cut_s", "wait_s"), [(0.5, QUIET_S), (20, 20), (3600, SENDERS_S)])
def test_after_a_cut_the_senders_get_as_long_as_it_took_up_to_a_minute(backlog, inbox, time, cut_s, wait_s):
    turn(backlog, time, 10)
    inbox.lost()
    turn(backlog, time, cut_s)
    assert backlog.expected
    inbox.connected()
    assert backlog.expected
    turn(backlog, time, wait_s - 0.25)
    assert backlog.expected
    turn(backlog, time, 1)
    assert not backlog.expected


def test_after_a_pause_of_the_thread_a_backlog_is_expected(backlog, inbox, time):
    turn(backlog, time, 10)
    time.now_s += 7200
    backlog.turn()
    assert backlog.expected
    turn(backlog, time, QUIET_S + 1)
    assert not backlog.expected


def test_readings_keep_it_up_until_they_are_quiet(backlog, inbox, time):
    inbox.connected()
    backlog.turn()
    assert [backlog.add(7200 - 10 * step) for step in range(3)] == [True, False, False]
    for step in range(200):
        turn(backlog, time, 1)
        backlog.add(7000 - 30 * step)
    assert backlog.expected
    assert ask(backlog, inbox) is None  # what it answers is no end
    turn(backlog, time, QUIET_S + 0.25)
    assert ask(backlog, inbox) == CLOCK_S
    drained = backlog.drain()
    assert (drained.readings, drained.in_vain) == (203, False)


def test_a_network_that_comes_no_nearer_does_not_keep_it_up_for_ever(backlog, inbox, time):
    inbox.connected()
    backlog.turn()
    for second in range(200):
        backlog.add(600 + second % 7)
        assert backlog.expected == (second <= 60)
        turn(backlog, time, 1)
    assert ask(backlog, inbox) == CLOCK_S
    assert backlog.drain().in_vain
    assert not backlog.add(600)  # which is not said each time
    assert not backlog.expected
    inbox.connected()
    backlog.turn()
    assert backlog.expected


def test_an_answer_that_was_held_up_is_the_end_of_an_outage(backlog, inbox, time):
    backlog.ask(CLOCK_S)
    turn(backlog, time, PAUSE_S)
    assert not backlog.expected
    turn(backlog, time, 30)
    assert backlog.expected
    assert backlog.answered() is None
    turn(backlog, time, 30)
    assert backlog.expected
    turn(backlog, time, 5)
    assert ask(backlog, inbox) == CLOCK_S


def test_an_answer_from_before_a_new_connection_does_not_count(backlog, inbox, time):
    backlog.ask(CLOCK_S)
    inbox.lost()
    inbox.connected()
    backlog.turn()
    turn(backlog, time, 10)
    assert backlog.answered() is None
