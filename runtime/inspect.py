"""A bundle in plain words and as JSON: what it forecasts, how large it is, how good it is, what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stunet_deploy.bundle import FLOAT32, STEP, Bundle, Manifest


def inspect(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's description as JSON, without running it.

    Keys: ``contract`` (inputs, outputs, states, slots, state_bytes of one stream), ``files`` (bytes and sha256 of
    each), ``precisions`` (file, parity and accuracy of each), ``engines`` (what was compiled for a device),
    ``accuracy`` (on the checkpoint's reference stream), and below them what identifies the bundle.

    Raises:
        BundleError: if a file is missing or altered.
    """
    bundle.check_files()
    manifest = bundle.manifest
    contract = manifest.contract
    return {
        "contract": contract.to_json() | {"slots": contract.slots, "state_bytes": contract.state_bytes()},
        "files": {
            name: {"bytes": (bundle.path / name).stat().st_size, "sha256": digest}
            for name, digest in sorted(manifest.files.items())
        },
        "precisions": {
            _precision(name): {
                "file": name,
                "parity": manifest.parity.get(_precision(name)),
                "accuracy": manifest.accuracy.get(_precision(name)),
            }
            for name in sorted(manifest.files)
            if name.startswith("step.") and name.endswith(".onnx")
        },
        "engines": [_engine(path) for path in sorted(bundle.engines.glob("*.engine"))],
        "accuracy": dict(manifest.accuracy),
        "bundle_id": manifest.bundle_id,
        "model": manifest.model,
        "sensors": len(manifest.sensor_ids),
        "features": list(manifest.features),
        "targets": list(manifest.targets),
        "units": list(manifest.units),
        "limits": [list(pair) for pair in manifest.limits],
        "interval_s": manifest.interval_s,
        "stamp": manifest.stamp,
        "timezone": manifest.timezone,
        "horizon": manifest.horizon,
        "window": manifest.window,
        "tolerance": list(manifest.tolerance),
        "versions": dict(manifest.versions),
    }


def explain(bundle: Bundle) -> str:
    """Return a bundle's description in plain words, a few short lines.

    Raises:
        BundleError: if a file is missing or altered.
    """
    described = inspect(bundle)
    manifest = bundle.manifest
    contract = described["contract"]
    ranges = ", ".join(
        f"{name} {low:g} to {high:g} {unit}".rstrip()
        for name, unit, (low, high) in zip(manifest.features, manifest.units, manifest.limits, strict=True)
    )
    verified = ", ".join(
        f"{tolerance:g} {unit}".rstrip()
        for unit, tolerance in zip(manifest.units_of_targets, manifest.tolerance, strict=True)
    )
    size = sum(entry["bytes"] for entry in described["files"].values())
    lines = [
        f"{bundle.path.name}: {manifest.model}, identity {manifest.bundle_id[:12]}",
        f"forecasts  {', '.join(manifest.targets)} at {len(manifest.sensor_ids)} sensors, "
        f"{manifest.horizons_min[0]:g} to {manifest.horizons_min[-1]:g} minutes ahead, "
        f"every {manifest.interval_s / 60:g} minutes",
        f"reads      {ranges}; anything outside counts as missing; "
        f"stamps are an interval's {manifest.stamp}, local time is {manifest.timezone}",
        f"remembers  {len(contract['states'])} states in {contract['slots']} slots, "
        f"{_size(contract['state_bytes'])} a stream; warm after {manifest.window} intervals",
        f"files      {len(described['files'])}, {_size(size)}: {', '.join(described['files'])}",
        f"precisions {', '.join(described['precisions'])}; "
        f"engines: {', '.join(engine['file'] for engine in described['engines']) or 'none built'}",
        f"accuracy   {_accuracy(manifest)}",
        f"verified   to {verified} of the float64 reference",
        "needs      Python 3.10, numpy and ONNX Runtime: pip install 'stunet-deploy[cpu]'",
    ]
    return "\n".join(lines)


def _precision(name: str) -> str:
    return FLOAT32 if name == STEP else name.removeprefix("step.").removesuffix(".onnx")


def _engine(path: Path) -> dict[str, Any]:
    """Return an engine's file, size and what its builder noted beside it."""
    note = path.with_suffix(".json")
    try:
        built = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        built = None
    return {"file": path.name, "bytes": path.stat().st_size, "built": built}


def _accuracy(manifest: Manifest) -> str:
    """Return one line of mean absolute errors by lead time, where the reference stream was scored."""
    results = manifest.accuracy.get(FLOAT32, {}).get("results", [])
    several = len(manifest.targets) > 1
    errors = [
        f"{r['target']} " * several + f"{r['mae']:.2f} at {r['horizon_minutes']:g} min"
        for r in results
        if r["mae"] is not None
    ]
    if not errors:
        return "not measured; stunet evaluate does"
    return f"MAE {', '.join(errors)}, carried over intervals mostly trained on; stunet evaluate judges"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
