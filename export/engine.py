"""Building engines: a bundle's graph of one precision compiled by TensorRT, with numpy and TensorRT alone.

Precision is in the types of the graph, so nothing here chooses the type of a layer.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from export.engine_compiler import Progress, compile_engine, describe_layers, rtx_capabilities
from runtime.backends.gpu.driver import Device, find_device, require_driver
from runtime.backends.gpu.engines import (
    EngineKey,
    Profile,
    StoredEngine,
    check_engine,
    default_batch,
    note_path,
    read_engine,
    this_system,
)
from runtime.backends.gpu.flavor import BUILDERS, FULL, RTX, Flavor
from stunet_deploy.bundle import Bundle
from stunet_deploy.bundle_files import read_bundle_file
from stunet_deploy.errors import BundleError, ConfigError, StunetError
from stunet_deploy.files import replacing, sha256
from stunet_deploy.precisions import FLOAT32

#: What TensorRT-RTX builds for where neither the caller nor a GPU says otherwise: Ampere, Ada and Blackwell.
PORTABLE: tuple[str, ...] = ("8.6", "8.9", "12.0")
#: The builder's own range of effort; it takes its default where none is asked for.
LEVELS = range(6)


@dataclass(frozen=True)
class Built:
    """An engine in its place.

    Attributes:
        stored: the engine and its note.
        reused: whether it was there already and nothing was built.
    """

    stored: StoredEngine
    reused: bool


def build_engine(
    bundle: Bundle,
    flavor: Flavor,
    precision: str = FLOAT32,
    *,
    compute_capabilities: Sequence[str] = (),
    batch: Profile | None = None,
    level: int | None = None,
    version_compatible: bool = False,
    rebuild: bool = False,
    progress: Progress = lambda phase, share: None,
) -> Built:
    """Build the engine of one precision into the bundle's ``engines/``, or find it there.

    The full builder measures kernels on the GPU it builds for, keeps those timings in ``engines/`` and takes a while.
    TensorRT-RTX compiles ahead of time, for several kinds of GPU and on a machine without any.

    Args:
        bundle: whose graph is built.
        flavor: a TensorRT that can build.
        precision: one of :data:`stunet_deploy.precisions.PRECISIONS` that was exported.
        compute_capabilities: GPUs to build for, such as ``8.6``; default: the one that is here, for TensorRT-RTX
            on a machine without a GPU :data:`PORTABLE`.
        batch: smallest, tuned and largest number of rows; default: :func:`runtime.backends.gpu.engines.default_batch`.
        level: the builder's optimisation level, 0 to 5; default: the builder's own.
        version_compatible: for the lean runtime of this release and later ones; full builder only.
        rebuild: build even if the engine is there.
        progress: told what the builder does.

    Raises:
        ConfigError: if an option is out of range or the flavour does not have it.
        BackendError: if the driver is missing where it is needed, or TensorRT cannot build the graph.
        BundleError: if the precision was not exported.
        StunetError: if the engine cannot be written; what was there before stays.
    """
    profile = _check_options(bundle, flavor, batch, level, version_compatible)
    graph = bundle.graph(precision)
    device = require_driver() if flavor.name == FULL else find_device()
    key = EngineKey(
        flavor.name,
        flavor.version,
        _targets(flavor, tuple(compute_capabilities), device),
        *this_system(),
        precision,
        profile,
        version_compatible,
    )
    path = bundle.engines / key.name
    present = None if rebuild else _present(bundle, path, level)
    if present:
        return Built(present, reused=True)
    timings = None if flavor.name == RTX else _timings(bundle, key)
    # Timings are signed by nobody: where trust is asked for, they are measured again.
    known = read_bundle_file(timings) if timings is not None and timings.is_file() and bundle.signed is None else b""
    started = time.perf_counter()
    made = compile_engine(
        flavor,
        graph.for_batch(profile[-1]),
        bundle.manifest.contract,
        key,
        level=level,
        timings=known,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    loadable = device is not None and device.compute_capability in key.compute_capabilities and not version_compatible
    note = {
        "key": key.to_json(),
        "bundle_id": bundle.manifest.bundle_id,
        "sha256": sha256(made.plan),
        "graph": graph.name,
        "graph_sha256": bundle.manifest.files[graph.name],
        "bytes": len(made.plan),
        "seconds": round(seconds, 3),
        "built_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "asked_level": level,
        "level": made.level,
        "tf32": made.tf32,
        "timings": None if timings is None else timings.name,
        "log": made.log,
        "layers": describe_layers(flavor, made.plan) if loadable else None,
        "device": None if device is None else device.name,
        "versions": {
            flavor.name: flavor.version,
            "python": platform.python_version(),
            "driver_cuda": None if device is None else device.driver_cuda,
        },
    }
    if timings is not None and made.timings is not None:
        _write(timings, made.timings)
    _write(path, made.plan)
    _write(note_path(path), (json.dumps(note, indent=1) + "\n").encode())
    return Built(StoredEngine(path, key, note), reused=False)


def _check_options(
    bundle: Bundle, flavor: Flavor, batch: Profile | None, level: int | None, version_compatible: bool
) -> Profile:
    """Return the batch profile after checking the options that need no device."""
    if flavor.name not in BUILDERS:
        raise ConfigError(
            f"flavour {flavor.name}, which builds nothing", " or ".join(BUILDERS), "build with one of these"
        )
    if version_compatible and flavor.name != FULL:
        raise ConfigError(
            f"a version-compatible engine of {flavor.name}",
            f"flavour {FULL}, which alone builds them",
            "leave --version-compatible out, or build where the full TensorRT is installed",
        )
    if level is not None and level not in LEVELS:
        raise ConfigError(f"level {level}", f"{LEVELS[0]} to {LEVELS[-1]}", "choose another --level")
    smallest, tuned, largest = batch or default_batch(bundle)
    if not 1 <= smallest <= tuned <= largest:
        raise ConfigError(
            f"batch {smallest} {tuned} {largest}",
            "1 ≤ smallest ≤ tuned ≤ largest number of rows",
            "choose another --batch, for instance --batch 1 1 64",
        )
    return smallest, tuned, largest


def _targets(flavor: Flavor, wanted: tuple[str, ...], device: Device | None) -> tuple[str, ...]:
    """Return the compute capabilities to build for, in ascending order."""
    if flavor.name == RTX:
        known = rtx_capabilities(flavor)
        here = PORTABLE
        if device is not None and device.compute_capability in known:
            here = (device.compute_capability,)
        unknown = [capability for capability in wanted if capability not in known]
        if unknown:
            raise ConfigError(
                f"compute capability {', '.join(unknown)}",
                f"one of {', '.join(known)}, which {RTX} {flavor.version} builds for",
                "choose among these; for other GPUs build there with --flavor tensorrt",
            )
        return tuple(capability for capability in known if capability in (wanted or here))
    here = () if device is None else (device.compute_capability,)
    if wanted and wanted != here:
        raise ConfigError(
            f"compute capability {', '.join(wanted)}",
            f"{', '.join(here)}, of the GPU that is here: the full builder measures on it",
            "leave --compute-capability out and build on each kind of device",
        )
    return here


def _present(bundle: Bundle, path: Path, level: int | None) -> StoredEngine | None:
    """Return the engine that is there if it is whole, of this bundle and built with the level asked for."""
    if not path.is_file():
        return None
    try:
        stored = read_engine(path)
        check_engine(bundle, stored)
    except BundleError:
        return None
    return stored if stored.note.get("asked_level") == level else None


def _timings(bundle: Bundle, key: EngineKey) -> Path:
    """Return the file of kernel timings: they hold for one TensorRT on one kind of GPU."""
    capability = "-".join(key.compute_capabilities).replace(".", "")
    return bundle.engines / f"{key.flavor}_{key.version}_sm{capability}_{key.system}_{key.machine}.timings"


def _write(path: Path, data: bytes) -> None:
    """Write a file into engines/ whole or not at all."""
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except (OSError, StunetError) as error:
        came = error.came if isinstance(error, StunetError) else f"{path.parent} cannot be made ({error.strerror})"
        raise StunetError(
            came, "a bundle on a disk with enough space, with write permission", "free some space, or build in a copy"
        ) from error


def engine_summary(built: Built) -> Mapping[str, Any]:
    """Return an engine as the JSON of ``stunet build``."""
    note = built.stored.note
    names = ("bytes", "sha256", "seconds", "level", "tf32")
    return {
        "file": built.stored.path.name,
        **built.stored.key.to_json(),
        **{name: note.get(name) for name in names},
        "reused": built.reused,
    }
