from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BackendError, ConfigError, StreamError

INTERVAL_S = 300


def push_all(stream, readings, intervals):
    values, _, timestamps = readings
    return np.stack([stream.push(values[t], timestamps[t]).values for t in intervals])


def test_forecasts_are_those_of_the_recurrence(example, readings):
    stream = Stream.open(example.bundle)
    np.testing.assert_allclose(push_all(stream, readings, range(40)), example.forecast(*readings), rtol=1e-5, atol=1e-5)
    assert stream.counters.pushes == 40


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_window_mode_equals_a_fresh_stream_over_the_last_intervals(build_example, readings, window):
    values, _, timestamps = readings
    bundle = build_example((1,), (3, 1), (5, 2), window=window).bundle
    found = push_all(Stream.open(bundle, mode="window"), readings, range(40))
    for t in range(40):
        fresh = Stream.open(bundle)
        fresh.warm_up(values[max(0, t - window + 1) : t], timestamps[max(0, t - window + 1) : t])
        expected = fresh.push(values[t], timestamps[t]).values
        np.testing.assert_allclose(found[t], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_reset_equals_fresh(example, readings, mode):
    stream = Stream.open(example.bundle, mode=mode)
    fresh = push_all(stream, readings, range(11))
    stream.reset()
    assert stream.last is None
    np.testing.assert_array_equal(push_all(stream, readings, range(11)), fresh)


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_the_same_push_again_changes_nothing(example, readings, mode):
    values, _, timestamps = readings
    stream, other = Stream.open(example.bundle, mode=mode), Stream.open(example.bundle, mode=mode)
    for t in range(8):
        first = stream.push(values[t], timestamps[t])
        again = stream.push(values[t].astype(np.float64), datetime.fromtimestamp(timestamps[t] + 9, timezone.utc))
        assert again is first
        np.testing.assert_array_equal(first.values, other.push(values[t], timestamps[t]).values)
    assert stream.counters.repeats == 8
    assert stream.counters.pushes == 8


def test_a_past_that_would_be_rewritten_is_refused_and_leaves_the_stream_as_it_was(example, readings):
    values, _, timestamps = readings
    stream, other = Stream.open(example.bundle), Stream.open(example.bundle)
    for each in (stream, other):
        each.warm_up(values[:5], timestamps[:5])
    with pytest.raises(StreamError, match=r"2012-03-01T08:20:00Z again with other readings"):
        stream.push(values[5], timestamps[4])
    with pytest.raises(StreamError, match=r"2012-03-01T08:10:00Z older .*last: 2012-03-01T08:20:00Z"):
        stream.push(values[2], timestamps[2])
    with pytest.raises(StreamError, match="values of shape"):
        stream.push(values, timestamps[5])
    with pytest.raises(StreamError, match="without a time zone"):
        stream.push(values[5], "2012-03-01T08:25:00")
    refused = {reason: count for reason, count in stream.counters.refused.items() if count}
    assert refused == {"conflict": 1, "late": 1, "shape": 1, "timestamp": 1}
    np.testing.assert_array_equal(
        stream.push(values[5], timestamps[5]).values, other.push(values[5], timestamps[5]).values
    )


@pytest.mark.parametrize("mode", ["carry", "window"])
@pytest.mark.parametrize("missing", [1, 3, 12])
def test_a_gap_is_bridged_with_unobserved_intervals_at_their_own_times(example, readings, mode, missing):
    values, observed, timestamps = readings
    stream, other = Stream.open(example.bundle, mode=mode), Stream.open(example.bundle, mode=mode)
    stream.warm_up(values[:6], timestamps[:6])
    other.warm_up(values[:6], timestamps[:6])
    after = 6 + missing
    found = stream.push(values[after], timestamps[after])
    for t in range(6, after):
        other.push(np.full_like(values[t], np.nan), timestamps[t])
    np.testing.assert_array_equal(found.values, other.push(values[after], timestamps[after]).values)
    assert found.reasons[0] == f"bridged a gap of {missing} intervals"
    assert stream.counters.bridged == missing
    if mode == "carry":
        hidden = observed.copy()
        hidden[6:after] = False
        expected = example.forecast(values, hidden, timestamps)[after]
        np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-5)


