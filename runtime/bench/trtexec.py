"""The closed loop in the format of ``trtexec --exportTimes``, for the tools that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runtime.bench.summary import trace_of


def export_times(measurement: Mapping[str, Any]) -> str:
    """Return the closed loop of the fastest case as a list of records, times in milliseconds.

    What trtexec calls the way from host to device is here everything in ``Stream.push`` outside the model: readings
    and clock checked, forecast wrapped. What it calls compute is the step with its copies, so the way back is empty.

    Each record has the names that trtexec writes (startH2dMs …, h2dMs, d2hMs) and those that the ``tracer.py`` beside
    its source still reads (startInMs …, inMs, outMs, endToEndMs).
    """
    best = min(measurement["runs"], key=lambda run: run["closed_loop"]["p50_us"])
    trace = trace_of(best, "closed_loop")
    records = []
    for begin_ns, end_ns, step_ns in zip(trace.begin.tolist(), trace.end.tolist(), trace.step.tolist(), strict=True):
        begin, compute, end = (round(moment / 1e6, 6) for moment in (begin_ns, end_ns - step_ns, end_ns))
        prepared, step = round(compute - begin, 6), round(end - compute, 6)
        records.append(
            {
                **{"startEnqMs": begin, "endEnqMs": end},
                **{"startH2dMs": begin, "endH2dMs": compute, "startInMs": begin, "endInMs": compute},
                **{"startComputeMs": compute, "endComputeMs": end},
                **{"startD2hMs": end, "endD2hMs": end, "startOutMs": end, "endOutMs": end},
                **{"h2dMs": prepared, "inMs": prepared, "computeMs": step, "d2hMs": 0.0, "outMs": 0.0},
                **{"latencyMs": round(end - begin, 6), "endToEndMs": round(end - begin, 6)},
            }
        )
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n"
