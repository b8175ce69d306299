"""Engines of a bundle: the devices that each was built for, and which of them may run here.

engines/<key>.engine    the plan file as TensorRT serialised it, plain, so that other tools can read it too
engines/<key>.json      its note: key, bundle, hashes, build time, builder's settings and log

An engine is bound to a TensorRT release, a GPU architecture, a system and a batch range. All of that is compared, and
the hash of the file, before anybody deserialises it: TensorRT itself may crash on a file that is not for it.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from runtime.backends.gpu.flavor import FULL, LEAN, RTX, Flavor
from stunet_deploy.bundle import Bundle
from stunet_deploy.bundle_files import read_bundle_file
from stunet_deploy.errors import BackendError, BundleError
from stunet_deploy.files import sha256
from stunet_deploy.precisions import FLOAT32, PRECISIONS, graph_name

SUFFIX = ".engine"
#: Default batch profile: minimum, the one tuned for, maximum (raised to the bundle's window, whose rows step together).
BATCH = (1, 1, 64)
Profile = tuple[int, int, int]


@dataclass(frozen=True)
class EngineKey:
    """The devices and options that an engine was built for; it names the file.

    Attributes:
        flavor: the TensorRT that built it, ``tensorrt`` or ``tensorrt-rtx``.
        version: that TensorRT's version.
        compute_capabilities: GPU architectures it runs on, for instance ``("8.6", "8.9")``.
        system, machine: operating system and processor, for instance ``linux`` and ``aarch64``.
        precision: one of :data:`stunet_deploy.precisions.PRECISIONS`.
        batch: smallest, tuned and largest number of rows.
        version_compatible: whether the lean runtime of its release or a later one can run it.
    """

    flavor: str
    version: str
    compute_capabilities: tuple[str, ...]
    system: str
    machine: str
    precision: str
    batch: Profile
    version_compatible: bool = False

    @property
    def name(self) -> str:
        """Name of the plan file."""
        architectures = "-".join(f"sm{capability.replace('.', '')}" for capability in self.compute_capabilities)
        rows = "-".join(map(str, self.batch))
        parts = [self.flavor, self.version, architectures, self.system, self.machine, self.precision, f"batch{rows}"]
        return "_".join([*parts, *["compatible"] * self.version_compatible]) + SUFFIX

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that :meth:`from_json` reads."""
        return asdict(self) | {"compute_capabilities": list(self.compute_capabilities), "batch": list(self.batch)}

    @classmethod
    def from_json(cls, data: Any) -> EngineKey:
        """Read a key.

        Raises:
            ValueError: if a field is missing, unknown or of another kind.
        """
        if not isinstance(data, dict) or data.keys() != {f.name for f in fields(cls)}:
            raise ValueError("no key of an engine")
        words = all(isinstance(data[name], str) for name in ("flavor", "version", "system", "machine", "precision"))
        capabilities, batch = data["compute_capabilities"], data["batch"]
        lists = isinstance(capabilities, list) and isinstance(batch, list) and len(batch) == 3
        if not (words and lists and all(type(n) is int for n in batch) and type(data["version_compatible"]) is bool):
            raise ValueError("a key of an engine with fields of the wrong kind")
        return cls(**(data | {"compute_capabilities": tuple(map(str, capabilities)), "batch": tuple(batch)}))


@dataclass(frozen=True)
class StoredEngine:
    """An engine on disk and its note, as the note says; :func:`check_engine` tells whether that is true."""

    path: Path
    key: EngineKey
    note: Mapping[str, Any]


@dataclass(frozen=True)
class Engine:
    """An engine that was found to fit: its whole plan, verified, ready to be deserialised."""

    stored: StoredEngine
    plan: bytes


def this_system() -> tuple[str, str]:
    """Return operating system and processor as engine keys write them."""
    return platform.system().lower(), platform.machine().lower()