def test_by_default_a_closed_night_is_carried_as_a_recording_carries_it(example, readings):
    values, _, timestamps = readings
    night = (86_400 - 1) // example.bundle.manifest.interval_s
    rows = [*range(4), *range(4 + night, 6 + night)]
    whole, sent = Stream.open(example.bundle), Stream.open(example.bundle)
    for row in range(6 + night):
        stamp = int(timestamps[0]) + row * example.bundle.manifest.interval_s
        heard = row in rows
        expected = whole.push(values[row % len(values)], stamp, np.full(values.shape[1:], heard))
        if heard:
            found = sent.push(values[row % len(values)], stamp)
            np.testing.assert_array_equal(found.values, expected.values)
    assert (sent.counters.bridged, sent.counters.resets) == (night, 0)
    late = int(timestamps[0]) + (6 + 2 * night + 1) * example.bundle.manifest.interval_s
    assert f"reset after a gap of {night + 1} intervals" in sent.push(values[0], late).reasons


def test_a_gap_beyond_the_limit_resets_and_says_so(example, readings):
    values, _, timestamps = readings
    stream = Stream.open(example.bundle, options=StreamOptions(max_gap=3))
    stream.warm_up(values[:6], timestamps[:6])
    found = stream.push(values[10], timestamps[10])
    np.testing.assert_array_equal(found.values, Stream.open(example.bundle).push(values[10], timestamps[10]).values)
    assert found.reasons[:2] == ("reset after a gap of 4 intervals", "warming up: 1 of 4 intervals seen")
    assert stream.counters.resets == 1
    assert stream.counters.bridged == 0


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_state_that_lasts_outlives_a_gap_and_nothing_else(example, readings, mode):
    values, _, timestamps = readings
    manifest = example.bundle.manifest
    first, *others = manifest.contract.states
    contract = replace(manifest.contract, states=(replace(first, lasting=True), *others))
    bundle = Bundle(example.bundle.path, replace(manifest, contract=contract))
    stream = Stream.open(bundle, mode=mode, options=StreamOptions(max_gap=0))
    stream.warm_up(values[:6], timestamps[:6])
    before = stream.read_lines()

    stream.push(values[10], timestamps[10])

    anew = Stream.open(bundle, mode=mode)
    if mode == "carry":  # a window remembers nothing beyond itself
        anew.write_lines(anew.read_lines() | {first.name: before[first.name]})
    anew.push(values[10], timestamps[10])
    for name, line in anew.read_lines().items():
        np.testing.assert_array_equal(stream.read_lines()[name], line)
    stream.reset()
    assert not any(line.any() for line in stream.read_lines().values())


def test_reasons_and_shares(example, readings):
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle, options=StreamOptions(min_observed=0.3))
    found = [stream.push(values[t], timestamps[t]) for t in range(5)]
    assert [forecast.degraded for forecast in found] == [True, True, True, False, False]
    assert found[2].reasons == ("warming up: 3 of 4 intervals seen",)
    assert found[4].observed_share == pytest.approx(observed[4].mean())
    silent = stream.push({"s1": {"speed": 30, "trend": 900}}, timestamps[5])
    assert silent.reasons == ("too few sensors: 1 of 10 readings observed",)
    assert stream.counters.outside_limits == 1


