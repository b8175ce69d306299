"""The status page in a real browser, served by a real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.paths import ROOT
from tests.waiting import LONG_S

SENSORS = [f"s{node}" for node in range(5)]


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
        _, log = self._process.communicate(timeout=LONG_S)
        assert self._process.returncode == 0, log


@pytest.fixture
def launch():
    """Return a function that starts the service of a config file; what a failed test leaves is killed."""
    running = []

    def launch(config):
        running.append(Process(config))
        return running[-1]

    yield launch
    for one in running:
        if one._process.poll() is None:
            one._process.kill()
            one._process.communicate(timeout=LONG_S)


@pytest.fixture
def process(write_config, request, launch):
    """Return a service that runs."""
    # Most of what is read here is chance, and so is its alarm.
    drift = getattr(request, "param", "enabled = false")
    extra = f"[stream.drift]\n{drift}"
    config = write_config('kind = "stdin"', ['kind = "stdout"'], top="[http]\nport = 0", extra=extra)
    return launch(config)


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
        page.set_default_timeout(1000 * LONG_S)
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


@pytest.fixture
def drawn():
    """Return a function that waits for the map of a page and returns the number of sensors on it."""

    def drawn(page):
        page.wait_for_selector("#map[data-drawn]")
        return int(page.get_attribute("#map", "data-drawn"))

    return drawn


@pytest.fixture
def text():
    """Return a function of a page and a selector that returns the text there."""

    def text(page, selector):
        return page.inner_text(selector).strip()

    return text
