"""The errors that are watched, straight from their definition, and after a restart."""

from __future__ import annotations

import math
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.drift import DriftOptions, DriftWatch
from runtime.durable.stream import DurableStream
from runtime.options import StreamOptions
from runtime.readings import Interval
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import ConfigError
from stunet_deploy.metrics import score
from stunet_deploy.series.series import Series
from training.baselines import persistence
from training.protocols import protocol_a

START, INTERVAL_S, HORIZON, NODES = 1_330_588_800, 300, 3, 5
LIMITS = np.array([[0.0, 80.0], [-1.0, 1.0]])


def equal(found, expected):
    """Compare two reports in every field, to the last bit."""
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), err_msg=field.name)


def readings_of(step, kind="plain"):
    """Return an interval's readings [node, feature]: some missing, some outside the limits."""
    rng = np.random.default_rng([23, step])
    values = np.stack([rng.uniform(-5, 90, NODES), rng.uniform(-1.2, 1.2, NODES)], axis=-1)
    values[rng.random((NODES, 2)) < 0.15] = np.nan
    if kind == "silent":
        values[1:] = np.nan
    values[4] = np.nan if step < 9 else values[4]  # a sensor that comes late
    return values


def open_watched(bundle, **options):
    stream = Stream.open(bundle, **options)
    stream.watch = DriftWatch(bundle.manifest)
    return stream


class Definition:
    """The running errors in float64, straight from their definitions, over all that was ever pushed."""

    def __init__(self, targets=(0,)):
        self.targets = list(targets)
        self.pushed = []  # stamp, values [node, target] with NaN where unobserved, forecast [horizon, node, target]

    def add(self, stamp, values, forecast):
        low, high = LIMITS.T
        truth = np.where((values >= low) & (values <= high), values, np.nan).astype(np.float32).astype(np.float64)
        self.pushed.append((stamp, truth[:, self.targets], forecast.astype(np.float64)))

    def last_observed(self, until, node, target):
        seen = [truth[node, target] for _, truth, _ in self.pushed[: until + 1] if not np.isnan(truth[node, target])]
        return seen[-1] if seen else math.nan

    def pairs(self):
        """Yield step, node, target, error of the model, error of persistence and intervals since, for every pair."""
        for now, (stamp, truth, _) in enumerate(self.pushed):
            for then, (issued, _, forecast) in enumerate(self.pushed[:now]):
                step = (stamp - issued) // INTERVAL_S
                if step > HORIZON:
                    continue
                for node in range(NODES):
                    for target in range(len(self.targets)):
                        held, actual = self.last_observed(then, node, target), truth[node, target]
                        if not math.isnan(held) and not math.isnan(actual):
                            model = abs(forecast[step - 1, node, target] - actual)
                            yield step - 1, node, target, model, abs(held - actual), len(self.pushed) - 1 - now

    def report(self, days=1.0):
        targets = len(self.targets)
        by_horizon, by_sensor = np.zeros((3, HORIZON, targets)), np.zeros((3, NODES, targets))
        scored = 0
        for step, node, target, model, baseline, since in self.pairs():
            weight = math.exp(-since * INTERVAL_S / (days * 86_400))
            scored += 1
            by_horizon[:, step, target] += weight * np.array([model, baseline, 1])
            by_sensor[:, node, target] += weight * np.array([model, baseline, 1])
        with np.errstate(invalid="ignore"):
            return by_horizon[:2] / by_horizon[2], by_sensor[:2] / by_sensor[2], scored


def assert_as_defined(report, definition, days=1.0):
    by_horizon, by_sensor, scored = definition.report(days)
    assert report.scored == scored
    assert report.intervals == len({since for *_, since in definition.pairs()})
    for found, expected in zip(
        (report.mae, report.persistence_mae, report.sensor_mae, report.sensor_persistence_mae),
        (*by_horizon, *by_sensor),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-5)


#: Intervals missing before the next one, and what it holds; a repeat is pushed a second time.
ACTIONS = st.tuples(st.sampled_from([0, 0, 0, 0, 1, 2, 4, 9]), st.sampled_from(["plain", "silent", "repeat"]))


@settings(max_examples=40)
@given(actions=st.lists(ACTIONS, min_size=1, max_size=25), mode=st.sampled_from(["carry", "window"]))
def test_running_errors_are_those_of_their_definition_whatever_is_missing(example, actions, mode):
    stream = open_watched(example.bundle, mode=mode, options=StreamOptions(max_gap=5))
    definition, step = Definition(), -1
    for gap, kind in actions:
        step += 1 + gap
        values, stamp = readings_of(step, kind), START + INTERVAL_S * step
        forecast = stream.push(values, stamp)
        if kind == "repeat":
            stream.push(values, stamp)
        definition.add(stamp, values, forecast.values)
    stream.close()

    assert_as_defined(stream.watch.report(), definition)


