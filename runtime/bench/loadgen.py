"""MLPerf LoadGen around a stream: its single-stream scenario, its rules, its logs."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bench.loops import closed_loop
from runtime.bench.plan import Case
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BackendError, DataError

SUMMARY = "mlperf_log_summary.txt"
#: Lines of LoadGen's summary that the measurement repeats, by key.
_LINES = {
    "result": "Result is",
    "p90_ns": "90.0th percentile latency (ns)",
    "p50_ns": "50.00 percentile latency (ns)",
    "p99_ns": "99.00 percentile latency (ns)",
    "mean_ns": "Mean latency (ns)",
    "qps": "QPS w/o loadgen overhead",
}


def single_stream(bundle: Bundle, case: Case, count: int, folder: Path) -> dict[str, Any]:
    """Let LoadGen ask for forecasts one after the other; return what its summary says.

    A query is an interval of the golden stream. Intervals are pushed in their order whichever LoadGen names, since a
    stream forecasts from what came before.

    Args:
        bundle: what to run.
        case: how.
        count: least number of forecasts; LoadGen asks for more if they take less than a second.
        folder: where its logs go.

    Raises:
        ModuleNotFoundError: without the package ``mlcommons-loadgen``.
        BackendError: if a forecast fails, or LoadGen writes no summary.
        DataError: if the folder cannot be made.
        BundleError, ConfigError: if bundle or case do not serve.
    """
    import mlperf_loadgen as loadgen

    manifest, golden = bundle.manifest, bundle.golden()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made ({error.strerror})", "a folder", "choose another --loadgen"
        ) from error
    stream = Stream.open(
        bundle, backend=case.backend, precision=case.precision, threads=case.threads, fallback=False, name="loadgen"
    )
    failures: list[Exception] = []
    readings = itertools.cycle(np.where(golden.observed, golden.values, np.nan).astype(np.float32))
    stamps = iter(range(int(golden.timestamps[0]), 2**62, manifest.interval_s))

    def push() -> float:
        return stream.push(next(readings), next(stamps)).step_us

    usual = closed_loop(push, 20)

    def issue(queries: list[Any]) -> None:
        for query in queries:
            try:
                if not failures:
                    push()
            except Exception as error:  # LoadGen's thread would end the process
                failures.append(error)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, 0, 0)])

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = count
    settings.min_duration_ms = 1000
    # It makes up as many queries beforehand as fill the second at this latency: rather too many than too few.
    settings.single_stream_expected_latency_ns = int(500 * usual.latency.median_us)
    logs = loadgen.LogSettings()
    logs.log_output = loadgen.LogOutputSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    samples = len(golden.timestamps)
    begun = time.time()
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(samples, samples, lambda names: None, lambda names: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        stream.close()
    if failures:
        raise failures[0]
    return read_summary(folder / SUMMARY, begun)


def read_summary(path: Path, since: float = 0.0) -> dict[str, Any]:
    """Return the lines of LoadGen's summary that count, times in nanoseconds as it writes them.

    Raises:
        BackendError: if the file is missing, or older than ``since`` (seconds since the epoch).
    """
    try:
        fresh = path.stat().st_mtime >= since - 1
        lines = path.read_text(encoding="utf-8").splitlines() if fresh else []
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found = {key: said[line] for key, line in _LINES.items() if line in said}
    if not found:
        raise BackendError(f"no summary of LoadGen in {path}", "its log", "look at the other files in that folder")
    return {key: value if key == "result" else float(value) for key, value in found.items()}
