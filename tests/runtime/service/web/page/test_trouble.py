"""What the status page says of a stream that is not well."""

from __future__ import annotations

import json
import re
import time

import pytest

pytestmark = pytest.mark.needs_system_package("chromium")


def test_the_page_follows_the_stream_and_says_when_nobody_answers(look, process, recent, text):
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


def test_a_stale_stream_is_in_trouble(look, process, lines, drawn, text):
    process.forecast(lines)  # of many years ago
    page = look()
    drawn(page)

    assert text(page, "#health") == "✕ trouble"
    assert text(page, "#when").endswith("1 Mar 2012, 03:15 PST")
    assert re.search(r"No forecast for \d+ d", text(page, "#notes"))


def test_a_sender_that_is_early_is_named(look, process, recent, drawn):
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
