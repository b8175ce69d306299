"""Series: its checks, the wall clock, the grid."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.series import wall_clock as wall_clock_module
from stunet_deploy.series.series import Series, read_series
from stunet_deploy.series.times import parse_time
from stunet_deploy.series.wall_clock import find_zone, local_times, second_of_week, time_of_week, utc_times
from stunet_deploy.site import Site

NEW_YEAR = 1_325_376_000  # 2012-01-01T00:00Z, a Sunday


def make_series(rows: int = 6, nodes: int = 2, interval_s: int = 300, **changes: object) -> Series:
    values = np.arange(rows * nodes, dtype=np.float32).reshape(rows, nodes, 1)
    facts: dict[str, object] = {
        "sensor_ids": tuple(f"s{index}" for index in range(nodes)),
        "features": ("speed",),
        "units": ("mph",),
        "interval_s": interval_s,
    }
    arrays: dict[str, object] = {
        "values": values,
        "observed": np.ones(values.shape, np.bool_),
        "timestamps": NEW_YEAR + interval_s * np.arange(rows),
    }
    arrays |= {name: changes.pop(name) for name in arrays.keys() & changes.keys()}
    return Series(**arrays, site=Site(**{**facts, **changes}))  # type: ignore[arg-type]


def write_times(path: Path, times: list[str]) -> Path:
    path.write_text("time,a\n" + "".join(f"{time},{index}\n" for index, time in enumerate(times)))
    return path


def wall_clock(first: str, last: str, minutes: int = 5) -> list[str]:
    moment, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    times = []
    while moment <= end:
        times.append(moment.isoformat())
        moment += timedelta(minutes=minutes)
    return times


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((5, 2, 1), np.float32)}, "values of shape"),
        ({"observed": np.ones((6, 3, 1), np.bool_)}, "observed of shape"),
        ({"units": ()}, "0 units for 1 features"),
        ({"latitude": (34.0, 34.1, 34.2)}, "latitude of 3 sensors"),
        ({"sensor_ids": ("a", "a")}, "'a' more than once"),
        ({"sensor_ids": ("a", "")}, "sensor 2 without an id"),
        ({"stamp": "middle"}, "'middle'"),
        ({"interval_s": 0}, "at least one second"),
        ({"timestamps": NEW_YEAR + 299 * np.arange(6)}, "regular grid"),
        ({"timestamps": NEW_YEAR + 300 * np.array([0, 1, 1, 2, 3, 4])}, "followed by"),
        ({"timezone": "Mars/Olympus"}, "pip install tzdata"),
    ],
)
def test_series_refuses_what_does_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_series(**changes)


def test_rows_cut_all_arrays_alike() -> None:
    series = make_series(6)
    cut = series.rows(slice(1, 4))
    assert cut.timestamps.tolist() == [NEW_YEAR + 300, NEW_YEAR + 600, NEW_YEAR + 900]
    np.testing.assert_array_equal(cut.values, series.values[1:4])
    np.testing.assert_array_equal(cut.observed, series.observed[1:4])
    with pytest.raises(DataError, match="consecutive rows"):
        series.rows(slice(0, 6, 2))


def test_features_are_found_by_name() -> None:
    series = make_series(
        2,
        values=np.zeros((2, 2, 2), np.float32),
        observed=np.ones((2, 2, 2), np.bool_),
        features=("speed", "flow"),
        units=("", ""),
    )
    assert series.site.feature_indices() == [0, 1]
    assert series.site.feature_indices(("flow",)) == [1]
    with pytest.raises(DataError, match=r"'occupancy'.*speed, flow"):
        series.site.feature_indices(("occupancy",))


def test_segments_are_runs_of_consecutive_intervals() -> None:
    times = NEW_YEAR + 300 * np.array([0, 1, 2, 700, 701, 1400])
    assert make_series(6, timestamps=times).segments() == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert make_series(6).segments() == [slice(0, 6)]


def test_time_of_week_counts_from_local_monday() -> None:
    monday = NEW_YEAR + 86_400
    np.testing.assert_array_equal(time_of_week([monday, monday + 7 * 86_400 - 1], "UTC"), [0, 604_799])
    # 07:30 UTC is 23:30 of the Sunday before in Los Angeles, and 08:30 in Berlin.
    assert time_of_week([monday + 27_000], "America/Los_Angeles").tolist() == [6 * 86_400 + 84_600]
    assert time_of_week([monday + 27_000], "Europe/Berlin").tolist() == [30_600]
    scalar = time_of_week(monday, "Europe/Berlin")
    assert scalar.shape == ()
    assert scalar.dtype == np.float32
    series = make_series(3, timestamps=monday + 300 * np.arange(3))
    np.testing.assert_array_equal(series.time_of_week(), [0, 300, 600])


def test_time_of_week_follows_clock_changes_that_are_off_the_hour() -> None:
    # St John's changed its clocks one minute after midnight until 2011.
    zone = "America/St_Johns"
    around = np.arange(-1800, 1800, 60) + int(datetime(2011, 3, 13, 0, 1, tzinfo=ZoneInfo(zone)).timestamp())
    expected = [datetime.fromtimestamp(second, ZoneInfo(zone)) for second in around.tolist()]
    np.testing.assert_array_equal(
        time_of_week(around, zone),
        [
            6 * 86_400 + t.hour * 3600 + t.minute * 60
            if t.weekday() == 6
            else 5 * 86_400 + t.hour * 3600 + t.minute * 60
            for t in expected
        ],
    )


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Australia/Lord_Howe"])
def test_the_second_of_the_week_is_the_time_of_week_of_one_moment(zone: str) -> None:
    stamps = NEW_YEAR - 40_000_000 + 1_799 * np.arange(30_000)  # more than a year, clock changes both ways in it

    one_by_one = [second_of_week(stamp, find_zone(zone)) for stamp in stamps.tolist()]

    np.testing.assert_array_equal(time_of_week(stamps, zone), one_by_one)


def test_utc_times_inverts_local_times_but_for_the_repeated_hour() -> None:
    zone = "America/Los_Angeles"
    utc = np.arange(NEW_YEAR, NEW_YEAR + 366 * 86_400, 1800)
    back = utc_times(local_times(utc, zone), zone)
    differs = np.flatnonzero(back != utc)
    assert len(differs) == 2  # the two half hours after the clocks went back
    assert (utc[differs] - back[differs] == 3600).all()


def test_a_missing_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_database(name: str) -> ZoneInfo:
        raise wall_clock_module.ZoneInfoNotFoundError(f"No time zone found with key {name}")

    monkeypatch.setattr(wall_clock_module, "ZoneInfo", no_database)
    with pytest.raises(DataError, match="tzdata"):
        time_of_week([NEW_YEAR], "America/Los_Angeles")
    assert time_of_week([NEW_YEAR], "UTC").tolist() == [6 * 86_400]


@pytest.mark.parametrize("name", ["", "America", "../etc/passwd", "/etc/localtime", "UTC+1", "\x00"])
def test_odd_zone_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="time zone"):
        make_series(timezone=name)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2012-01-01", "UTC", NEW_YEAR),
        ("2012-01-01T00:00:00Z", "Europe/Berlin", NEW_YEAR),
        ("2012-01-01T01:00", "Europe/Berlin", NEW_YEAR),
        ("2011-12-31 16:00:00-08:00", "UTC", NEW_YEAR),
        ("1325376000", "Europe/Berlin", NEW_YEAR),
        ("1325376000.0", "UTC", NEW_YEAR),
    ],
)
def test_parse_time_reads_the_usual_forms(text: str, zone: str, expected: int) -> None:
    assert parse_time(text, zone) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "01/02/2012 00:05", "inf", "nan"])
def test_parse_time_refuses_the_rest(text: str) -> None:
    with pytest.raises(DataError, match="ISO 8601"):
        parse_time(text)


def test_naive_times_are_wall_clock_of_the_zone_given(tmp_path: Path) -> None:
    path = write_times(tmp_path / "own.csv", wall_clock("2012-03-05T00:00", "2012-03-05T01:00"))
    assert read_series(path).timestamps[0] == parse_time("2012-03-05T00:00Z")
    local = read_series(path, timezone="America/Los_Angeles")
    assert local.timezone == "America/Los_Angeles"
    assert local.timestamps[0] == parse_time("2012-03-05T08:00Z")
    assert local.time_of_week()[0] == 0


def test_an_hour_that_no_clock_showed_is_left_out_when_it_holds_no_reading(tmp_path: Path) -> None:
    times = wall_clock("2012-03-11T01:00", "2012-03-11T04:00")
    path = tmp_path / "own.csv"
    path.write_text("time,a\n" + "".join(f"{time},{'' if 'T02' in time else 61}\n" for time in times))
    series = read_series(path, timezone="America/Los_Angeles")
    assert series.segments() == [slice(0, len(times) - 12)]
    assert series.observed.all()
    assert "12 rows without a reading in an hour that clocks skip left out" in series.source
    assert not read_series(path).observed.all()  # in UTC that hour exists


def test_clocks_set_forward_leave_no_gap_when_the_missing_hour_is_absent(tmp_path: Path) -> None:
    times = [
        time
        for time in wall_clock("2012-03-11T01:00", "2012-03-11T04:00")
        if not "2012-03-11T02:00" <= time < "2012-03-11T03:00"
    ]
    path = write_times(tmp_path / "own.csv", times)
    series = read_series(path, timezone="America/Los_Angeles")
    assert series.observed.all()
    assert len(series.timestamps) == len(times)
    as_utc = read_series(path)
    assert int((~as_utc.observed).sum()) == 12
    assert "12 missing intervals filled as unobserved" in as_utc.source


def test_an_hour_that_never_was_is_refused_with_the_flag(tmp_path: Path) -> None:
    path = write_times(tmp_path / "own.csv", wall_clock("2012-03-11T01:00", "2012-03-11T04:00"))
    with pytest.raises(DataError, match=r"2012-03-11T02:55:00 is followed by 2012-03-11T03:00:00.*--timezone UTC"):
        read_series(path, timezone="America/Los_Angeles")
    assert read_series(path).observed.all()
    assert read_series(path, timezone="Etc/GMT+8").observed.all()


def test_the_hour_that_occurs_twice_means_its_first(tmp_path: Path) -> None:
    once = wall_clock("2012-11-04T00:30", "2012-11-04T03:00")
    series = read_series(write_times(tmp_path / "once.csv", once), timezone="America/Los_Angeles")
    assert len(series.timestamps) == len(once) + 12
    gap = np.flatnonzero(~series.observed[:, 0, 0])
    assert series.timestamps[gap[0]] == parse_time("2012-11-04T01:00:00-08:00")
    twice = wall_clock("2012-11-04T00:30", "2012-11-04T01:55") + wall_clock("2012-11-04T01:00", "2012-11-04T03:00")
    with pytest.raises(DataError, match="increasing times"):
        read_series(write_times(tmp_path / "twice.csv", twice), timezone="America/Los_Angeles")


def test_times_with_an_offset_pass_through_both_clock_changes(tmp_path: Path) -> None:
    zone = ZoneInfo("America/Los_Angeles")
    for start in ("2012-03-11T08:00Z", "2012-11-04T06:00Z"):
        seconds = parse_time(start) + 300 * np.arange(60)
        times = [datetime.fromtimestamp(second, zone).isoformat() for second in seconds.tolist()]
        series = read_series(write_times(tmp_path / "own.csv", times), timezone="America/Los_Angeles")
        np.testing.assert_array_equal(series.timestamps, seconds)
        assert series.observed.all()


@pytest.mark.parametrize(
    ("interval_s", "bridged"),
    [(1, 10_000), (60, 1439), (300, 287), (3600, 23), (2 * 3600, 12), (86_400, 12), (7 * 86_400, 12)],
)
def test_a_gap_is_bridged_or_a_break_by_its_length(tmp_path: Path, interval_s: int, bridged: int) -> None:
    for missing in (1, bridged, bridged + 1):
        rows = np.array([0, 1, 2, 3, *(missing + 4 + np.arange(4))])
        stamps = [str(np.datetime64(NEW_YEAR + interval_s * row, "s")) for row in rows.tolist()]
        series = read_series(write_times(tmp_path / "gap.csv", stamps))
        assert series.interval_s == interval_s
        assert len(series.segments()) == 1 + (missing > bridged)
        assert len(series.timestamps) == 8 + (missing if missing <= bridged else 0)


def test_short_gaps_are_filled_and_days_are_breaks(tmp_path: Path) -> None:
    times = [
        *wall_clock("2012-03-02T23:00", "2012-03-02T23:55"),
        *wall_clock("2012-03-05T00:00", "2012-03-05T00:30"),
        *wall_clock("2012-03-05T02:00", "2012-03-05T02:30"),
    ]
    series = read_series(write_times(tmp_path / "own.csv", times))
    assert series.segments() == [slice(0, 12), slice(12, 12 + 31)]
    assert np.flatnonzero(~series.observed[:, 0, 0]).tolist() == list(range(12 + 7, 12 + 24))
    assert (series.values[~series.observed] == 0).all()
    assert (np.diff(series.timestamps[12:]) == 300).all()
    assert "17 missing intervals filled" in series.source
    assert "1 break(s) of a day or more" in series.source
    assert replace(series, source="").interval_s == 300


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Australia/Sydney"])
@pytest.mark.parametrize("hours", [4, 6, 24, 7 * 24])
def test_rows_by_the_wall_clock_stay_a_grid_when_clocks_change(tmp_path: Path, zone: str, hours: int) -> None:
    """From four hours on; each is at most an hour off, and on the same local day."""
    rows = 60 * 7 * 24 // hours
    local = np.datetime64("2024-01-01T00:00") + np.arange(rows) * np.timedelta64(hours, "h")
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["time,a,b", *(f"{time},{row},{row + 0.5}" for row, time in enumerate(local))]))

    series = read_series(path, timezone=zone)

    assert series.interval_s == 3600 * hours
    assert len(series.timestamps) == rows
    assert series.observed.all()
    off = local_times(series.timestamps, zone) - local.astype("datetime64[s]").astype(np.int64)
    assert set(off.tolist()) == {0, 3600}
    assert "of the wall clock" in series.source


@pytest.mark.parametrize("hours", [2, 3])
def test_shorter_intervals_across_a_clock_change_are_refused_for_that_reason(tmp_path: Path, hours: int) -> None:
    local = np.datetime64("2024-03-01T00:00") + np.arange(700) * np.timedelta64(hours, "h")
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["time,a", *(f"{time},{row}" for row, time in enumerate(local))]))

    with pytest.raises(DataError, match="the clock changes here"):
        read_series(path, timezone="Europe/Berlin")
