from __future__ import annotations

import pytest

from runtime.clock import to_seconds
from runtime.jumps import Jumps
from runtime.messages import Record

START, STEP_S = 1_330_588_800, 300
YEAR_S = 365 * 86_400


def run(manifest, stamps, last_s=None):
    """Return the times that are pushed in the end, and those refused, as a stream would have them."""
    jumps, pushed, refused = Jumps(manifest, last_s), [], 0
    for stamp in stamps:
        verdict = jumps.take(Record({}, stamp))
        assert {error.reason for error in verdict.refused} <= {"ahead"}
        refused += len(verdict.refused)
        if verdict.anew:
            pushed.clear()
        pushed += [to_seconds(record.timestamp) for record in verdict.ready]
    return pushed, refused + len(jumps.end())


def steps(first, count):
    return [START + STEP_S * step for step in range(first, first + count)]


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("off_s", [4 * STEP_S + 1, 86_400, YEAR_S, 70 * YEAR_S])
@pytest.mark.parametrize("times", [1, 3])
def test_one_interval_far_ahead_is_refused_wherever_it_comes_and_the_others_are_taken(example, at, off_s, times):
    right = steps(0, 6)
    after = right[min(at, 5)]
    sent = [*right[:at], *[after + off_s + STEP_S * 4] * (times if at else 1), *right[at:]]
    pushed, refused = run(example.bundle.manifest, sent)
    assert pushed == right
    assert refused == (times if at else 1)


def test_at_the_end_what_nothing_confirms_is_refused(example):
    assert run(example.bundle.manifest, [*steps(0, 3), START + YEAR_S]) == (steps(0, 3), 1)


@pytest.mark.parametrize("gap", [0, 1, 3, 4, 5, 300])
@pytest.mark.parametrize("last_s", [None, START - STEP_S])
def test_a_gap_of_any_length_loses_nothing(example, gap, last_s):
    sent = steps(0, 3) + steps(3 + gap, 3)
    assert run(example.bundle.manifest, sent, last_s) == (sent, 0)


def test_a_recording_of_one_interval_a_day_is_taken_but_for_its_last(example):
    days = [START + 86_400 * day for day in range(5)]
    assert run(example.bundle.manifest, days) == (days[:-1], 1)


def test_two_intervals_behind_a_gap_that_come_in_the_wrong_order_are_put_right(example):
    far = START + YEAR_S
    assert run(example.bundle.manifest, [START, far + STEP_S, far]) == ([START, far, far + STEP_S], 0)


def test_not_without_end_are_intervals_of_one_time_held_back(example):
    stamps = [START] + 1000 * [START + YEAR_S] + [START + STEP_S]
    pushed, refused = run(example.bundle.manifest, stamps)
    assert (pushed, refused) == ([START, START + STEP_S], 1000)


def test_a_time_that_cannot_be_read_is_left_to_the_stream(example):
    jumps = Jumps(example.bundle.manifest)
    assert jumps.take(Record({}, "tomorrow")).ready == [Record({}, "tomorrow")]
