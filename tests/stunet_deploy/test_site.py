"""The site: what is compared, what is only described, and a recording fitted to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

SITE = Site(
    ("a", "b", "c"), ("speed", "flow"), ("km/h", "veh/h"), 300, "end", "Europe/Berlin", (50, 51, 52), (8, 9, 10)
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensor_ids": ("b", "a", "c")}, "in its order"),
        ({"features": ("flow", "speed")}, "in its order"),
        ({"interval_s": 600}, "intervals of 600 s"),
        ({"stamp": "start"}, "the start of intervals"),
        ({"timezone": "UTC"}, "time zone UTC"),
    ],
)
def test_another_network_or_clock_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"speeds.csv.*{message}"):
        SITE.check_same(replace(SITE, **changes), "speeds.csv")


@pytest.mark.parametrize("code", [1e39, -1e308, np.inf, np.nan])
def test_a_code_that_no_reading_can_be_is_refused(code: float) -> None:
    with pytest.raises(DataError, match="as a code for no data"):
        replace(SITE, no_data=((2046.0,), (0.0, code)))


def test_units_and_places_are_descriptions() -> None:
    SITE.check_same(replace(SITE, units=("", ""), latitude=None, longitude=None), "speeds.csv")


def test_a_recording_is_fitted_to_a_site() -> None:
    rows = np.arange(4)
    site = Site(("c", "x", "b", "a"), ("flow", "speed"), ("veh/h", "mph"), 300, "start", "UTC")
    values = (rows[:, None, None] * 100 + np.arange(8).reshape(4, 2)).astype(np.float32)
    series = Series(values, np.ones(values.shape, bool), 300 * rows, site, "speeds.csv")

    fitted = series.fitted_to(SITE)

    SITE.check_same(fitted.site, "speeds.csv")
    assert fitted.timestamps.tolist() == [300, 600, 900, 1200]
    assert fitted.values[1].tolist() == [[107, 106], [105, 104], [101, 100]]
    assert fitted.units == ("mph", "veh/h")
    with pytest.raises(DataError, match="without 1 sensors, for instance d"):
        series.fitted_to(replace(SITE, sensor_ids=("a", "b", "d")))
    with pytest.raises(DataError, match="intervals of 300 s"):
        series.fitted_to(replace(SITE, interval_s=600))
