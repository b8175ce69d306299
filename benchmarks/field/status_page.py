"""The status page: what it costs the service and the browser, and the pictures of it in the documents.

    python -m benchmarks.field.status_page --bundle metr-la.bundle --replay metr-la.npz [--pictures docs/img]

For the cost, a site of filled histories is served as a service does it, for the bundle's own sensors and for 33,113,
and headless Chromium (`chromium` on the path) opens it: bytes and time of each answer, memory of the history, time
until the map is drawn, and of each redrawing as the slider moves. For the pictures the real program replays the
recording at many times its speed until the afternoon's rush hour.

Without --bundle the network is a small one, and there are no pictures. They are status-{light,dark,phone}.png.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import urllib.request
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.faults.network import small_bundle
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, measured_on, page, table
from benchmarks.harness.workbench import ROOT, SHARED
from runtime.counters import Counters
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.service.config import CsvConfig, EndpointConfig, StdinConfig, StreamConfig
from runtime.service.deliveries import Deliveries
from runtime.service.status import ServiceCounters, Status
from runtime.service.step_times import StepTimes
from runtime.service.web.endpoint import Endpoint
from runtime.service.web.history import History
from runtime.service.web.pages import StatusPages
from runtime.timing import measure as measure_calls
from stunet_deploy.bundle import Bundle
from stunet_deploy.manifest import Manifest

LARGE = 33_113
ROUNDS = 20
#: The evening rush hour of the second day of METR-LA's week, and a sensor that has one.
UNTIL_S, SENSOR = 1_330_738_200, "717480"  # 2012-03-02T17:30-08:00
SPEED = 1000


class Picture(NamedTuple):
    """A picture of the page: its address, and the screen it is on."""

    name: str
    address: str
    width: int
    height: int
    ratio: float
    dark: bool
    phone: bool


PICTURES = (
    Picture("phone", f"sensor={SENSOR}&ahead=0&hours=6", 390, 1180, 1.5, False, True),
    Picture("light", f"sensor={SENSOR}&ahead=6&hours=6", 1440, 1010, 1.0, False, False),
    Picture("dark", f"sensor={SENSOR}&ahead=12&hours=24&colour=change", 1440, 1010, 1.0, True, False),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and take the pictures."""
    command = Command("benchmarks.field.status_page", __doc__)
    command.option("--bundle", None, "bundle of METR-LA", kind=Path)
    command.option("--replay", SHARED / "metr-la.npz", "recording of METR-LA")
    command.option("--large", LARGE, "sensors of the large network", quick=50)
    command.option("--pictures", ROOT / "docs" / "img", "folder of the pictures")
    command.run(measure, report, arguments)


def enlarged(manifest: Manifest, size: int) -> Manifest:
    """Return a manifest with more sensors, on a jittered grid over a large city."""
    rng = np.random.default_rng(1)
    side = int(np.ceil(size**0.5))
    place = np.stack(np.divmod(np.arange(size), side), axis=1) / side + rng.normal(0, 0.004, (size, 2))
    site = replace(
        manifest.site,
        sensor_ids=tuple(f"node{node:05d}" for node in range(size)),
        latitude=tuple((-34.1 + 0.6 * place[:, 0]).tolist()),
        longitude=tuple((150.6 + 0.7 * place[:, 1]).tolist()),
    )
    return replace(manifest, site=site)


def filled_status(manifest: Manifest) -> Status:
    """Return the status of a stream that has run for a day, its numbers drawn at random."""
    rng = np.random.default_rng(2)
    history, times = History(manifest), StepTimes()
    nodes, features, targets = len(manifest.sensor_ids), len(manifest.features), len(manifest.targets)
    for t in range(history.capacity + 1):
        speeds = rng.normal(50, 15, (manifest.horizon, nodes, targets)).clip(0, 80).astype(np.float32)
        forecast = Forecast(speeds, UNTIL_S + t * manifest.interval_s, 0.95, (), 3000.0, "large", manifest)
        observed = rng.random((nodes, features)) < 0.95
        history.add(forecast, Interval(np.where(observed, 55, 0).astype(np.float32), observed))
        times.add(0.003)
    config = StreamConfig(
        name="large",
        bundle=Path("bundle"),
        state=Path("state"),
        source=StdinConfig("stdin"),
        sink=(CsvConfig("csv", Path("forecasts")),),
    )
    return Status(
        stream="large",
        manifest=manifest,
        config=config,
        backend="onnxruntime",
        live=True,
        last=forecast,
        running_s=86_400.0,
        age_s=100.0,
        waiting=0,
        silent_s=0.1,
        ended=False,
        trouble=None,
        counters={"service": vars(ServiceCounters()), "stream": vars(Counters())},
        drift=None,
        history=history,
        step_times=times,
        deliveries=Deliveries(),
        broker=None,
        catching_up=False,
        held={},
    )


