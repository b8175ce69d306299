"""Time and memory of a fresh process that loads a bundle and forecasts; prints one JSON object.

    python -m runtime.bench.cold_start BUNDLE BACKEND PRECISION THREADS STARTED

STARTED is the time (seconds since the epoch) at which the process was asked for. Nothing is imported at the top but the
clock: what the imports cost is part of what is measured.
"""

import time


def main() -> None:
    """Load a bundle, forecast a hundred times or for five seconds, every sensor at 50; print what each part took."""
    began = time.time()
    clock = time.perf_counter
    moments = [clock()]

    import json
    import sys
    from itertools import pairwise

    from runtime.stream import Stream
    from runtime.timing import rss_mb
    from stunet_deploy.bundle import Bundle

    moments.append(clock())
    folder, backend, precision, threads, started = sys.argv[1:]
    bundle = Bundle.load(folder)
    moments.append(clock())
    # Without a fallback: what is measured is the backend that was named.
    stream = Stream.open(bundle, backend=backend, precision=precision, threads=int(threads), fallback=False)
    moments.append(clock())
    manifest = bundle.manifest
    readings = [[50.0] * len(manifest.features)] * len(manifest.sensor_ids)
    stream.push(readings, manifest.phase_s)
    moments.append(clock())
    for interval in range(1, 100):
        if clock() - moments[-1] > 5:
            break
        stream.push(readings, manifest.phase_s + interval * manifest.interval_s)
    parts = dict(
        zip(
            ("import_ms", "load_ms", "context_ms", "first_step_ms"),
            (1000 * (after - before) for before, after in pairwise(moments)),
            strict=True,
        )
    )
    interpreter = 1000 * (began - float(started))
    print(
        json.dumps(
            {
                "total_ms": interpreter + sum(parts.values()),
                "interpreter_ms": interpreter,
                **parts,
                "rss_mb": rss_mb(),
                "torch_imported": "torch" in sys.modules,
            }
        )
    )


if __name__ == "__main__":
    main()
