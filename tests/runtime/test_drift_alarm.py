"""The Page-Hinkley test, by hand: one sensor, one hour ahead, errors that are exactly what is asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from runtime.drift import DriftOptions, DriftWatch
from runtime.readings import Interval
from stunet_deploy.site import Site

START = 1_330_588_800
HOUR, DAY, WEEK = 3600, 24, 168


@pytest.fixture
def watch_hours(forecast_of):
    """Return a function that watches one sensor, whose forecasts are off by what is asked for.

    They are for an hour ahead, and log(model's error / persistence's) is each of the ratios. Readings go up and down
    by 8, so persistence is always off by 8. The function returns the report after each truth, and the watch.
    """

    def watch_hours(example, ratios, *, unsound=(), **options):
        manifest = replace(
            example.bundle.manifest,
            site=Site(("a",), ("speed",), ("mph",), HOUR),
            targets=("speed",),
            std=(0.0,),
            horizon=1,
        )
        watch = DriftWatch(manifest, DriftOptions(**options))
        reports = []
        for step in range(len(ratios) + 1):
            reading, following = 40 + 8 * (step % 2), 48 - 8 * (step % 2)
            error = 8 * math.exp(ratios[step]) if step < len(ratios) else 0
            values = np.array([[[following + error]]], np.float32)
            interval = Interval(np.array([[reading]], np.float32), np.array([[True]]))
            watch.see(interval, forecast_of(manifest, step, values), sound=step not in unsound)
            reports.append(watch.report())
        return reports[1:], watch

    return watch_hours


def statistics(reports):
    return [report.statistic for report in reports]


def test_a_rise_is_summed_until_the_alarm_which_clears_at_half_of_the_threshold(example, watch_hours):
    quiet, worse, better, again = [-0.5] * WEEK, [-0.5 + 0.05 + 0.26] * 5, [-0.51] * 20, [0.0] * 3
    reports, _ = watch_hours(example, quiet + worse + better + again, delta=0.05, threshold=1.0)

    assert statistics(reports[:WEEK]) == [0] * WEEK  # against a reference of 0 on the first day, of -0.5 later
    assert not any(report.alarm for report in reports[:WEEK])
    assert {report.threshold for report in reports} == {1.0}

    reports = reports[WEEK:]  # 0.26 beyond delta for an hour each
    np.testing.assert_allclose(statistics(reports[:5]), [0.26, 0.52, 0.78, 1, 1], atol=1e-5)
    assert [report.alarm for report in reports[:5]] == [False, False, False, True, True]
    assert [report.alarm_since_s for report in reports[2:5]] == [None, *2 * [START + HOUR * (WEEK + 4)]]

    reports = reports[5:]  # falls by 0.06 an hour
    np.testing.assert_allclose(statistics(reports[:20]), [max(1 - 0.06 * n, 0) for n in range(1, 21)], atol=2e-5)
    assert [report.alarm for report in reports[:20]] == [True] * 8 + [False] * 12  # 0.52, and then 0.46

    reports = reports[20:]  # 0.45 an hour
    np.testing.assert_allclose(statistics(reports), [0.45, 0.9, 1], atol=1e-4)
    assert reports[2].alarm_since_s == START + HOUR * (WEEK + 5 + 20 + 3)


def test_the_reference_is_the_mean_of_the_first_week(example, watch_hours):
    reports, _ = watch_hours(example, [-0.4] * DAY + [-0.2] * (WEEK - DAY) + [-0.1] * 10, delta=0.0, threshold=100.0)
    found = statistics(reports)

    # Used after a day, and still learnt: the n-th -0.2 is compared with the mean of what came before it.
    means = [(-0.4 * DAY - 0.2 * n) / (DAY + n) for n in range(WEEK - DAY)]
    np.testing.assert_allclose(found[DAY:WEEK], np.cumsum([-0.2 - mean for mean in means]), atol=1e-4)
    final = (-0.4 * DAY - 0.2 * (WEEK - DAY)) / WEEK
    np.testing.assert_allclose(np.diff(found[WEEK:]), [-0.1 - final] * 9, atol=1e-5)


def test_what_an_alarm_is_about_is_not_learnt(example, watch_hours):
    reports, watch = watch_hours(example, [-0.5] * DAY + [0.5] * 60, delta=0.0, threshold=1.5)

    # The first 0.5 is 1 above the reference, the second 0.96: it is learnt as the alarm is raised by it.
    assert [report.alarm for report in reports[DAY : DAY + 3]] == [False, True, True]
    assert watch.state()["reference_count"] == DAY + 2
    np.testing.assert_allclose(watch.state()["reference"], (-0.5 * DAY + 0.5 * 2) / (DAY + 2), atol=1e-5)


def test_persistence_is_the_least_that_is_asked_of_a_model(example, watch_hours):
    reports, _ = watch_hours(example, [0.3] * 3, delta=0.05, threshold=1.0)  # in its first hours
    np.testing.assert_allclose(statistics(reports), [0.25, 0.5, 0.75], atol=1e-5)

    reports, _ = watch_hours(example, [0.04] * WEEK + [0.15] * 3, delta=0.05, threshold=1.0)
    assert statistics(reports[:WEEK]) == [0] * WEEK
    np.testing.assert_allclose(statistics(reports[WEEK:]), [0.1, 0.2, 0.3], atol=1e-5)  # above 0, not above 0.04


def test_forecasts_that_are_not_sound_count_in_the_errors_alone(example, watch_hours):
    reports, watch = watch_hours(example, [-0.5] * DAY + [2.0] * 12, unsound=range(DAY, DAY + 12))

    assert statistics(reports) == [0] * (DAY + 12)
    assert watch.state()["reference_count"] == DAY - 1  # the truth of the last sound one came with an unsound interval
    assert reports[-1].scored == DAY + 12
    assert reports[-1].mae[0, 0] > 8 > reports[DAY - 1].mae[0, 0]


def test_an_interval_without_errors_is_no_evidence(example, watch_hours, forecast_of):
    _, watch = watch_hours(example, [0.0])
    still = Interval(np.array([[40.0]], np.float32), np.array([[True]]))
    manifest = replace(example.bundle.manifest, site=replace(example.bundle.manifest.site, interval_s=HOUR))
    for step in range(100, 110):
        watch.see(still, forecast_of(manifest, step, np.array([[[40.0]]], np.float32)), sound=True)

    assert (watch.report().scored, watch.report().statistic, watch.report().alarm) == (10, 0, False)
    older = {name: value for name, value in watch.state().items() if name != "intervals"}
    watch.restore(older)  # of a snapshot from before intervals were counted
    assert (watch.report().scored, watch.report().intervals) == (10, 0)
