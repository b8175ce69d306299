"""What the status page shows, and how a sensor is chosen on it."""

from __future__ import annotations

import re

import numpy as np
import pytest

FOCUSED = "() => document.activeElement.id || document.activeElement.name || document.activeElement.tagName"

pytestmark = pytest.mark.needs_system_package("chromium")


def test_the_page_shows_sensors_forecasts_and_health(look, process, recent, drawn, text):
    lines, speeds = recent
    forecasts = process.forecast(lines)
    page = look()

    assert drawn(page) == 5
    assert text(page, "#unplaced") == "no coordinates: sensors in the file's order"
    assert re.fullmatch(r"Observed at \d\d:\d\d", text(page, "#map-title"))
    assert text(page, "#health") == "✓ well"
    assert page.locator("#notes").is_hidden()
    assert text(page, "#unit") == "speed, mph"
    ticks = [float(tick) for tick in page.locator("#ticks span").all_inner_texts()]
    assert ticks == sorted(ticks)
    assert len(ticks) >= 3
    assert text(page, "#stream-name") == "ring"
    names, values = (page.locator(f".tile {tag}").all_inner_texts() for tag in ("h3", "strong"))
    tiles = dict(zip(names, values, strict=True))
    assert tiles["Forecasts"] == "40"
    assert tiles["Lines"] == "40"
    assert tiles["Disk"] == "in order"
    assert re.fullmatch(r"\w+,? \d+ \w+, \d\d:\d\d P[SD]T", text(page, "#when"))
    page.fill("#find", "s3")
    assert text(page, "#sensor-name") == "Sensor s3"
    page.wait_for_selector("#chart .observed")

    # Every reading of the last six hours is a point of the line, and there is an error wherever there is a reading.
    seen = ~np.isnan(speeds[:, 3])
    assert len(re.findall("[ML]", page.get_attribute("#chart .observed", "d"))) == seen.sum()
    assert len(re.findall("[ML]", page.get_attribute("#chart .next", "d"))) == 3 + int(seen[-1])
    scored = seen[1:]
    assert page.locator("#chart .error").count() == scored.sum()
    mae = np.abs(forecasts[:-1, 0, 3] - speeds[1:, 3])[scored].mean()
    assert float(text(page, "#value-error").split()[0]) == pytest.approx(mae, abs=0.11)
    assert float(text(page, "#value-next").split()[0]) == pytest.approx(forecasts[-1, 0, 3], abs=0.051)
    page.close()  # it would miss the service
    process.end()


def test_everything_can_be_reached_by_keyboard(look, process, recent, drawn, text):
    lines, _ = recent
    process.forecast(lines)
    page = look()
    drawn(page)
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    wanted = {"colour", "map", "closer", "wider", "whole", "play", "ahead", "find", "chart", "hours"}
    assert wanted <= set(reached)

    page.focus("#map")
    first = text(page, "#sensor-name")
    seen = {first}
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        seen.add(text(page, "#sensor-name"))
    assert len(seen) >= 3
    assert page.evaluate("() => $('said').textContent").startswith(text(page, "#sensor-name"))
    before = page.evaluate("() => view.zoom")
    page.keyboard.press("+")
    assert page.evaluate("() => view.zoom") > before
    page.keyboard.press("0")
    assert page.evaluate("() => view.zoom") == before

    page.keyboard.press("/")
    page.keyboard.type("s4")
    page.keyboard.press("Enter")
    assert text(page, "#sensor-name") == "Sensor s4"
    page.wait_for_selector("#chart .observed")
    page.focus("#chart")
    page.keyboard.press("ArrowLeft")
    assert re.match(r"\d\d:\d\d: (not )?observed", text(page, "#readout"))
    # What is chosen is in the address, so that a page can be sent to somebody else.
    assert "sensor=s4" in page.url


def test_a_click_chooses_the_sensor_under_it(look, process, recent, drawn, text):
    process.forecast(recent[0])
    page = look()
    drawn(page)

    for node in (4, 0):
        x, y = page.evaluate(f"() => onScreen({node})")
        page.locator("#map").hover(position={"x": x, "y": y})
        assert text(page, "#tip").startswith(f"s{node}: ")
        page.locator("#map").click(position={"x": x + 3, "y": y - 3})
        assert text(page, "#sensor-name") == f"Sensor s{node}"


def test_what_is_not_found_is_said(look, process, recent, drawn, text):
    process.forecast(recent[0])
    page = look()
    drawn(page)
    before = text(page, "#sensor-name")

    page.fill("#find", "nobody")
    page.press("#find", "Enter")
    assert text(page, "#find-said") == "No sensor of this network has “nobody” in its id."
    assert page.get_attribute("#find-said", "aria-live") == "polite"
    assert page.get_attribute("#find", "aria-invalid") == "true"
    assert text(page, "#sensor-name") == before
    page.fill("#find", "S2")
    assert text(page, "#find-said") == ""
    page.press("#find", "Enter")
    assert page.get_attribute("#find", "aria-invalid") == "false"
    assert text(page, "#sensor-name") == "Sensor s2"


def test_another_stream_can_be_chosen(look, process, recent, write_config, recording, drawn, text, launch):
    process.end()
    port = process.url.rstrip("/").rpartition(":")[2]
    config = write_config('kind = "stdin"', ['kind = "stdout"'], top=f"[http]\nport = {port}")
    text_of = config.read_text()
    second = text_of[text_of.index("[[stream]]") :].replace('"ring"', '"other"').replace('"state"', '"state2"')
    second = second.replace('kind = "stdin"', f'kind = "replay"\npath = "{recording.name}"\nspeed = 1')
    config.write_text(text_of + second.replace('kind = "stdout"', 'kind = "csv"\nfolder = "out"'))
    both = launch(config)
    both.forecast(recent[0])
    page = look()
    drawn(page)
    assert page.locator("#stream option").all_inner_texts() == ["ring", "other"]

    page.select_option("#stream", label="other")
    page.get_by_text("warming up: 1 of 4 intervals seen").wait_for()
    assert page.title() == "other · stunet"
    assert text(page, "#map-title") == "Observed at 00:00"  # of 2012, in Los Angeles
    assert "stream=other" in page.url
    page.reload()
    drawn(page)
    assert page.title() == "other · stunet"
    page.close()
    both.end()
