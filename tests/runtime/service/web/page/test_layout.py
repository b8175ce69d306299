"""The status page at every width: nothing is cut off, covered or moved."""

from __future__ import annotations

from itertools import pairwise

import pytest

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
#: Text, left and right end of the slider's labels.
LABELS = """() => [...$("steps").children].map((one) => {
    const box = one.getBoundingClientRect();
    return [one.textContent, box.left, box.right];
})"""

pytestmark = pytest.mark.needs_system_package("chromium")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (320, "dark"), (768, "dark")])
def test_the_page_fits_a_phone(look, process, recent, width, scheme, drawn, text):
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


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1440])
def test_nothing_jumps_while_the_slider_plays(look, process, recent, width, drawn):
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
def test_labels_of_the_slider_keep_apart(look, process, recent, horizons, drawn, text):
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
