"""What the status page says of how good forecasts were."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytestmark = pytest.mark.needs_system_package("chromium")


@pytest.mark.parametrize("process", ["days = 1.0"], indirect=True)
def test_accuracy_is_shown_where_forecasts_are_watched(look, process, recent, drawn, text):
    lines, speeds = recent
    forecasts = process.forecast(lines)
    page = look()
    drawn(page)
    page.wait_for_selector("#accuracy")

    rows = [row.split("\t") for row in page.locator("#mae tr").all_inner_texts()]
    assert [row[0] for row in rows] == ["5 min", "10 min", "15 min"]
    for step, row in enumerate(rows, start=1):
        errors = np.abs(forecasts[:-step, step - 1] - speeds[step:])
        # What is older counts for less, but these are a few hours of a time constant of a day.
        assert float(row[-3]) == pytest.approx(np.nanmean(errors), rel=0.1)
    page.locator("#worst button").first.click()
    assert text(page, "#sensor-name") == "Sensor " + page.locator("#worst button").first.inner_text()
    page.select_option("#colour", "error")
    assert text(page, "#map-title") == "Where forecasts are off, over all times ahead"
    assert page.is_disabled("#ahead")  # it would not change the map
    assert page.is_disabled("#play")
    assert text(page, "#unit") == "mean error of speed, mph"


@pytest.mark.parametrize("process", ["days = 1.0"], indirect=True)
def test_no_verdict_before_enough_has_been_compared(look, process, recent, drawn, text):
    lines, _ = recent
    process.forecast(lines[:3])
    page = look()
    drawn(page)
    page.wait_for_selector("#accuracy")

    assert text(page, "#scored").startswith("2 of the 12 intervals compared")
    rows = [row.split("\t") for row in page.locator("#mae tr").all_inner_texts()]
    assert [(row[0], row[-1] == "–") for row in rows] == [("5 min", False), ("10 min", False), ("15 min", True)]
    page.fill("#find", "s1")
    page.wait_for_selector("#chart .observed")
    assert re.match(r"Compared in [12] intervals? of these 6 h", text(page, "#verdict"))
    process.forecast(lines[3:])
    page.get_by_text(re.compile(r"would have been off by [\d.]+ mph: the model is")).wait_for()
    page.get_by_text(re.compile(r"worse than if nothing changed at [0-5] of 5 sensors")).wait_for()


@pytest.mark.parametrize("process", ["threshold = 0.01"], indirect=True)
def test_an_alarm_is_announced(look, process, recent, drawn, text):
    process.forecast(recent[0])  # by a model of nothing
    page = look()
    drawn(page)
    page.wait_for_selector("#accuracy")

    assert text(page, "#health") == "! accuracy alarm"
    assert re.search(r"Accuracy alarm since \w+ \d+ \w+, \d\d:\d\d", text(page, "#notes"))
    assert re.search(r"worse than if nothing changed at [1-5] of 5 sensors", text(page, "#scored"))


def test_accuracy_is_not_shown_where_nobody_watches(look, process, recent, drawn):
    process.forecast(recent[0])
    page = look()
    drawn(page)

    assert page.locator("#accuracy").is_hidden()
    assert page.locator("#colour option:enabled").all_inner_texts() == ["value", "change from now"]
