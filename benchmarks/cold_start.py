"""Time and memory of a fresh process that loads a bundle and issues forecasts; prints one JSON object.

    python benchmarks/cold_start.py BUNDLE

bench_step.py runs it; it imports nothing before the clock starts.
"""

import json
import sys
import time

started = time.perf_counter()

from runtime.stream import Stream  # noqa: E402

imported = time.perf_counter()

from stunet_deploy.bundle import Bundle  # noqa: E402

bundle = Bundle.load(sys.argv[1])
stream = Stream.open(bundle)
opened = time.perf_counter()

readings = [[50.0] * len(bundle.manifest.features)] * len(bundle.manifest.sensor_ids)
stream.push(readings, 0)
first = time.perf_counter()

for interval in range(1, 100):
    stream.push(readings, interval * bundle.manifest.interval_s)

from runtime.timing import rss_mb  # noqa: E402

print(
    json.dumps(
        {
            "import_ms": 1e3 * (imported - started),
            "load_ms": 1e3 * (opened - imported),
            "first_forecast_ms": 1e3 * (first - opened),
            "rss_mb": rss_mb(),
            "torch_imported": "torch" in sys.modules,
        }
    )
)
