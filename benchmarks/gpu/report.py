"""The findings of gpu_check.py as Markdown."""

from __future__ import annotations

from typing import Any

WAY = "way: "


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where = result.get("environment", {})
    gpu = where.get("gpu", {})
    smi, versions = gpu.get("nvidia_smi", {}), gpu.get("versions", {})
    model = result.get("model", {})
    host = result.get("device") == "host"
    lines = [
        "# Checks on a GPU" + (": rehearsal without one" if host else ""),
        "",
        f"`python -m benchmarks.gpu.check`: {model.get('sensors', '–')} sensors, "
        f"{model.get('config', {}).get('hidden', '–')} channels, {model.get('slots', '–')} phases.",
        "",
        f"{smi.get('name', 'no GPU') if isinstance(smi, dict) else smi}, "
        f"driver {smi.get('driver_version', '–') if isinstance(smi, dict) else '–'}; {where.get('cpu', '–')}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {(where.get('commit') or 'unknown')[:12]}.",
        "",
        "From inputs in host memory to the forecast in host memory, µs. Closed: one interval after another. Open: at a "
        "fixed rate, from arrival. ×: how many times faster, paired median of rounds timed in turn.",
        "",
        "| way | closed p50 | p90 | p99 | p99.9 | open p50 | open p99 | after idle | × eager step | × eager window |"
        " mJ |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in _timed(result):
        lines.append(f"| {name} | {' | '.join(_latency_cells(found))} |")
    lines += ["", "| way | error, largest | mean | growth | within fp32 | restored | reset | opened ms |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, found in result.items():
        if name.startswith(WAY) and "not_run" not in found:
            lines.append(f"| {name.removeprefix(WAY)} | {' | '.join(_parity_cells(found))} |")
    lines += ["", "Not run:", ""]
    lines += [f"- {name.removeprefix(WAY)}: {why}" for name, why in _not_run(result)] or ["- nothing"]
    lines += ["", *_cost(result.get("cost")), ""]
    return "\n".join(lines)


def _timed(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
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
    return ["–" if number is None else f"{number:.1f}" for number in numbers]


def _parity_cells(found: dict[str, Any]) -> list[str]:
    parity, state = found.get("parity", {}), found.get("state", {})
    growth = parity.get("course", {}).get("growth")
    numbers = [parity.get("max_abs_error"), parity.get("mean_abs_error")]
    cells = ["–" if number is None else f"{number:.1e}" for number in numbers]
    cells.append("–" if growth is None else f"{growth:.2f}")
    cells.append({True: "yes", False: "no"}.get(parity.get("within"), "–"))
    cells += ["–" if state.get(key) is None else f"{state[key]:g}" for key in ("restored", "reset")]
    return [*cells, f"{found['open_ms']:.0f}"]


def _not_run(result: dict[str, Any]) -> list[tuple[str, str]]:
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


def _cost(rows: Any) -> list[str]:
    if not isinstance(rows, list):
        return []
    lines = ["| sensors | captured step µs | eager step µs | × | state bytes |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if "not_run" in row:
            lines.append(f"| {row['sensors']} | not run: {row['not_run']} | | | |")
        else:
            numbers = f"{row['graph_us']:.0f} | {row['eager_us']:.0f} | {row['faster']:.1f}"
            lines.append(f"| {row['sensors']} | {numbers} | {row['state_bytes']} |")
    return lines
