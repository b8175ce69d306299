"""Splits and normalisation against the published counts and a literal windowed tensor."""

from dataclasses import replace

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.series.series import Series, read_series
from stunet_deploy.series.times import parse_time
from stunet_deploy.site import Site
from tests.paths import DATA
from training.protocols import Split, choose_protocol, normalisation, protocol_a, protocol_b

needs_data = pytest.mark.skipif(not (DATA / "metr-la.npz").is_file(), reason=f"no public data in {DATA}")


def make_series(rows: int, *, interval_s: int = 300, weekdays: bool = False, zone: str = "UTC") -> Series:
    rng = np.random.default_rng(rows)
    values = rng.uniform(1, 70, (rows, 2, 2)).astype(np.float32)
    observed = rng.random(values.shape) > 0.2
    timestamps = parse_time("2012-03-01", zone) + interval_s * np.arange(rows)
    if weekdays:
        days = np.busday_offset(np.datetime64("2012-05-01"), list(range(rows * interval_s // 86_400)))
        first = days.astype("datetime64[s]").astype(np.int64)
        timestamps = (first[:, None] + interval_s * np.arange(86_400 // interval_s)).ravel()
    return Series(
        values=np.where(observed, values, 0),
        observed=observed,
        timestamps=timestamps,
        site=Site(("a", "b"), ("speed", "flow"), ("mph", "veh/h"), interval_s, timezone=zone),
    )


def check_spans(series: Series, split: Split) -> None:
    """Spans are ordered and apart; windows and labels stay within a run and their span's rows."""
    issue = np.concatenate([split.train, split.validation, split.test])
    assert (np.diff(issue) > 0).all()
    assert min(len(split.train), len(split.validation), len(split.test)) > 0
    for first, last in ((issue - split.window + 1, issue), (issue, issue + split.horizon)):
        span = series.timestamps[last] - series.timestamps[first]
        np.testing.assert_array_equal(span, (last - first) * series.interval_s)
    assert split.train[0] - split.window + 1 >= split.train_rows.start
    assert split.train[-1] + split.horizon < split.train_rows.stop
    assert split.test_start == split.test[0] - split.window + 1
    assert split.train_rows.stop <= split.test_start + split.window


def test_protocol_a_has_the_published_counts_and_borders() -> None:
    series = make_series(34_272)
    split = protocol_a(series)
    assert [len(split.train), len(split.validation), len(split.test)] == [23_974, 3_425, 6_850]
    assert [split.train[0], split.train[-1]] == [11, 11 + 23_973]
    assert [split.validation[0], split.test[0]] == [11 + 23_974, 11 + 23_974 + 3_425]
    assert split.test[-1] + 12 == 34_272 - 1
    check_spans(series, split)


@pytest.mark.parametrize(("rows", "counts"), [(2016, [1395, 199, 399]), (52_116, [36_465, 5_209, 10_419])])
def test_protocol_a_rounds_as_dcrnn(rows: int, counts: list[int]) -> None:
    split = protocol_a(make_series(rows))
    assert [len(split.train), len(split.validation), len(split.test)] == counts


def dcrnn_spans(rows: int) -> list[np.ndarray]:
    """Issue rows of training, validation and test as DCRNN makes them: every t with rows t − 11 … t + 12."""
    every = np.array([t for t in range(rows) if t - 11 >= 0 and t + 12 <= rows - 1])
    test, train = round(len(every) * 0.2), round(len(every) * 0.7)
    return [every[:train], every[train : len(every) - test], every[len(every) - test :]]


@pytest.mark.parametrize(
    ("rows", "counts"), [(34_272, [23_974, 3_425, 6_850]), (52_116, [36_465, 5_209, 10_419])], ids=["LA", "Bay"]
)
def test_the_full_sets_have_the_windows_and_the_scaler_of_dcrnn(rows: int, counts: list[int]) -> None:
    series = make_series(rows)
    split = protocol_a(series)

    spans = dcrnn_spans(rows)
    assert [len(span) for span in spans] == counts
    for found, expected in zip((split.train, split.validation, split.test), spans, strict=True):
        np.testing.assert_array_equal(found, expected)
    # The public file holds a 0 where a reading is missing, and DCRNN's scaler counts it.
    file = np.where(series.observed, series.values, 0).astype(np.float64)[..., 0]
    inputs = file[spans[0][:, None] + np.arange(-11, 1)]
    mean, std = normalisation(series, split, literature=True)
    assert (mean[0], std[0]) == pytest.approx((inputs.mean(), inputs.std()), rel=1e-10)
    assert mean[0] < normalisation(series, split)[0][0] - 5


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (12, 3), (6, 24)])
def test_protocol_a_with_other_windows(window: int, horizon: int) -> None:
    series = make_series(300)
    split = protocol_a(series, window, horizon)
    assert len(split.train) + len(split.validation) + len(split.test) == 300 - window - horizon + 1
    check_spans(series, split)


def test_protocol_a_leaves_out_windows_across_a_break() -> None:
    series = make_series(10 * 288, weekdays=True)
    split = protocol_a(series)
    assert len(split.train) + len(split.validation) + len(split.test) == 10 * 288 - 2 * 23 - 23
    check_spans(series, split)


def test_protocol_b_has_265_windows_a_day_and_34_5_5_days() -> None:
    series = make_series(44 * 288, weekdays=True)
    split = protocol_b(series)
    assert [len(split.train), len(split.validation), len(split.test)] == [34 * 265, 5 * 265, 5 * 265]
    assert split.train_rows == slice(0, 34 * 288)
    assert split.test_start == 39 * 288
    assert ((split.test - 11) // 288 == (split.test + 12) // 288).all()
    assert [split.test[0], split.test[264], split.test[265]] == [39 * 288 + 11, 40 * 288 - 13, 40 * 288 + 11]
    check_spans(series, split)


def test_pemsd7_has_the_windows_and_the_score_of_stgcn() -> None:
    series = make_series(44 * 288, weekdays=True)
    series = replace(series, observed=np.ones_like(series.observed))
    split = protocol_b(series)

    # STGCN's tensor: of every day the 265 frames of 12 + 12 slots, 34 days of them for training.
    days = series.values.reshape(44, 288, 2, 2)
    frames = np.stack([days[:, slot : slot + 24] for slot in range(288 - 24 + 1)], axis=1).astype(np.float64)
    assert frames.shape[:3] == (44, 265, 24)
    spans = (split.train, split.validation, split.test)
    assert [len(span) for span in spans] == [9_010, 1_325, 1_325]
    for span, some in zip(spans, (frames[:34], frames[34:39], frames[39:]), strict=True):
        found = series.values[span[:, None] + np.arange(-11, 13)]
        np.testing.assert_array_equal(found, some.reshape(-1, 24, 2, 2))
    for literature in (False, True):  # nothing is missing in PeMSD7: the modes agree
        mean, std = normalisation(series, split, literature=literature)
        for feature in range(2):
            train = frames[:34, ..., feature]
            assert (mean[feature], std[feature]) == pytest.approx((train.mean(), train.std()), rel=1e-10)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(3, (1, 1, 1)), (7, (5, 1, 1)), (28, (22, 3, 3)), (44, (34, 5, 5)), (88, (68, 10, 10))],
)
def test_protocol_b_keeps_the_shares_for_other_lengths(days: int, expected: tuple[int, int, int]) -> None:
    split = protocol_b(make_series(days * 288))
    assert (len(split.train) // 265, len(split.validation) // 265, len(split.test) // 265) == expected


def test_protocol_b_days_are_local_and_short_days_count_for_nothing() -> None:
    series = make_series(5 * 288, zone="America/Los_Angeles").rows(slice(280, 5 * 288 - 10))
    split = protocol_b(series, (2, 1, 1))
    assert split.train_rows == slice(8, 8 + 2 * 288)
    assert [len(split.train), len(split.validation), len(split.test)] == [530, 265, 255]


def test_protocol_b_takes_the_days_asked_for() -> None:
    split = protocol_b(make_series(9 * 288), (5, 1, 1))
    assert len(split.test) == 265
    assert split.test_start == 6 * 288
    with pytest.raises(DataError, match=r"9 days.*expected 10 days"):
        protocol_b(make_series(9 * 288), (8, 1, 1))
    with pytest.raises(ConfigError, match="at least one day"):
        protocol_b(make_series(9 * 288), (8, 1, 0))


def test_auto_takes_b_for_weekday_recordings_alone() -> None:
    assert choose_protocol(make_series(7 * 288)).protocol == "a"
    weekdays = make_series(7 * 288, weekdays=True)
    assert choose_protocol(weekdays).protocol == "b"
    assert choose_protocol(weekdays, "a").protocol == "a"
    assert choose_protocol(make_series(7 * 288), "b").protocol == "b"
    outage = make_series(7 * 288)
    rows = np.r_[0:500, 1000 : 7 * 288]
    broken = Series(
        values=outage.values[rows],
        observed=outage.observed[rows],
        timestamps=outage.timestamps[rows],
        site=Site(outage.sensor_ids, outage.features, outage.units, 300),
    )
    assert choose_protocol(broken).protocol == "a"
    with pytest.raises(ConfigError, match="auto, a or b"):
        choose_protocol(outage, "c")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_series_too_short_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="longer recording"):
        choose_protocol(make_series(24), name)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="longer recording"):
        choose_protocol(make_series(20), name)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="window 0"):
        choose_protocol(make_series(900), name, window=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("literature", [False, True])
def test_normalisation_equals_that_of_the_windowed_tensor(name: str, literature: bool) -> None:
    series = make_series(3 * 288 + 40)
    split = choose_protocol(series, name)  # type: ignore[arg-type]
    last = 12 if name == "b" else 0
    rows = split.train[:, None] + np.arange(-11, last + 1)
    windows = series.values[rows].astype(np.float64)
    keep = np.ones(windows.shape, np.bool_) if literature else series.observed[rows]
    mean, std = normalisation(series, split, literature=literature)
    for feature in range(2):
        cells = windows[..., feature][keep[..., feature]]
        assert mean[feature] == pytest.approx(cells.mean(), rel=1e-9)
        assert std[feature] == pytest.approx(cells.std(), rel=1e-9)


def test_normalisation_looks_at_training_rows_only_and_survives_constants() -> None:
    series = make_series(600)
    split = protocol_a(series)
    expected = normalisation(series, split)
    series.values[split.train[-1] + 1 :] = 1e6
    np.testing.assert_array_equal(normalisation(series, split), expected)
    series.values[:] = 50
    mean, std = normalisation(series, split)
    assert (mean.tolist(), std.tolist()) == ([50, 50], [1, 1])
    series.observed[: split.train[-1] + 1, :, 1] = False
    with pytest.raises(DataError, match="no reading of 'flow'"):
        normalisation(series, split)


@needs_data
def test_the_literature_mode_of_the_metr_la_week_counts_what_the_public_file_holds() -> None:
    with np.load(DATA / "metr-la.npz") as arrays:
        # Upstream filled what was missing (observed = 0); the public file has 0 there. −1 is unknown, so observed.
        public = np.where(arrays["observed"] == 0, 0, arrays["speed"]).astype(np.float64)
    series = read_series(DATA / "metr-la.npz")
    split = choose_protocol(series)

    inputs = public[split.train[:, None] + np.arange(-11, 1)]

    mean, std = normalisation(series, split, literature=True)
    assert (mean[0], std[0]) == pytest.approx((inputs.mean(), inputs.std()), rel=1e-6)
    native, _ = normalisation(series, split)
    assert native[0] == pytest.approx(inputs[inputs > 0].mean(), rel=1e-6)


@needs_data
def test_the_public_weeks() -> None:
    metr_la = read_series(DATA / "metr-la.npz")
    split = choose_protocol(metr_la)
    assert (split.protocol, len(split.train), len(split.test)) == ("a", 1395, 399)
    pemsd7 = read_series(DATA / "pemsd7-m.npz")
    split = choose_protocol(pemsd7)
    assert (split.protocol, len(split.train), len(split.test)) == ("b", 5 * 265, 265)
    check_spans(pemsd7, split)