@pytest.mark.parametrize(("stamp", "newest"), [("start", 0), ("end", 1)])
def test_an_interval_ahead_of_the_clock_is_refused(example, readings, stamp, newest):
    values, _, timestamps = readings
    bundle = Bundle(
        example.bundle.path, replace(example.bundle.manifest, site=replace(example.bundle.manifest.site, stamp=stamp))
    )
    stream = Stream.open(bundle)
    now = float(timestamps[3])
    with pytest.raises(StreamError, match="ahead of the clock"):
        stream.push(values[0], timestamps[3 + newest] + INTERVAL_S, now=now)
    with pytest.raises(StreamError, match="ahead of the clock"):
        stream.push(values[0], timestamps[0] + 86_400, now=now)
    assert stream.last is None
    assert stream.counters.refused["ahead"] == 2
    assert stream.push(values[0], timestamps[3 + newest], now=now).issued_s == timestamps[3 + newest]


def test_after_the_clock_went_back_a_day_the_stream_starts_again(example, readings):
    values, _, timestamps = readings
    stream, fresh = Stream.open(example.bundle), Stream.open(example.bundle)
    for t in range(5):
        stream.push(values[t], timestamps[t] + 86_400, now=timestamps[t] + 86_700.0)
    with pytest.raises(StreamError, match="older than the last"):
        stream.push(values[5], timestamps[5])  # without a clock nobody knows which one is wrong
    found = stream.push(values[5], timestamps[5], now=timestamps[5] + 300.0)
    assert found.reasons[0] == "reset after the clock went back"
    assert stream.counters.resets == 1
    np.testing.assert_array_equal(found.values, fresh.push(values[5], timestamps[5]).values)
    assert not stream.push(values[6], timestamps[6], now=timestamps[6] + 300.0).reasons[0].startswith("reset")


@pytest.mark.parametrize("sunday", ["2012-03-11", "2012-11-04"])
def test_a_change_of_daylight_saving_time_is_no_gap(example, sunday):
    """Wall-clock stamps with their offsets: an hour is skipped in March and comes twice in November."""
    stream, utc = Stream.open(example.bundle), Stream.open(example.bundle)
    begin = int(datetime.fromisoformat(sunday + "T07:00:00+00:00").timestamp())
    local = ZoneInfo("America/Los_Angeles")
    rng = np.random.default_rng(2)
    wall_clocks = []
    for number in range(72):
        values = rng.uniform(20, 60, (5, 2))
        wall = datetime.fromtimestamp(begin + INTERVAL_S * number, local)
        wall_clocks.append(wall.strftime("%H:%M"))
        found = stream.push(values, wall.isoformat())
        np.testing.assert_array_equal(found.values, utc.push(values, begin + INTERVAL_S * number).values)
    assert wall_clocks.count("01:30") == (2 if sunday == "2012-11-04" else 1)
    assert wall_clocks.count("02:30") == (1 if sunday == "2012-11-04" else 0)
    assert (stream.counters.bridged, stream.counters.resets, stream.counters.repeats) == (0, 0, 0)
    assert stream.counters.pushes == 72


def test_every_refusal_has_its_reason_and_changes_nothing(example, readings):
    values, _, timestamps = readings
    stream, other = Stream.open(example.bundle), Stream.open(example.bundle)
    push_all(stream, readings, range(5))
    push_all(other, readings, range(5))
    now = timestamps[5] + 300.0
    for reason, arguments in [
        ("shape", (values[5][:3], timestamps[5])),
        ("shape", (["a", "b"], timestamps[5])),
        ("shape", ({"s0": 1}, timestamps[5], np.ones(5))),
        ("unknown_sensor", ({"nobody": 1}, timestamps[5])),
        ("unknown_feature", ({"s0": {"colour": 1}}, timestamps[5])),
        ("reading", ({"s0": {"speed": "fast"}}, timestamps[5])),
        ("reading", ({"s0": 50}, timestamps[5])),
        ("timestamp", (values[5], "tomorrow")),
        ("timestamp", (values[5], "9999-12-31T23:55:00Z")),
        ("off_grid", (values[5], timestamps[5] + 100)),
        ("late", (values[5], timestamps[1])),
        ("conflict", (values[5], timestamps[4])),
        ("ahead", (values[5], timestamps[30])),
    ]:
        before = dict(stream.counters.refused)
        with pytest.raises(StreamError) as caught:
            stream.push(*arguments, now=now)
        assert caught.value.reason == reason
        assert stream.counters.refused == before | {reason: before[reason] + 1}
    assert push_all(stream, readings, range(5, 9)).tobytes() == push_all(other, readings, range(5, 9)).tobytes()