def default_batch(bundle: Bundle) -> Profile:
    """Return the batch profile of an engine when none is asked for; window mode fits into it."""
    smallest, tuned, largest = BATCH
    return smallest, tuned, max(largest, bundle.manifest.window)


def note_path(engine: Path) -> Path:
    """Return the path of the note beside a plan file."""
    return engine.with_suffix(".json")


def read_engine(path: Path) -> StoredEngine:
    """Read the note of a plan file.

    Raises:
        BundleError: if the note is missing, damaged, or is that of another file.
    """
    note = note_path(path)
    try:
        data = json.loads(read_bundle_file(note).decode())
        key = EngineKey.from_json(data["key"])
        hashes = (data["sha256"], data["graph_sha256"], data["bundle_id"])
    except FileNotFoundError as error:
        raise BundleError(f"{path} without its note {note.name}", "both", _rebuild(path)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{note} is damaged ({error})", "the JSON that stunet build writes", _rebuild(path)
        ) from error
    if key.name != path.name or not all(isinstance(value, str) for value in hashes):
        raise BundleError(f"{note} describes another engine, {key.name}", path.name, _rebuild(path))
    return StoredEngine(path, key, data)


def stored_engines(bundle: Bundle) -> tuple[list[StoredEngine], list[BundleError]]:
    """Return the engines of a bundle whose notes can be read, by name, and why the others cannot."""
    good, bad = [], []
    for path in sorted(bundle.engines.glob(f"*{SUFFIX}")):
        try:
            good.append(read_engine(path))
        except BundleError as error:
            bad.append(error)
    return good, bad


def check_engine(bundle: Bundle, stored: StoredEngine) -> bytes:
    """Return the plan after checking that it is whole and was built from this bundle's graph.

    Raises:
        BundleError: if the plan was altered or cut short, was built from another bundle or another graph, or is not
            covered by the signatures of a bundle that was opened with trust.
    """
    key, note = stored.key, stored.note
    again = build_command(bundle, key, rebuild=True)
    if key.precision not in PRECISIONS:
        raise BundleError(f"{stored.path} of precision {key.precision}", f"one of {', '.join(PRECISIONS)}", again)
    if note["bundle_id"] != bundle.manifest.bundle_id:
        raise BundleError(
            f"{stored.path} was built from the bundle {note['bundle_id'][:12]}",
            f"an engine of this one, {bundle.manifest.bundle_id[:12]}",
            again,
        )
    bundle.manifest.check_exported(key.precision)
    graph = graph_name(key.precision)
    if note["graph_sha256"] != bundle.manifest.files[graph]:
        raise BundleError(
            f"{stored.path} was built from another {graph} ({note['graph_sha256'][:12]}…)",
            f"sha256 {bundle.manifest.files[graph][:12]}…",
            again,
        )
    try:
        plan = read_bundle_file(stored.path)
    except FileNotFoundError as error:
        raise BundleError(f"{stored.path}, which is not there any more", "a plan file", again) from error
    if sha256(plan) != note["sha256"]:
        raise BundleError(
            f"{stored.path} was altered or cut short ({len(plan):,} bytes, sha256 {sha256(plan)[:12]}…)",
            f"sha256 {note['sha256'][:12]}…",
            again,
        )
    if bundle.signed is not None and not bundle.signed.names(stored.path.name, sha256(plan)):
        raise BundleError(
            f"{stored.path}, which no trusted signature of the bundle names",
            "an engine that was there when the bundle was signed",
            f"if it was built by whom you trust, sign again: stunet sign {bundle.path} --key FILE",
        )
    return plan


