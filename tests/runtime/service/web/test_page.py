"""The status page in a real browser, served by a real process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[4]
SENSORS = [f"s{node}" for node in range(5)]

FOCUSED = "() => document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
#: What is cut off at the left or right.
BEYOND = """() => [...document.querySelectorAll("main *, header *")]
    .filter((one) => one.getClientRects().length && !one.closest(".unseen, option, #map-box"))
    .filter((one) => { const box = one.getBoundingClientRect(); return box.right > innerWidth + 1 || box.left < -1; })
    .map((one) => one.id || one.className || one.tagName)"""
#: Text that is too small to be read.
SMALL = """() => [...document.querySelectorAll("main *")]
    .filter((one) => one.getClientRects().length)
    .filter((one) => [...one.childNodes].some((part) => part.nodeType === 3 && part.data.trim()))
    .filter((one) => parseFloat(getComputedStyle(one).fontSize) < 11).map((one) => one.textContent)"""
COLOUR = """(name) => {
    const one = document.body.appendChild(document.createElement("i"));
    one.style.color = token(name);
    const found = getComputedStyle(one).color;
    one.remove();
    return found;
}"""
#: The colour in the middle of each sensor on the canvas.
PIXELS = """() => {
    const map = $("map"), ratio = map.width / $("map-box").clientWidth;
    const copy = new OffscreenCanvas(map.width, map.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(map, 0, 0);
    return network.sensors.map((_, node) => {
        const [x, y] = onScreen(node);
        return [...copy.getImageData(x * ratio, y * ratio, 1, 1).data].join();
    });
}"""
#: Text, left and right end of the slider's labels.
LABELS = """() => [...$("steps").children].map((one) => {
    const box = one.getBoundingClientRect();
    return [one.textContent, box.left, box.right];
})"""
PAIRS = [
    *[("--ink", paper) for paper in ("--card", "--page", "--well")],
    *[("--soft", paper) for paper in ("--card", "--page", "--well")],
    *[("--accent", "--card"), ("--good", "--good-bg"), ("--warn", "--warn-bg"), ("--bad", "--bad-bg")],
]

pytestmark = pytest.mark.needs_system_package("chromium")


@pytest.fixture(scope="module")
def browser():
    if shutil.which("chromium") is None:
        pytest.skip("the command chromium is not installed")  # its tests fail for that where they must not be skipped
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        # The sandbox does not start for root, and the page is our own.
        opened = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


class Process:
    """``stunet run`` with a page, fed by its standard input."""

    def __init__(self, config):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while "status page on" not in (line := self._process.stderr.readline()):
            assert line, "it has not started"
        self.url = line.split()[-1]

    def forecast(self, lines):
        """Send lines and return the forecasts [time, horizon, node] that came of them."""
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()
        made = [json.loads(self._process.stdout.readline()) for _ in lines]
        return np.array([line["values"]["speed"] for line in made])

    def end(self):
        self._process.terminate()
        _, log = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, log


@pytest.fixture
def process(write_config, request):
    """Return a service that runs."""
    # Most of what is read here is chance, and so is its alarm.
    drift = getattr(request, "param", "enabled = false")
    extra = f"[stream.drift]\n{drift}"
    config = write_config('kind = "stdin"', ['kind = "stdout"'], top="[http]\nport = 0", extra=extra)
    running = Process(config)
    yield running
    if running._process.poll() is None:
        running._process.kill()
        running._process.communicate(timeout=60)


@pytest.fixture
def recent(readings):
    """Return the 40 intervals as lines that end now, and their speeds [time, node]."""
    values, _, _ = readings
    last = int(time.time()) // 300 * 300 - 300
    lines = []
    for t, row in enumerate(values):
        cells = {
            sensor: {
                name: None if np.isnan(number) else float(number)
                for name, number in zip(("speed", "trend"), cell, strict=True)
            }
            for sensor, cell in zip(SENSORS, row, strict=True)
        }
        lines.append(json.dumps({"timestamp": last + 300 * (t - len(values) + 1), "values": cells}))
    return lines, values[..., 0]


@pytest.fixture
def look(browser, process):
    """Return a function that opens the page; afterwards nothing may have gone wrong in it, or left this machine."""
    contexts, wrong, asked = [], [], []

    def look(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, timezone_id="Asia/Tokyo", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(process.url)
        return page

    look.wrong = wrong
    yield look
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith((process.url, "data:"))] == []
    assert wrong == []


def drawn(page):
    """Wait for the map and return the number of sensors on it."""
    page.wait_for_selector("#map[data-drawn]")
    return int(page.get_attribute("#map", "data-drawn"))


def text(page, selector):
    return page.inner_text(selector).strip()


def colours(page):
    """Return the colour in the middle of each sensor on the canvas."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(PIXELS)


def test_the_page_shows_sensors_forecasts_and_health(look, process, recent):
    lines, speeds = recent
    forecasts = process.forecast(lines)
    page = look()

    assert drawn(page) == 5
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


def test_the_slider_colours_the_map_by_forecast(look, process, recent):
    lines, _ = recent
    process.forecast(lines)
    page = look()
    drawn(page)
    now = colours(page)

    page.focus("#ahead")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert re.fullmatch(r"Forecast for \d\d:\d\d, in 15 min", text(page, "#map-title"))
    assert page.get_attribute("#ahead", "aria-valuetext").startswith("in 15 min, ")
    later = colours(page)
    assert len(set(now)) > 1
    assert sum(a != b for a, b in zip(now, later, strict=True)) >= 3
    assert "15 min ahead" in text(page, "#at-error")

    page.select_option("#colour", "change")
    assert text(page, "#unit") == "change of speed, mph"
    assert colours(page) != later


def test_a_sensor_that_is_silent_is_hollow(look, process, recent):
    lines, _ = recent
    silent = json.loads(lines[-1])
    silent["values"]["s2"] = None
    process.forecast([*lines[:-1], json.dumps(silent)])
    page = look()
    drawn(page)

    well = ",".join([*re.findall(r"\d+", behind(page, "--well")), "255"])
    assert [node for node, colour in enumerate(colours(page)) if colour == well] == [
        node for node, cell in enumerate(silent["values"].values()) if cell is None or cell["speed"] is None
    ]
    assert page.locator("#hollow").is_visible()


def test_everything_can_be_reached_by_keyboard(look, process, recent):
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


def test_a_click_chooses_the_sensor_under_it(look, process, recent):
    process.forecast(recent[0])
    page = look()
    drawn(page)

    for node in (4, 0):
        x, y = page.evaluate(f"() => onScreen({node})")
        page.locator("#map").hover(position={"x": x, "y": y})
        assert text(page, "#tip").startswith(f"s{node}: ")
        page.locator("#map").click(position={"x": x + 3, "y": y - 3})
        assert text(page, "#sensor-name") == f"Sensor s{node}"


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (320, "dark"), (768, "dark")])
def test_the_page_fits_a_phone(look, process, recent, width, scheme):
    process.forecast(recent[0])
    page = look(width, 740, color_scheme=scheme, is_mobile=True, has_touch=True, device_scale_factor=2)
    drawn(page)
    page.wait_for_selector("#chart .observed")

    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(SMALL) == []
    x, y = page.evaluate("() => onScreen(2)")
    box = page.locator("#map").bounding_box()
    page.touchscreen.tap(box["x"] + x, box["y"] + y)
    assert text(page, "#sensor-name") == "Sensor s2"


