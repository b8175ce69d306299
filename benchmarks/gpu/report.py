"""The findings of the checks on a GPU as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.harness.page import commit, number, page, table

WAY = "way: "


def report(result: Mapping[str, Any]) -> str:
    """Return the results as a page."""
    where, model = result.get("environment", {}), result.get("model", {})
    gpu = where.get("gpu", {})
    smi = gpu.get("nvidia_smi", {})
    card = f"{smi.get('name', 'no GPU')}, driver {smi.get('driver_version', '–')}" if isinstance(smi, dict) else smi
    versions = ", ".join(f"{name} {version}" for name, version in gpu.get("versions", {}).items())
    opened = [
        [name.removeprefix(WAY), *_parity_cells(found)]
        for name, found in result.items()
        if name.startswith(WAY) and "not_run" not in found
    ]
    latencies = ["closed p50", "p90", "p99", "p99.9", "open p50", "open p99", "after idle"]
    errors = ["error, largest", "mean", "growth", "within fp32", "restored", "reset", "opened ms"]
    return page(
        "Checks on a GPU" + (": rehearsal without one" if result.get("device") == "host" else ""),
        f"`{result['command']}`: {model.get('sensors', '–')} sensors, "
        f"{model.get('config', {}).get('hidden', '–')} channels, {model.get('slots', '–')} phases.",
        f"{card}; {where.get('cpu', '–')}; {versions}; commit {commit({'commit': None, **where})}.",
        "From inputs in host memory to the forecast in host memory, µs. Closed: one interval after another. Open: at a "
        "fixed rate, from arrival. ×: how many times faster, paired median of rounds timed in turn.",
        table(
            ["way", *latencies, "× eager step", "× eager window", "mJ"],
            [[name, *_latency_cells(found)] for name, found in _timed(result)],
        ),
        table(["way", *errors], opened),
        "Not run:",
        "\n".join([f"- {name.removeprefix(WAY)}: {why}" for name, why in _not_run(result)] or ["- nothing"]),
        _cost(result.get("cost")),
    )


def _timed(result: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (name.removeprefix(WAY), way)
        for name, way in result.items()
        if name.startswith(WAY) and "closed" in way.get("latency", {})
    ]
    eager = result.get("eager", {})
    return found + [(f"eager {name}", {"latency": one}) for name, one in eager.items() if "closed" in one]


def _latency_cells(found: dict[str, Any]) -> list[str]:
    closed, opened, idle = (found["latency"][key] for key in ("closed", "open", "after_idle"))
    faster = found.get("faster_than", {})
    numbers = [
        *(closed[key] for key in ("median_us", "p90_us", "p99_us", "p99.9_us")),
        *(opened[key] for key in ("median_us", "p99_us")),
        idle["median_us"],
        *(faster.get(key) for key in ("eager step", "eager window")),
        found["latency"]["energy_mj_per_interval"],
    ]
    return [number(one, ".1f") for one in numbers]


def _parity_cells(found: dict[str, Any]) -> list[str]:
    parity, state = found.get("parity", {}), found.get("state", {})
    return [
        *(number(parity.get(key), ".1e") for key in ("max_abs_error", "mean_abs_error")),
        number(parity.get("course", {}).get("growth")),
        {True: "yes", False: "no"}.get(parity.get("within"), "–"),
        *(number(state.get(key), "g") for key in ("restored", "reset")),
        f"{found['open_ms']:.0f}",
    ]


def _not_run(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (what, why) of every section, or part of one, that did not run."""
    found = []
    for name, section in result.items():
        if not isinstance(section, dict):
            continue
        if "not_run" in section:
            found.append((name, section["not_run"]))
        elif name.startswith((WAY, "eager", "model")):
            parts = ((part, one) for part, one in section.items() if isinstance(one, dict) and "not_run" in one)
            found += [(f"{name}, {part}", one["not_run"]) for part, one in parts]
    return found


def _cost(rows: Any) -> str:
    if not isinstance(rows, list):
        return ""
    cells = [
        [row["sensors"], f"not run: {row['not_run']}", "", "", ""]
        if "not_run" in row
        else [
            row["sensors"],
            f"{row['graph_us']:.0f}",
            f"{row['eager_us']:.0f}",
            f"{row['faster']:.1f}",
            row["state_bytes"],
        ]
        for row in rows
    ]
    return table(["sensors", "captured step µs", "eager step µs", "×", "state bytes"], cells)
