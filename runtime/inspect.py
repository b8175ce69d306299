"""A bundle in plain words and as JSON: what it forecasts, how large it is, how good it is, what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.backends.gpu.engines import SUFFIX, check_engine, read_engine
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BundleError, in_lines
from stunet_deploy.keys import short
from stunet_deploy.manifest import Manifest
from stunet_deploy.precisions import FLOAT32, graph_name
from stunet_deploy.signature import signatures_of
from stunet_deploy.wording import exactly, in_figures, span_in_words


def inspect(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's description as JSON, without running it.

    Keys: ``contract`` (inputs, outputs, states, slots, state_bytes of one stream), ``files`` (bytes and sha256 of
    each), ``precisions`` (file, parity and accuracy of each), ``engines`` (what was compiled for a device, and whether
    it is whole and of this bundle), ``accuracy`` (on the checkpoint's reference stream), ``signatures`` (whose, and
    whether that was checked), and below them what identifies the bundle.

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
            precision: {
                "file": graph_name(precision),
                "parity": manifest.parity.get(precision),
                "accuracy": manifest.accuracy.get(precision),
            }
            for precision in manifest.precisions
        },
        "engines": [_engine(bundle, path) for path in sorted(bundle.engines.glob(f"*{SUFFIX}"))],
        "accuracy": dict(manifest.accuracy),
        "signatures": _signatures(bundle),
        "bundle_id": manifest.bundle_id,
        "schema": manifest.schema,
        "remarks": list(manifest.remarks),
        "model": manifest.model,
        "sensors": len(manifest.sensor_ids),
        "features": list(manifest.features),
        "targets": list(manifest.targets),
        "units": list(manifest.units),
        "limits": [list(pair) for pair in manifest.limits],
        "no_data": [list(codes) for codes in manifest.no_data],
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
        f"reads      {ranges}; anything outside counts as missing{_codes(manifest)}; "
        f"stamps are an interval's {manifest.stamp}, local time is {manifest.timezone}",
        f"remembers  {len(contract['states'])} states in {contract['slots']} slots, "
        f"{_size(contract['state_bytes'])} a stream; warm after {manifest.window} intervals",
        f"files      {len(described['files'])}, {_size(size)}: {', '.join(described['files'])}",
        f"precisions {', '.join(described['precisions'])}",
        *(f"engine     {_engine_line(engine)}" for engine in described["engines"] or [None]),
        f"signed     {bundle.signed or _unchecked(described['signatures'])}",
        f"accuracy   {_accuracy(manifest)}",
        f"verified   to {verified} of the float64 reference",
        *(f"note       {remark}" for remark in manifest.remarks),
        *explain_precisions(manifest),
        "needs      Python 3.10, numpy and ONNX Runtime: pip install 'stunet-deploy[cpu]'",
    ]
    return in_lines(lines)


def _codes(manifest: Manifest) -> str:
    """Return what else counts as missing, in words."""
    named = zip(manifest.features, manifest.no_data, strict=False)
    codes = [f"{', '.join(map(exactly, codes))} of {name}" for name, codes in named if codes]
    return f", as do {'; '.join(codes)}" if codes else ""


def explain_precisions(manifest: Manifest) -> list[str]:
    """Return a line for each precision beside fp32: its difference and cost, and how they were measured."""
    lines = []
    for precision in manifest.precisions:
        if precision == FLOAT32:
            continue
        parity, accuracy = manifest.parity[precision], manifest.accuracy[precision]
        lost = "unknown" if accuracy["loss"] is None else f"{accuracy['loss']:+.3%}"
        measured = parity["measured_by"]
        lines.append(
            f"{precision:10} differs by {parity['max_abs_error']:.2g} at most, {parity['mean_abs_error']:.2g} on "
            f"average; MAE {lost}{', forced' * bool(accuracy.get('forced'))}; "
            f"{measured if measured == 'emulated' else f'measured on {measured}'}"
        )
    return lines


def _engine(bundle: Bundle, path: Path) -> dict[str, Any]:
    """Return an engine's file and size, what it is for, whether it is whole and of this bundle, and its note."""
    described: dict[str, Any] = {"file": path.name, "bytes": path.stat().st_size}
    problem = built = None
    try:
        stored = read_engine(path)
        described |= stored.key.to_json()
        built = {name: value for name, value in stored.note.items() if name != "key"}
        check_engine(bundle, stored)
    except BundleError as error:
        problem = error.came
    return described | {"valid": problem is None, "problem": problem, "built": built}


def _engine_line(engine: Mapping[str, Any] | None) -> str:
    """Return one line about an engine, or about there being none."""
    if engine is None:
        return "none built; stunet build makes one for a GPU"
    if not engine["valid"]:
        return f"{engine['file']}: NOT VALID, {engine['problem']}"
    smallest, _, largest = engine["batch"]
    return (
        f"{engine['precision']} for compute capability {', '.join(engine['compute_capabilities'])} by "
        f"{engine['flavor']} {engine['version']}, batch {smallest} to {largest}, "
        f"{engine['system']} {engine['machine']}, {_size(engine['bytes'])}"
    )


def _signatures(bundle: Bundle) -> dict[str, Any]:
    """Return the keys that have signed a bundle, with the files they are trusted by where that was checked."""
    if bundle.signed is not None:
        return {"by": [key.to_json() for key in bundle.signed.by], "checked": True, "problem": None}
    found: dict[str, Any] = {"by": [], "checked": False, "problem": None}
    try:
        return found | {"by": [{"key": entry.key, "file": None} for entry in signatures_of(bundle.path)]}
    except BundleError as error:
        return found | {"problem": error.came}


def _unchecked(signatures: Mapping[str, Any]) -> str:
    """Return who has signed as far as nobody has checked it, in words."""
    if not signatures["by"]:
        return signatures["problem"] or "by nobody; stunet sign does"
    return f"by {', '.join(short(signer['key']) for signer in signatures['by'])}, not checked; --trust KEY.pub does"


def _accuracy(manifest: Manifest) -> str:
    """Return one line of mean absolute errors by lead time, where the reference stream was scored."""
    results = manifest.accuracy.get(FLOAT32, {}).get("results", [])
    units = dict(zip(manifest.targets, manifest.units_of_targets, strict=True))
    several = len(manifest.targets) > 1
    errors = [
        f"{r['target']} " * several
        + " ".join(
            filter(
                None, (in_figures(r["mae"]), units.get(r["target"], ""), f"at {span_in_words(r['horizon_minutes'])}")
            )
        )
        for r in results
        if r["mae"] is not None
    ]
    if not errors:
        return "not measured; stunet evaluate does"
    return f"MAE {', '.join(errors)}, carried over intervals mostly trained on; stunet evaluate judges"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