def measure_page(manifest: Manifest, browser: Browser) -> dict[str, Any]:
    """Return what the page of a network costs."""
    tracemalloc.start()
    status = filled_status(manifest)
    history_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    answers = {}
    sensor = manifest.sensor_ids[0]
    for path in ("/api/streams", "/api/network", "/api/values", "/api/sensor", "/forecast", "/metrics"):
        query = {"sensor": sensor} if path == "/api/sensor" else {}
        fresh = iter([StatusPages(lambda: [status]) for _ in range(6)])
        first = measure_calls(partial(_reply_of_next, fresh, path, query), warm_up=0, repeats=5)
        site = next(fresh)
        body = site.reply(path, query).body
        again = measure_calls(partial(site.reply, path, query), warm_up=0, repeats=ROUNDS)
        times = {"first_ms": first.median_us / 1000, "again_ms": again.median_us / 1000}
        answers[path] = {"bytes": len(body), **times}
    endpoint = Endpoint(EndpointConfig(0), StatusPages(lambda: [status]).reply)
    endpoint.start()
    try:
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        begin = time.perf_counter()
        tab.goto(endpoint.url)
        tab.wait_for_selector("#map[data-drawn]")
        drawn_ms = 1000 * (time.perf_counter() - begin)
        drawing = tab.evaluate(
            """(rounds) => Array.from({ length: rounds }, (_, round) => {
                state.ahead = round % 13;
                const begin = performance.now();
                show(); draw();
                return performance.now() - begin;
            })""",
            13 * 4,
        )
        tab.close()
    finally:
        endpoint.close()
    return {
        "sensors": len(manifest.sensor_ids),
        "intervals": len(status.history.rows()),
        "history_bytes": history_bytes,
        "answers": answers,
        "drawn_ms": drawn_ms,
        "redraw_ms": drawing,
    }


def take_pictures(bundle: Path, replay: Path, folder: Path, browser: Browser) -> None:
    """Replay the recording to its rush hour and write a picture of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        config = Path(temporary) / "service.toml"
        config.write_text(
            f'[http]\nport = 0\n[[stream]]\nname = "los-angeles"\nbundle = "{bundle}"\nstate = "state"\n'
            f'[stream.source]\nkind = "replay"\npath = "{replay}"\nspeed = {SPEED}\n'
            '[[stream.sink]]\nkind = "csv"\nfolder = "forecasts"\n'
        )
        command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            url = next(line.split()[-1] for line in process.stderr if "status page on" in line)
            try:
                pages = [(picture.name, open_page(browser, url, picture)) for picture in PICTURES]
                wait_until(url, UNTIL_S)
                process.send_signal(signal.SIGSTOP)  # so that all pictures are of one time
                for name, tab in pages:
                    tab.screenshot(path=folder / f"status-{name}.png")
                    print(f"{name}: {(folder / f'status-{name}.png').stat().st_size / 1000:.0f} kB")
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.communicate(timeout=60)


def wait_until(url: str, stamp: int) -> None:
    """Wait for the forecast of an interval."""
    while True:
        with urllib.request.urlopen(url + "api/streams") as answer:
            (stream,) = json.load(answer)["streams"]
        if (stream["issued_s"] or 0) >= stamp:
            return
        time.sleep(0.2)


def open_page(browser: Browser, url: str, picture: Picture) -> Page:
    """Open the page as on some screen."""
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=picture.ratio,
        color_scheme="dark" if picture.dark else "light",
        is_mobile=picture.phone,
        has_touch=picture.phone,
    )
    tab = context.new_page()
    tab.goto(f"{url}#{picture.address}")
    return tab


def measure(options: Namespace) -> dict[str, Any]:
    """Measure both networks, and take the pictures."""
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        manifest = Bundle.load(options.bundle or small_bundle(Path(folder))).manifest
        found = [measure_page(one, browser) for one in (manifest, enlarged(manifest, options.large))]
        where = measured_on() | {"chromium": browser.version}
        if options.bundle is not None:
            take_pictures(options.bundle.resolve(), options.replay.resolve(), options.pictures, browser)
        browser.close()
    return {"environment": where, "found": found}


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    found, costs = result["found"], []
    for one in found:
        median, high = np.percentile(one["redraw_ms"], [50, 90], method="inverted_cdf")
        memory = f"{one['history_bytes'] / 2**20:.1f} MiB"
        times = (f"{one['drawn_ms']:.0f} ms", f"{median:.1f} ms", f"{high:.1f} ms")
        costs.append([f"{one['sensors']:,}", one["intervals"], memory, *times])
    answers = []
    for path in found[0]["answers"]:
        cells = [f"`{path}`"]
        for answer in (one["answers"][path] for one in found):
            cells += [f"{answer['bytes']:,}", f"{answer['first_ms']:.2f}", f"{answer['again_ms']:.3f}"]
        answers.append(cells)
    sizes = [column for one in found for column in (f"{one['sensors']:,} sensors: bytes", "first, ms", "again, ms")]
    return page(
        "The status page",
        f"`{result['command']}`, {machine(result['environment'], 'chromium')}",
        table(
            ["sensors", "intervals held", "memory of them", "map drawn after opening", "redrawn", "90 % below"], costs
        ),
        "Redrawn: map, legend and chart after a step of the slider, without what the graphics processor does then.",
        table(["answer", *sizes], answers),
        "First: the first request of an interval; again: until the next. One answer is computed at a time.",
    )


def _reply_of_next(fresh: Iterator[StatusPages], path: str, query: dict[str, str]) -> object:
    return next(fresh).reply(path, query)


if __name__ == "__main__":
    main()
