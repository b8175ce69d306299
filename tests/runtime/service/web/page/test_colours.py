"""Colours of the status page: of the map, and of text in both schemes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

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
PAIRS = [
    *[("--ink", paper) for paper in ("--card", "--page", "--well")],
    *[("--soft", paper) for paper in ("--card", "--page", "--well")],
    *[("--accent", "--card"), ("--good", "--good-bg"), ("--warn", "--warn-bg"), ("--bad", "--bad-bg")],
]

pytestmark = pytest.mark.needs_system_package("chromium")


def colours(page):
    """Return the colour in the middle of each sensor on the canvas."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(PIXELS)


def behind(page, name):
    """Return the colour of a name in the page's style as ``rgb(r, g, b)``."""
    return page.evaluate(COLOUR, name)


def luminance(colour):
    """Return the relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_slider_colours_the_map_by_forecast(look, process, recent, drawn, text):
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


def test_a_sensor_that_is_silent_is_hollow(look, process, recent, drawn):
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


def test_text_can_be_read_in_both_schemes(look, process, recent, drawn):
    """Text stands out from what is behind it by 4.5 to 1, as WCAG asks for."""
    process.forecast(recent[0])
    for scheme in ("light", "dark"):
        page = look(color_scheme=scheme)
        drawn(page)
        for ink, paper in PAIRS:
            light, dark = sorted((luminance(behind(page, name)) for name in (ink, paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink, paper)