def test_persistence_is_that_of_the_evaluation(example):
    rng = np.random.default_rng(5)
    rows = 80
    observed = rng.random((rows, NODES, 2)) > 0.3
    observed[0] = True
    values = rng.uniform(0, 1, (rows, NODES, 2)).astype(np.float32)
    series = Series(values, observed, START + INTERVAL_S * np.arange(rows), example.bundle.manifest.site)
    split = replace(protocol_a(series, window=1, horizon=HORIZON), test=np.arange(rows - HORIZON))
    (forecasts,) = persistence(series, split, ["speed"]).window(series, split.test, 1)
    ahead = split.test[:, None] + 1 + np.arange(HORIZON)
    expected = score(forecasts, values[ahead][..., :1], observed[ahead][..., :1]).mae

    stream = Stream.open(example.bundle)
    stream.watch = DriftWatch(example.bundle.manifest, DriftOptions(days=1e9))
    for row in range(rows):
        stream.push(values[row], int(series.timestamps[row]), observed[row])
    stream.close()
    # The last rows issue no scored forecast in the evaluation; only at the longest step are the pairs the same.
    assert stream.watch.report().persistence_mae[-1, 0] == pytest.approx(expected[-1, 0], rel=1e-5)


def test_old_errors_fade_with_the_time_constant(build_example):
    bundle = build_example((1,), targets=("trend", "speed")).bundle
    stream = Stream.open(bundle)
    stream.watch = DriftWatch(bundle.manifest, DriftOptions(days=0.02))
    definition = Definition(targets=(1, 0))
    for step in range(40):
        values = readings_of(step)
        definition.add(START + INTERVAL_S * step, values, stream.push(values, START + INTERVAL_S * step).values)
    stream.close()

    assert_as_defined(stream.watch.report(), definition, days=0.02)


def test_nothing_is_scored_before_its_truth_nor_for_targets_without_one(example, forecast_of):
    stream = open_watched(example.bundle)
    stream.push(readings_of(0), START)
    report = stream.watch.report()
    assert report.scored == 0
    for errors in (report.mae, report.persistence_mae, report.sensor_mae, report.sensor_persistence_mae):
        assert np.isnan(errors).all()
    assert (report.mae.shape, report.sensor_mae.shape) == ((HORIZON, 1), (NODES, 1))
    stream.close()

    manifest = replace(example.bundle.manifest, targets=("queue", "speed"), target_units=("m", "mph"))
    watch = DriftWatch(manifest)
    values = np.full((NODES, 2), 40, np.float32)
    for step in range(3):
        forecast = forecast_of(manifest, step, np.full((HORIZON, NODES, 2), 43, np.float32))
        watch.see(Interval(values, np.full((NODES, 2), True)), forecast, sound=True)
    report = watch.report()
    assert np.isnan(report.mae[:, 0]).all()
    np.testing.assert_array_equal(report.mae[:, 1], [3, 3, math.nan])
    np.testing.assert_array_equal(report.persistence_mae[:, 1], [0, 0, math.nan])
    without = DriftWatch(replace(manifest, targets=("queue",), target_units=("m",)))
    for step in range(3):
        forecast = forecast_of(manifest, step, np.zeros((HORIZON, NODES, 1), np.float32))
        without.see(Interval(values, np.full((NODES, 2), True)), forecast, sound=True)
    again = DriftWatch(replace(manifest, targets=("queue",), target_units=("m",)))
    again.restore(without.state())
    assert (again.report().scored, np.isnan(again.report().sensor_mae).all()) == (0, True)


def test_a_stuck_detector_scores_nothing(example):
    stream = open_watched(example.bundle, options=StreamOptions(stuck_after=3))
    for step in range(10):
        stream.push({"s0": {"speed": 50.0}, "s1": {"speed": 50.0 + step}}, START + INTERVAL_S * step)
    report = stream.watch.report()
    stream.close()

    # s0 is heard twice, which scores the forecast issued between the two; s1 scores 1 + 2 + 3 · 7.
    assert report.scored == 1 + 24
    assert report.intervals == 9
    assert np.isfinite(report.sensor_mae[:2]).all()
    assert np.isnan(report.sensor_mae[2:]).all()


