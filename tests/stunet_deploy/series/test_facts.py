"""What is said of a recording beside its file: name and unit of its readings, codes for no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.series.facts import Facts
from stunet_deploy.series.series import read_series, read_series_for
from stunet_deploy.site import Site
from tests.stunet_deploy.series.layouts.field_files import write_pems

NAN = float("nan")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.csv"
    path.write_text("time,A,B\n2025-03-03T00:00,1,2046\n2025-03-03T00:05,0,4\n2025-03-03T00:10,-1,5.5\n")
    return path


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.csv"
    rows = [f"2025-03-03T00:{5 * row:02d},{sensor},{row},{10 * row}" for row in range(3) for sensor in "AB"]
    path.write_text("\n".join(["time,sensor_id,speed,flow", *rows]))
    return path


def read(path: Path, facts: Facts) -> list[list[float]]:
    series = read_series(path, facts=facts)
    return np.where(series.observed, series.values, NAN)[..., -1].tolist()


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ({}, [[1, 2046], [0, 4], [-1, 5.5]]),
        ({"": [2046]}, [[1, NAN], [0, 4], [-1, 5.5]]),
        ({"speed": [-1, 5.5]}, [[1, 2046], [0, 4], [NAN, NAN]]),
        ({"": [0], "speed": [2046]}, [[1, NAN], [NAN, 4], [-1, 5.5]]),
        ({"": [77]}, [[1, 2046], [0, 4], [-1, 5.5]]),
    ],
)
def test_a_code_for_no_data_is_no_reading(
    wide: Path, no_data: dict[str, list[float]], expected: list[list[float]]
) -> None:
    np.testing.assert_array_equal(read(wide, Facts(no_data=no_data)), expected)


def test_a_code_of_one_feature_is_a_reading_of_another(long: Path) -> None:
    series = read_series(long, facts=Facts(no_data={"flow": [0]}))
    assert series.observed[0].tolist() == [[True, False]] * 2
    assert series.no_data == ((), (0,))
    assert series.aligned("AB", ["flow"]).no_data == ((0,),)
    assert "2 codes for no data read as missing" in series.source


def test_codes_are_compared_as_readings_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    path.write_text("time,A\n2025-03-03T00:00,-9999.9\n2025-03-03T00:05,1\n")
    assert not read_series(path, facts=Facts(no_data={"": [-9999.9]})).observed[0].any()


def test_a_recording_of_codes_alone_is_refused(wide: Path) -> None:
    with pytest.raises(DataError, match="without a single reading"):
        read_series(wide, facts=Facts(no_data={"": [1, 0, -1, 2046, 4, 5.5]}))


def test_readings_without_a_name_take_the_one_given_and_say_which_they_have(wide: Path) -> None:
    plain, named = read_series(wide), read_series(wide, facts=Facts("inflow", {"": "pass/10min"}))
    assert (plain.features, plain.units) == (("speed",), ("",))
    assert "readings called speed, as the file names none" in plain.source
    assert (named.features, named.units) == (("inflow",), ("pass/10min",))
    assert "called" not in named.source
    np.testing.assert_array_equal(named.values, plain.values)


def test_units_are_those_of_the_features_named(long: Path) -> None:
    assert read_series(long, facts=Facts(units={"flow": "veh/h"})).units == ("", "veh/h")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts("inflow"), "the feature 'inflow' for long.csv, which names its readings speed, flow"),
        (Facts(units={"inflow": "1"}), "the feature 'inflow', which long.csv does not have"),
        (Facts(no_data={"inflow": [1]}), "the feature 'inflow', which long.csv does not have"),
    ],
)
def test_what_contradicts_the_file_is_refused(long: Path, facts: Facts, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_series(long, facts=facts)


def test_another_unit_than_the_file_tells_is_refused() -> None:
    freeway = Path(__file__).parents[3] / "stunet_deploy" / "data" / "freeway.npz"
    unit = read_series(freeway).units[0]
    assert read_series(freeway, facts=Facts(units={"speed": unit})).units[0] == unit
    with pytest.raises(DataError, match="which says"):
        read_series(freeway, facts=Facts(units={"speed": "furlongs"}))


def test_a_code_that_is_no_reading_is_told(wide: Path) -> None:
    assert "no reading is 2045" in read_series(wide, facts=Facts(no_data={"": [2045, 0]})).source


def test_a_model_names_nothing_that_a_file_names(long: Path) -> None:
    site = Site(("A", "B"), ("occupancy",), ("",), 300, no_data=((7,),))
    with pytest.raises(DataError, match=r"feature 'occupancy'.*one of speed, flow"):
        read_series_for(site, long).fitted_to(site)


def test_the_clock_of_a_model_is_that_of_a_file_that_names_none(wide: Path, tmp_path: Path) -> None:
    site = Site(("A", "B"), ("speed",), ("",), 300, timezone="Asia/Tokyo")
    pems = tmp_path / "pems"
    pems.mkdir()
    write_pems(pems, "2025-03-03")
    tokyo, angeles, kolkata = (
        read_series_for(site, wide),
        read_series_for(site, pems),
        read_series_for(site, pems, timezone="Asia/Kolkata"),
    )
    midnight = 1_740_960_000
    hours = [(series.timestamps[0] - midnight) / 3600 for series in (tokyo, angeles, kolkata)]
    assert hours == [-9, 8, -5.5]


def test_a_recording_for_a_model_has_its_name_and_loses_its_codes(wide: Path) -> None:
    site = Site(("B", "A"), ("inflow",), ("",), 300, no_data=((2046, 0),))
    found = read_series_for(site, wide).fitted_to(site)
    np.testing.assert_array_equal(found.observed[..., 0], [[False, True], [True, False], [True, True]])
    assert found.site.no_data == site.no_data
