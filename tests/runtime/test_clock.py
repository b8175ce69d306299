from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from runtime.clock import Clock, to_seconds
from runtime.options import StreamOptions
from stunet_deploy.errors import ConfigError, StreamError

STAMP = 1_330_617_600  # 2012-03-01T16:00:00Z


@pytest.mark.parametrize(
    "timestamp",
    [
        STAMP,
        float(STAMP),
        np.int64(STAMP),
        "2012-03-01T16:00:00Z",
        "2012-03-01T08:00:00-08:00",
        datetime(2012, 3, 1, 16, tzinfo=timezone.utc),
        datetime(2012, 3, 1, 8, tzinfo=timezone(timedelta(hours=-8))),
        STAMP + 74,
        STAMP - 74.9,
    ],
)
def test_spellings_of_one_moment_snap_to_one_stamp(timestamp):
    assert Clock(300).snap(timestamp) == STAMP


def test_the_grid_lies_where_the_recording_lay():
    half_hours = Clock(3600, phase_s=1800)
    assert half_hours.snap("2012-03-01T08:00:00+05:30") == half_hours.snap(STAMP - 48_600) == STAMP - 48_600
    assert Clock(300, phase_s=150).snap(STAMP + 160) == STAMP + 150
    with pytest.raises(StreamError, match="150 s from"):
        Clock(300, phase_s=150).snap(STAMP)


@pytest.mark.parametrize("timestamp", [STAMP + 76, STAMP - 80, "2012-03-01T16:02:30Z"])
def test_far_from_the_grid_is_refused(timestamp):
    with pytest.raises(StreamError, match="from the grid of 300 s"):
        Clock(300).snap(timestamp)


def test_tolerance_may_be_raised():
    assert Clock(300, tolerance=0.5).snap(STAMP + 140) == STAMP


@pytest.mark.parametrize("timestamp", [datetime(2012, 3, 1, 16), "2012-03-01 16:00:00", "2012-03-01"])
def test_time_without_a_zone_is_refused(timestamp):
    with pytest.raises(StreamError, match="without a time zone"):
        Clock(300).snap(timestamp)


@pytest.mark.parametrize(
    "timestamp", ["yesterday", "", None, True, float("nan"), float("inf"), 10**400, STAMP * 1000, [1], 1 + 2j]
)
def test_what_is_no_time_is_refused(timestamp):
    with pytest.raises(StreamError, match="seconds since the epoch"):
        Clock(300).snap(timestamp)


@pytest.mark.parametrize(
    "timestamp", ["9999-12-31T23:55:00Z", "0001-01-01T00:00:00+14:00", datetime.max.replace(tzinfo=timezone.utc), -7e10]
)
def test_a_year_without_a_wall_clock_is_refused(timestamp):
    with pytest.raises(StreamError, match="seconds since the epoch") as caught:
        Clock(300).snap(timestamp)
    assert caught.value.reason == "timestamp"


def test_a_leap_second_is_the_second_that_the_epoch_counts():
    assert to_seconds("2016-12-31T23:59:60Z") == to_seconds("2017-01-01T00:00:00Z") == 1_483_228_800
    assert to_seconds("2016-12-31 15:59:60-08:00") == 1_483_228_800
    assert Clock(300).snap("2016-12-31T23:59:60Z") == 1_483_228_800
    with pytest.raises(StreamError):
        to_seconds("2016-12-31T23:60:60Z")


@pytest.mark.parametrize("tolerance", [-0.1, 0.6, float("nan")])
def test_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ConfigError, match="tolerance"):
        StreamOptions(tolerance=tolerance)