def test_what_was_forecast_ahead_of_a_wrong_clock_is_dropped(example):
    stream = open_watched(example.bundle)
    day = 86_400
    for step in range(4):
        now = START + day + INTERVAL_S * step
        stream.push(readings_of(step), now, now=now)
    before = stream.watch.report().scored
    forecast = stream.push(readings_of(4), START, now=START)
    assert forecast.reasons[0] == "reset after the clock went back"
    assert stream.watch.report().scored == before
    stream.push(readings_of(5), START + INTERVAL_S, now=START + INTERVAL_S)
    assert before < stream.watch.report().scored <= before + NODES
    stream.close()


def test_nothing_the_watch_does_reaches_the_forecasts_and_its_memory_is_constant(example):
    watched, plain = open_watched(example.bundle), Stream.open(example.bundle)
    shapes = []
    for step in range(60):
        values, stamp = readings_of(step), START + INTERVAL_S * step
        np.testing.assert_array_equal(watched.push(values, stamp).values, plain.push(values, stamp).values)
        state = watched.watch.state()
        shapes.append({name: state[name].shape for name in state.keys() - {"alarm_since_s"}})
    assert all(shape == shapes[HORIZON] for shape in shapes[HORIZON:])
    assert watched.snapshot().drift is not None
    assert plain.snapshot().drift is None
    watched.close()
    plain.close()


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_stream_says_which_forecasts_are_sound(example, mode):
    stream, sound = Stream.open(example.bundle, mode=mode), []

    class Listener(DriftWatch):
        def see(self, interval, forecast, *, sound):
            heard.append(sound)

    heard = sound
    stream.watch = Listener(example.bundle.manifest)
    whole = np.full((NODES, 2), 0.5)
    few = np.where(np.arange(NODES)[:, None] < 2, whole, np.nan)
    stream.keep = lambda accepted: ("not durable: the disk is full",)  # says nothing about the forecast
    for step, values in [*((n, whole) for n in range(5)), (5, few), (6, whole), (8, whole), (9, whole), (40, whole)]:
        stream.push(values, START + INTERVAL_S * step)
    stream.close()

    warming_up = [False] * 3
    assert sound == [*warming_up, True, True, False, True, False, True, False]


# A restart.


@settings(max_examples=30)
@given(gaps=st.lists(st.sampled_from([0, 0, 0, 1, 2, 7]), min_size=2, max_size=20), data=st.data())
def test_a_watch_goes_on_from_a_snapshot_as_if_nothing_had_been(example, gaps, data):
    steps = np.cumsum([1 + gap for gap in gaps]).tolist()
    cut = data.draw(st.integers(0, len(steps)))
    stream, again = open_watched(example.bundle), open_watched(example.bundle)
    for number, step in enumerate(steps):
        if number == cut:
            again.restore(Snapshot.from_bytes(stream.snapshot().to_bytes()))
        stream.push(readings_of(step), START + INTERVAL_S * step)
        if number >= cut:
            again.push(readings_of(step), START + INTERVAL_S * step)
    if cut < len(steps):
        equal(again.watch.report(), stream.watch.report())
    stream.close()
    again.close()


@pytest.mark.parametrize("pushed", [1, 7, 12, 20, 24])
def test_a_process_that_dies_loses_nothing_of_the_watch(example, tmp_path, pushed):
    durable = DurableStream(open_watched(example.bundle), tmp_path / "state", every=6)
    for step in range(pushed):
        durable.push(readings_of(step), START + INTERVAL_S * step)
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    expected = durable.stream.watch.report()
    durable.close()
    durable.stream.close()

    again = DurableStream(open_watched(example.bundle), tmp_path / "left", every=6)
    equal(again.stream.watch.report(), expected)
    again.close()
    again.stream.close()


def test_a_snapshot_without_a_watch_begins_a_new_one_and_the_other_way_round(example):
    watched, plain = open_watched(example.bundle), Stream.open(example.bundle)
    for step in range(10):
        watched.push(readings_of(step), START + INTERVAL_S * step)
        plain.push(readings_of(step), START + INTERVAL_S * step)
    with_watch, without = watched.snapshot(), plain.snapshot()
    watched.restore(without)
    assert watched.watch.report().scored == 0
    plain.restore(with_watch)
    following = [stream.push(readings_of(10), START + INTERVAL_S * 10) for stream in (watched, plain)]
    np.testing.assert_array_equal(following[0].values, following[1].values)
    watched.close()
    plain.close()


@pytest.mark.parametrize(
    "options", [{"days": 0}, {"days": math.inf}, {"delta": -0.1}, {"delta": math.nan}, {"threshold": 0.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        DriftOptions(**options)