def test_options_out_of_range_are_refused(example):
    for option in ({"max_gap": -1}, {"min_observed": 1.5}, {"tolerance": 2.0}, {"tolerance": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            StreamOptions(**option)
    for option in ({"mode": "both"}, {"threads": 0}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            Stream.open(example.bundle, **option)


def test_warm_up_with_a_mask_equals_pushes(example, readings):
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle)
    stream.warm_up(np.nan_to_num(values), timestamps, observed)
    np.testing.assert_array_equal(stream.last.values, push_all(Stream.open(example.bundle), readings, range(40))[-1])
    with pytest.raises(ValueError, match="shorter"):
        stream.warm_up(values[:2], timestamps[-1:] + INTERVAL_S)


def test_lines_move_between_streams(example, readings):
    source, target = Stream.open(example.bundle), Stream.open(example.bundle)
    push_all(source, readings, range(9))
    push_all(target, readings, range(5, 9))
    target.write_lines(source.read_lines())
    np.testing.assert_array_equal(push_all(target, readings, range(9, 30)), push_all(source, readings, range(9, 30)))


def test_forecast_line_holds_the_forecast(example, readings):
    values, _, timestamps = readings
    stream = Stream.open(str(example.bundle.path), name="north")
    stream.warm_up(values[:6], timestamps[:6])
    forecast = stream.last
    line = json.loads(forecast.to_json_line())
    assert list(line) == [
        "bundle_id",
        "stream",
        "issued_at",
        "interval_s",
        "horizons_min",
        "sensors",
        "values",
        "quantiles",
        "observed_share",
        "degraded",
        "reasons",
        "step_us",
    ]
    assert "\n" not in forecast.to_json_line()
    assert line["bundle_id"] == example.bundle.manifest.bundle_id
    assert (line["stream"], line["issued_at"], line["interval_s"]) == ("north", "2012-03-01T08:25:00Z", 300)
    assert line["horizons_min"] == [5, 10, 15]
    assert line["sensors"] == ["s0", "s1", "s2", "s3", "s4"]
    assert line["quantiles"] is None
    assert (line["degraded"], line["reasons"]) == (False, [])
    np.testing.assert_array_equal(np.array(line["values"]["speed"], np.float32), forecast.values[..., 0])
    assert forecast.issued_at == datetime(2012, 3, 1, 8, 25, tzinfo=timezone.utc)
    assert forecast.valid_at[2] == datetime(2012, 3, 1, 8, 40, tzinfo=timezone.utc)
    assert forecast.step_us > 0


def test_a_forecast_that_is_not_finite_is_never_issued(example, readings):
    values, _, timestamps = readings
    stream = Stream.open(example.bundle)
    stream.write_lines({name: np.full_like(line, np.nan) for name, line in stream.read_lines().items()})
    with pytest.raises(BackendError, match="not finite"):
        stream.push(values[0], timestamps[0])


def test_a_whole_stream_runs_without_torch_onnx_and_scipy(example):
    script = textwrap.dedent("""
        import sys
        for name in ("torch", "onnx", "scipy", "h5py", "pyarrow", "rich"):
            sys.modules[name] = None
        from runtime.inspect import explain
        from runtime.replay import open_replay
        from runtime.stream import Stream
        from runtime.verify import verify
        for mode in ("carry", "window"):
            stream = Stream.open(sys.argv[1], mode=mode)
            for record in open_replay(stream.bundle.path / "golden.npz", stream.bundle.manifest):
                line = stream.push(*record).to_json_line()
        if not (verify(stream.bundle) and explain(stream.bundle)):
            sys.exit("not verified")
        print(line)
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(example.bundle.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["degraded"] is False
