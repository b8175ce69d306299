"""The status page: what it costs the service and the browser, and the pictures of it in the documents.

    python -m benchmarks.field.status_page --bundle metr-la.bundle --replay metr-la.npz [--pictures docs/img]

For the cost, a site of filled histories is served as a service does it, for the bundle's own sensors and for 33,113,
and headless Chromium (`chromium` on the path) opens it: bytes and time of each answer, memory of the history, time
until the map is drawn, and of each redrawing as the slider moves. For the pictures the real program replays the
recording at many times its speed until the afternoon's rush hour.

Writes benchmarks/results/status_page.{json,md} and status-{light,dark,phone}.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, write_results
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
from runtime.timing import environment
from stunet_deploy.bundle import Bundle, Manifest

LARGE = 33_113
ROUNDS = 20
#: The evening rush hour of the second day of METR-LA's week, and a sensor that has one.
UNTIL_S, SENSOR = 1_330_738_200, "717480"  # 2012-03-02T17:30-08:00
SPEED = 1000
#: Name, address, width, height, pixel ratio, dark, phone.
PICTURES = (
    ("phone", f"sensor={SENSOR}&ahead=0&hours=6", 390, 1180, 1.5, False, True),
    ("light", f"sensor={SENSOR}&ahead=6&hours=6", 1440, 1010, 1.0, False, False),
    ("dark", f"sensor={SENSOR}&ahead=12&hours=24&colour=change", 1440, 1010, 1.0, True, False),
)


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
        connected=None,
    )


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median time of some work in milliseconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begin))
    return float(np.median(times))


def measure(manifest: Manifest, browser: Browser) -> dict[str, Any]:
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
        first = median_ms(lambda fresh=fresh, path=path, query=query: next(fresh).reply(path, query), 5)
        site = next(fresh)
        body = site.reply(path, query).body
        again = median_ms(lambda site=site, path=path, query=query: site.reply(path, query))
        answers[path] = {"bytes": len(body), "first_ms": first, "again_ms": again}
    endpoint = Endpoint(EndpointConfig(0), StatusPages(lambda: [status]).reply)
    endpoint.start()
    try:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        begin = time.perf_counter()
        page.goto(endpoint.url)
        page.wait_for_selector("#map[data-drawn]")
        drawn_ms = 1000 * (time.perf_counter() - begin)
        drawing = page.evaluate(
            """(rounds) => Array.from({ length: rounds }, (_, round) => {
                state.ahead = round % 13;
                const begin = performance.now();
                show(); draw();
                return performance.now() - begin;
            })""",
            13 * 4,
        )
        page.close()
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
                pages = [(name, open_page(browser, url, *rest)) for name, *rest in PICTURES]
                wait_until(url, UNTIL_S)
                process.send_signal(signal.SIGSTOP)  # so that all pictures are of one time
                for name, page in pages:
                    page.screenshot(path=folder / f"status-{name}.png")
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


def open_page(
    browser: Browser, url: str, address: str, width: int, height: int, ratio: float, dark: bool, phone: bool
) -> Page:
    """Open the page as on some screen."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=ratio,
        color_scheme="dark" if dark else "light",
        is_mobile=phone,
        has_touch=phone,
    )
    page = context.new_page()
    page.goto(f"{url}#{address}")
    return page


def report(found: list[dict[str, Any]], where: dict[str, Any]) -> str:
    """Return the results as a page."""
    lines = [
        "# The status page",
        "",
        "`python -m benchmarks.field.status_page`, "
        f"{where['cpu']}, {where['cores_allowed']} cores, load {where['load']},",
        f"Python {where['python']}, Chromium {where['chromium']}, commit {where['commit']}.",
        "",
        "| sensors | intervals held | memory of them | map drawn after opening | redrawn | 90 % below |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        median, high = np.percentile(one["redraw_ms"], [50, 90], method="inverted_cdf")
        lines.append(
            f"| {one['sensors']:,} | {one['intervals']} | {one['history_bytes'] / 2**20:.1f} MiB | "
            f"{one['drawn_ms']:.0f} ms | {median:.1f} ms | {high:.1f} ms |"
        )
    lines += [
        "",
        "Redrawn: map, legend and chart after a step of the slider, without what the graphics processor does then.",
        "",
        "| answer | "
        + " | ".join(f"{one['sensors']:,} sensors: bytes | first, ms | again, ms" for one in found)
        + " |",
        "|---" * (1 + 3 * len(found)) + "|",
    ]
    for path in found[0]["answers"]:
        cells = [
            f"{answer['bytes']:,} | {answer['first_ms']:.2f} | {answer['again_ms']:.3f}"
            for answer in (one["answers"][path] for one in found)
        ]
        lines.append(f"| `{path}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        "First: the first time in an interval, whoever asks; again: until the next. One answer is computed at a time.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="bundle of METR-LA")
    parser.add_argument("--replay", type=Path, default=SHARED / "metr-la.npz", help="recording of METR-LA")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "img", help="folder of the pictures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    manifest = Bundle.load(arguments.bundle).manifest
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found = [measure(one, browser) for one in (manifest, enlarged(manifest, LARGE))]
        where = environment() | {"chromium": browser.version}
        write_results(arguments.results, "status_page", {"found": found, "environment": where}, report(found, where))
        print(report(found, where))
        take_pictures(arguments.bundle.resolve(), arguments.replay.resolve(), arguments.pictures, browser)
        browser.close()


if __name__ == "__main__":
    main()