def test_text_can_be_read_in_both_schemes(look, process, recent):
    """Text stands out from what is behind it by 4.5 to 1, as WCAG asks for."""
    process.forecast(recent[0])
    for scheme in ("light", "dark"):
        page = look(color_scheme=scheme)
        drawn(page)
        for ink, paper in PAIRS:
            light, dark = sorted((luminance(behind(page, name)) for name in (ink, paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink, paper)


def behind(page, name):
    """Return the colour of a name in the page's style as ``rgb(r, g, b)``."""
    return page.evaluate(COLOUR, name)


def luminance(colour):
    """Return the relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_page_follows_the_stream_and_says_when_nobody_answers(look, process, recent):
    lines, _ = recent
    page = look()
    page.wait_for_selector("#health.warn")
    assert text(page, "#map-title") in ("Map", "Waiting for the first interval")
    process.forecast(lines[:3])
    page.wait_for_selector("#notes .warn")
    assert "warming up: 3 of 4 intervals seen" in text(page, "#notes")
    process.forecast(lines[3:])
    page.wait_for_selector("#health.good")

    process.end()
    page.wait_for_selector("#health.bad")
    # The time is the network's, wherever the browser is.
    assert re.search(r"does not answer since \d\d:\d\d:\d\d P[SD]T;", text(page, "#notes"))
    since = page.evaluate(
        "() => new Date(failing.since).toLocaleTimeString('en-GB', { timeZone: 'America/Los_Angeles' })"
    )
    assert since in text(page, "#notes")
    # The browser itself reports that it cannot connect.
    assert all("ERR_CONNECTION_REFUSED" in message for message in look.wrong)
    page.close()
    look.wrong.clear()


def test_a_stale_stream_is_in_trouble(look, process, lines):
    process.forecast(lines)  # of many years ago
    page = look()
    drawn(page)

    assert text(page, "#health") == "✕ trouble"
    assert text(page, "#when").endswith("1 Mar 2012, 03:15 PST")
    assert re.search(r"No forecast for \d+ d", text(page, "#notes"))


@pytest.mark.parametrize("process", ["days = 1.0"], indirect=True)
def test_accuracy_is_shown_where_forecasts_are_watched(look, process, recent):
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
def test_no_verdict_before_enough_has_been_compared(look, process, recent):
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


def test_what_is_not_found_is_said(look, process, recent):
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


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1440])
def test_nothing_jumps_while_the_slider_plays(look, process, recent, width):
    process.forecast(recent[0])
    page = look(width)
    drawn(page)
    page.wait_for_selector("#chart .observed")

    heights = set()
    for step in range(4):
        page.evaluate("(step) => setAhead(step)", step)
        heights.add(page.evaluate("() => $('sensor-name').closest('section').getBoundingClientRect().bottom"))
    assert len(heights) == 1


@pytest.mark.parametrize(
    "horizons", [list(range(5, 65, 5)), [5 * k for k in range(1, 8)], [0.5, 1, 1.5], [15.0 * k for k in range(1, 97)]]
)
def test_labels_of_the_slider_keep_apart(look, process, recent, horizons):
    process.forecast(recent[0])
    page = look()
    drawn(page)
    for width in (320, 360, 768, 1040, 1280, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("(horizons) => { network.horizons_min = horizons; showSteps(); }", horizons)
        labels = page.evaluate(LABELS)
        assert all(left[2] + 4 <= right[1] for left, right in pairwise(labels)), (width, labels)
        unit = text(page, "#steps-unit")
        assert [labels[0][0], labels[-1][0]] == ["now", f"+{horizons[-1] * (1 if unit == 'min' else 60):g}"]
        assert labels[-1][2] <= width
        if width >= 1280 and len(horizons) == 12:
            assert [label for label, _, _ in labels[1:]] == [f"+{minutes}" for minutes in horizons]


def test_a_sender_that_is_early_is_named(look, process, recent):
    last = json.loads(recent[0][-1])
    last["timestamp"] = int(time.time()) // 300 * 300  # it has just begun
    process.forecast([*recent[0], json.dumps(last)])
    page = look()
    drawn(page)

    tile = page.locator(".tile", has_text="Last interval")
    assert re.search(r"ends in \d+ (s|min): the sender is early", tile.inner_text())


def test_what_is_refused_is_a_banner_with_its_reason(look, process, recent):
    page = look()
    process._process.stdin.write("rubbish\n" * 3)
    process._process.stdin.flush()

    page.get_by_text("3 of the last 3 messages were refused: no JSON").wait_for()
    tile = page.locator(".tile", has_text="Lines")
    assert re.search(r"3\s+last \d+ s ago; 0 wait", tile.inner_text())


@pytest.mark.parametrize("process", ["threshold = 0.01"], indirect=True)
def test_an_alarm_is_announced(look, process, recent):
    process.forecast(recent[0])  # by a model of nothing
    page = look()
    drawn(page)
    page.wait_for_selector("#accuracy")

    assert text(page, "#health") == "! accuracy alarm"
    assert re.search(r"Accuracy alarm since \w+ \d+ \w+, \d\d:\d\d", text(page, "#notes"))
    assert re.search(r"worse than if nothing changed at [1-5] of 5 sensors", text(page, "#scored"))


def test_accuracy_is_not_shown_where_nobody_watches(look, process, recent):
    process.forecast(recent[0])
    page = look()
    drawn(page)

    assert page.locator("#accuracy").is_hidden()
    assert page.locator("#colour option:enabled").all_inner_texts() == ["value", "change from now"]


def test_another_stream_can_be_chosen(look, process, recent, write_config, recording):
    process.end()
    port = process.url.rstrip("/").rpartition(":")[2]
    config = write_config('kind = "stdin"', ['kind = "stdout"'], top=f"[http]\nport = {port}")
    text_of = config.read_text()
    second = text_of[text_of.index("[[stream]]") :].replace('"ring"', '"other"').replace('"state"', '"state2"')
    second = second.replace('kind = "stdin"', f'kind = "replay"\npath = "{recording.name}"\nspeed = 1')
    config.write_text(text_of + second.replace('kind = "stdout"', 'kind = "csv"\nfolder = "out"'))
    both = Process(config)
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
