from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.service.step_times import BOUNDS_S, StepTimes
from runtime.service.web.history import History


@pytest.fixture
def manifest(example):
    return example.bundle.manifest


@pytest.fixture
def add(manifest):
    """Return a function that adds an interval of some stamp to a history, every reading and forecast its number."""

    def add(history, stamp, number=0.0, readings=True):
        shape = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
        values = np.full((len(manifest.sensor_ids), len(manifest.features)), number, np.float32)
        interval = Interval(values, np.arange(values.size).reshape(values.shape) % 3 > 0)
        forecast = Forecast(np.full(shape, number + 0.5, np.float32), stamp, 1.0, (), 1000.0, "ring", manifest)
        history.add(forecast, interval if readings else None)

    return add


def test_it_holds_what_was_observed_and_forecast(manifest, add):
    history = History(manifest)
    assert history.last is None
    add(history, 300, 7.0)
    add(history, 600, 8.0, readings=False)

    first, second = history.rows()
    assert (first.issued_s, second.issued_s) == (300, 600)
    # Of the two features only the first is a target; every third reading was not observed.
    np.testing.assert_array_equal(first.observed[:, 0], [np.nan, 7, 7, np.nan, 7])
    assert np.isnan(second.observed).all()
    assert (first.forecast == 7.5).all()
    assert first.forecast.shape == (3, 5, 1)
    assert history.last is second


def test_it_forgets_what_is_older_than_a_day_and_its_forecasts(manifest, add):
    history = History(manifest)
    assert history.capacity == 288 + 3
    for t in range(400):
        add(history, 300 * t)

    assert [row.issued_s for row in history.rows()] == [300 * t for t in range(400 - 291, 400)]


def test_it_stays_below_its_limit_but_for_one_interval(manifest, add):
    row_bytes = 4 * (1 + 3) * 5 * 1
    assert History(manifest, limit=10 * row_bytes + 3).capacity == 10
    smallest = History(manifest, limit=1)
    for t in range(5):
        add(smallest, 300 * t)
    assert [row.issued_s for row in smallest.rows()] == [1200]


def test_the_bound_of_a_large_network_is_what_the_documents_say(manifest):
    large = replace(manifest, site=replace(manifest.site, sensor_ids=tuple(map(str, range(33_113)))), horizon=12)
    usual = replace(manifest, site=replace(manifest.site, sensor_ids=tuple(map(str, range(207)))), horizon=12)

    assert History(large).capacity == 19
    assert History(usual).capacity == 300
    assert 300 * 4 * 13 * 207 < 3.3e6


def test_a_clock_that_went_back_begins_it_anew(manifest, add):
    history = History(manifest)
    for stamp in (900, 1200, 600, 900):
        add(history, stamp)

    assert [row.issued_s for row in history.rows()] == [600, 900]


def test_it_goes_on_with_a_bundle_of_the_same_forecasts(manifest):
    history = History(manifest)

    assert history.fits(replace(manifest, bundle_id="another"))
    assert not history.fits(replace(manifest, horizon=4))
    assert not history.fits(replace(manifest, targets=("trend",)))


def test_readers_see_whole_intervals_while_it_is_written(manifest, add):
    history, wrong, done = History(manifest), [], threading.Event()

    def read():
        while not done.is_set():
            rows = history.rows()
            stamps = [row.issued_s for row in rows]
            whole = all((row.forecast == row.issued_s + 0.5).all() for row in rows[-5:])
            if stamps != sorted(stamps) or not whole:
                wrong.append(stamps)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for t in range(500):
        add(history, 300 * t, 300.0 * t)
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []


def test_step_times_are_counted_by_bucket_and_the_last_thousand_ranked():
    times = StepTimes()
    assert times.read().median_ms is None
    for milliseconds in [1.0] * 500 + [3.0] * 980 + [30_000.0] * 20:
        times.add(milliseconds / 1000)
    found = times.read()

    counts = dict(zip([*BOUNDS_S, None], found.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 500, 0.005: 980, None: 20}
    assert found.total_s == pytest.approx(0.5 + 2.94 + 600)
    assert (found.median_ms, found.p99_ms) == (3.0, 30_000.0)
