"""The measurement of a bundle: every backend, precision and number of threads in turn, in both loops."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.base import GPU_BACKENDS, open_backend
from runtime.bench.loops import Call, Trace, closed_loop, open_loop
from runtime.bench.machine import Energy, machine_state, measured_environment
from runtime.bench.nvml import Gpu, open_gpu
from runtime.bench.plan import RATE, TURNS, Case, Plan, Run
from runtime.bench.summary import advised_threads, case_of, run_to_json
from runtime.golden_replay import compare_golden, golden_forecasts
from runtime.stream import Stream
from runtime.window import Carry
from stunet_deploy.bundle import Bundle, Golden
from stunet_deploy.compare import json_number
from stunet_deploy.errors import BackendError, ConfigError
from stunet_deploy.files import sha256
from stunet_deploy.precisions import graph_name

#: Version of the JSON that a measurement is.
SCHEMA = 1
#: Forecasts at the beginning of a turn that do not count.
SETTLE = 3
_WARM_UP_S = 2.0


def bench(
    bundle: Bundle, cases: Sequence[Case], plan: Plan, *, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Measure a bundle on this machine.

    First every case replays the golden stream on the very session that is then timed: that warms it up, and says how
    far its forecasts are from the float64 reference. What is timed is ``Stream.push``: readings in, forecast out.

    Args:
        bundle: what to measure.
        cases: ways to run it; all are open at once and take turns.
        plan: how.
        say: takes a line about what comes next.

    Returns:
        The measurement as JSON; docs/guide/bench.md has every field.

    Raises:
        BundleError, BackendError, ConfigError: if bundle, backend or an option does not serve.
    """
    if not cases or len(set(cases)) < len(cases):
        raise ConfigError(f"the cases {list(map(asdict, cases))}", "at least one, each once", "name each once")
    bundle.check_files()
    golden = bundle.golden()
    gpu = open_gpu() if any(case.backend in GPU_BACKENDS for case in cases) else None
    found = {"before": machine_state(gpu)}
    with ExitStack() as opened:
        subjects = []
        for case in cases:
            say(f"golden stream: {case_of(asdict(case))}")
            subjects.append(_Subject(bundle, case, golden, gpu))
            opened.callback(subjects[-1].close)
        runs = [subject.run for subject in subjects]
        plan = plan.settled(max(_warm_up(subject.push, plan.warm_up) for subject in subjects))
        turns = [len(part) for part in np.array_split(np.arange(plan.count or 0), TURNS)]
        say(f"closed loop: {plan.count} forecasts each")
        for count in turns:
            for subject in subjects:
                if len(subjects) > 1:
                    closed_loop(subject.push, SETTLE)  # the others have used the caches
                with subject.run.energy:
                    trace = closed_loop(subject.push, count)
                subject.run.closed.append(trace)
        say(f"open loop: {plan.count} forecasts each, {plan.rate:.3g} a second")
        for count in turns:
            for subject in subjects:
                subject.run.opened.append(open_loop(subject.push, count, plan.rate or RATE))
        say("first step after idle, cold start")
        for subject in subjects:
            for _ in range(plan.idle_repeats):
                time.sleep(plan.idle_s)
                subject.run.idle_us.append(float(closed_loop(subject.push, 1).latency.nanoseconds[0]) / 1000)
    found["after"] = machine_state(gpu)
    for _ in range(plan.cold_starts):
        for run in runs:
            run.cold_starts.append(cold_start(bundle.path, run.case))
    environment = measured_environment(gpu) | found
    answers = [run_to_json(run, plan, environment) for run in runs]
    best = min(answers, key=lambda answer: answer["closed_loop"]["p50_us"])
    manifest = bundle.manifest
    return {
        "schema": SCHEMA,
        "bundle_id": manifest.bundle_id,
        "model": manifest.model,
        "sensors": len(manifest.sensor_ids),
        "interval_s": manifest.interval_s,
        **{key: value for key, value in best.items() if key != "samples"},
        "advised_threads": advised_threads(answers),
        "plan": asdict(plan),
        "runs": answers,
    }


def cold_start(folder: Path, case: Case) -> dict[str, Any]:
    """Start a fresh process that loads a bundle and forecasts; return what each part took in ms, and its memory.

    Raises:
        BackendError: if the process fails.
    """
    where = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join(filter(None, (str(where), os.environ.get("PYTHONPATH"))))
    words = (folder.resolve(), case.backend, case.precision, case.threads, time.time())
    command = [sys.executable, "-m", "runtime.bench.cold_start", *map(str, words)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"a fresh process failed ({last})", "a forecast", f"run it: {' '.join(command)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class _Subject:
    """One case, opened: a stream that is pushed the golden readings over and over, with a clock that goes on."""

    def __init__(self, bundle: Bundle, case: Case, golden: Golden, gpu: Gpu | None) -> None:
        manifest = bundle.manifest
        before = None if gpu is None else gpu.used_mb()
        # Without a fallback: what is measured is the backend that was named.
        backend = open_backend(bundle, case.backend, precision=case.precision, threads=case.threads)
        after = None if gpu is None or case.backend not in GPU_BACKENDS else gpu.used_mb()
        self.close = backend.close
        tolerances = manifest.tolerance_of(case.precision)
        comparisons = compare_golden(golden_forecasts(backend, manifest, golden), golden, tolerances)
        comparison = max(comparisons, key=lambda each: each.severity)
        backend.reset()
        self.run = Run(
            case=case,
            artifact=_artifact(bundle, case),
            parity={
                "passed": comparison.passed,
                "max_abs_error": json_number(comparison.max_abs_error),
                "mean_abs_error": json_number(comparison.mean_abs_error),
                "tolerance": comparison.tolerance,
                "intervals": len(golden.timestamps),
            },
            device_memory_mb=None if before is None or after is None else after - before,
            energy=Energy(gpu if case.backend in GPU_BACKENDS else None),
        )
        self._stream = Stream(bundle, Carry(backend), name="bench")
        self._readings = itertools.cycle(np.where(golden.observed, golden.values, np.nan).astype(np.float32))
        self._stamp = int(golden.timestamps[0])
        self._interval_s = manifest.interval_s

    def push(self) -> float:
        """Push the next interval; return the microseconds that the model took."""
        self._stamp += self._interval_s
        return self._stream.push(next(self._readings), self._stamp).step_us


def _artifact(bundle: Bundle, case: Case) -> dict[str, str]:
    """Return name and hash of the file that a case runs: the graph, or the engine that was built from it."""
    if case.backend in ("tensorrt", "tensorrt-rtx"):
        from runtime.backends.gpu.driver import require_driver  # the CPU's users need not load these
        from runtime.backends.gpu.engines import find_engine
        from runtime.backends.gpu.flavor import find_flavor
        from runtime.backends.gpu.opening import FLAVORS_OF

        flavor, gpu = find_flavor(*FLAVORS_OF[case.backend]), require_driver()
        engine = find_engine(bundle, flavor, gpu.compute_capability, precision=case.precision)
        return {"file": engine.stored.path.name, "sha256": sha256(engine.plan)}
    name = graph_name(case.precision)
    return {"file": name, "sha256": bundle.manifest.files[name]}


def _warm_up(push: Call, count: int) -> float:
    """Forecast ``count`` times, but not for long; return the median in microseconds."""
    parts = [closed_loop(push, 1)]
    begun = time.perf_counter()
    while len(parts) < count and time.perf_counter() - begun < _WARM_UP_S:
        parts.append(closed_loop(push, 1))
    return Trace.join(parts).latency.median_us