def find_engine(
    bundle: Bundle, flavor: Flavor, compute_capability: str, *, precision: str = FLOAT32, batch: int = 1
) -> Engine:
    """Return the engine that runs a bundle here, verified.

    Of several that fit, the one tuned for the nearest batch is taken, then the one with the smallest range, then one
    that is not version-compatible, which may be slower.

    Args:
        bundle: what to run.
        flavor: the TensorRT that will run it.
        compute_capability: of the device that will run it.
        precision: one of :data:`stunet_deploy.precisions.PRECISIONS`.
        batch: number of rows that step together.

    Raises:
        BackendError: if no engine was built for this TensorRT, device, system, precision and batch.
        BundleError: if the one that was is damaged or of another bundle, or the precision was not exported.
    """
    bundle.manifest.check_exported(precision)  # a precision that was not exported is the better message
    engines, unreadable = stored_engines(bundle)
    here = (flavor, compute_capability, precision, batch)
    mismatches = {stored.path.name: _mismatch(stored.key, *here) for stored in engines}
    fitting = [stored for stored in engines if not mismatches[stored.path.name]]
    if fitting:
        best = min(fitting, key=lambda stored: _preference(stored.key, batch))
        return Engine(best, check_engine(bundle, best))
    if unreadable:
        raise unreadable[0]
    smallest, tuned, largest = default_batch(bundle)
    profile = (smallest, tuned, largest) if batch <= largest else (smallest, batch, batch)
    needed = EngineKey(
        FULL if flavor.name == LEAN else flavor.name,
        flavor.version,
        (compute_capability,),
        *this_system(),
        precision,
        profile,
        flavor.name == LEAN,
    )
    found = "; ".join(f"{name} is {why}" for name, why in mismatches.items())
    raise BackendError(
        f"no engine for this machine in {bundle.engines} ({found or 'there is none'})",
        f"one for {flavor.name} {flavor.version}, compute capability {compute_capability}, {' '.join(this_system())}, "
        f"{precision}, batch {batch}",
        build_command(bundle, needed),
    )


def build_command(bundle: Bundle, key: EngineKey, *, rebuild: bool = False) -> str:
    """Return the command that builds the engine of a key."""
    words = ["stunet", "build", str(bundle.path), "--flavor", "rtx" if key.flavor == RTX else key.flavor]
    words += ["--precision", key.precision]
    if key.flavor == RTX:
        words += ["--compute-capability", *key.compute_capabilities]
    if key.batch != default_batch(bundle):
        words += ["--batch", *map(str, key.batch)]
    words += ["--version-compatible"] * key.version_compatible + ["--rebuild"] * rebuild
    return shlex.join(words)


def _mismatch(key: EngineKey, flavor: Flavor, compute_capability: str, precision: str, batch: int) -> str:
    """Return in what an engine differs from what is needed here, or nothing."""
    builder = FULL if flavor.name == LEAN else flavor.name
    version_fits = key.version == flavor.version
    if flavor.name == LEAN:
        version_fits = key.version_compatible and _runs_older(key.version, flavor.version)
    smallest, _, largest = key.batch
    differences = {
        f"of {key.flavor} {key.version}": key.flavor == builder and version_fits,
        f"for compute capability {', '.join(key.compute_capabilities)}": compute_capability in key.compute_capabilities,
        f"for {key.system} {key.machine}": (key.system, key.machine) == this_system(),
        key.precision: key.precision == precision,
        f"for batch {smallest} to {largest}": smallest <= batch <= largest,
    }
    return ", ".join(name for name, fits in differences.items() if not fits)


def _runs_older(built: str, here: str) -> bool:
    """Whether a version-compatible engine runs on a later TensorRT: of the same major version, or of 10 on 11."""
    older, newer = (tuple(int(part) for part in version.split(".") if part.isdecimal()) for version in (built, here))
    return older <= newer and (older[:1] == newer[:1] or (older[:1], newer[:1]) == ((10,), (11,)))


def _preference(key: EngineKey, batch: int) -> tuple[int, int, bool, str]:
    smallest, tuned, largest = key.batch
    return abs(tuned - batch), largest - smallest, key.version_compatible, key.name


def _rebuild(path: Path) -> str:
    """Return the advice for an engine whose note does not describe it."""
    return f"delete {path} and build it again: stunet build {shlex.quote(str(path.parent.parent))}"
