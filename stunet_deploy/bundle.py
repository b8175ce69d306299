"""The bundle: the one artifact that is deployed, a folder that explains and proves itself.

manifest.json    what it is: contract, sensors, units, clock, limits, provenance, accuracy, hashes
step.onnx        the float32 step, weights and Chebyshev bases inside
step.cpu.onnx    the float32 step in a form that costs a processor less, where there is one
step.fp16.onnx   and others: the step in further precisions; inputs, outputs and states stay float32
golden.npz       a recorded stream and the float64 reference's forecasts, to verify any device with
engines/         compiled engines, the only part that changes after export
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.array_files import claimed_arrays
from stunet_deploy.bundle_files import check_names, read_bundle_file
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError, ConfigError, DataError, StunetError
from stunet_deploy.limits import LONGEST_INTERVAL_S, MOST_INTERVALS
from stunet_deploy.onnx_graph.step_graph import StepGraph
from stunet_deploy.series.wall_clock import find_zone
from stunet_deploy.site import AtSite, Site

SCHEMA = 1
MANIFEST = "manifest.json"
STEP = "step.onnx"
#: The float32 step as a processor computes it with the least work; only where it is not ``STEP``.
CPU_STEP = "step.cpu.onnx"
GOLDEN = "golden.npz"
ENGINES = "engines"
#: Key of the float32 step among the precisions of ``parity`` and ``accuracy``.
FLOAT32 = "fp32"
TF32 = "tf32"
#: Every precision by name. One graph each, but for tf32: the float32 graph on a device that may round its products.
PRECISIONS = (FLOAT32, TF32, "fp16", "bf16", "int8")
#: The files that a manifest may name.
FILES = (STEP, CPU_STEP, *(f"step.{precision}.onnx" for precision in ("fp16", "bf16", "int8")), GOLDEN)
#: What stands before the manifest's own checksum; only a key of the outermost object is indented by one space.
_CHECKSUM = '\n "checksum": "'


@dataclass(frozen=True)
class Manifest(AtSite):
    """Everything a device needs to know about a bundle, as stored in ``manifest.json``.

    Attributes:
        contract: inputs, outputs and state of one step.
        model: the model family, for instance ``stunet``.
        config: the model's configuration as JSON.
        site: sensors, input features and clock; in the file its facts stand beside the others.
        targets: what is forecast, in the order of the target axis; input features unless ``target_units`` is given.
        target_units: unit of each target where targets are not input features; otherwise empty.
        limits: (low, high) per feature in physical units; values outside are treated as unobserved.
        mean, std: training mean and standard deviation per feature, in physical units.
        horizon: number of intervals forecast.
        window: number of intervals of the window protocol the model was trained for.
        tolerance: largest allowed difference from the float64 reference per target, in units of the target, of fp32.
        phase_s: where stamps lie between the multiples of ``interval_s`` since the epoch, in seconds: 0 on the hour.
        training: provenance: data, seed, budget, epochs, versions.
        accuracy: carried errors on the checkpoint's reference stream, most of it trained on, per precision; what a
            precision loses against fp32 with it.
        parity: measured difference from the float64 reference, per precision; its own tolerance with it.
        versions: tool versions that wrote the bundle.
        files: sha256 of every file of the bundle but the manifest and the engines.
        bundle_id: identity of the model: sha256 over step.onnx, contract and sensor ids.
        schema: version of this layout.
    """

    contract: StepContract
    model: str
    config: Mapping[str, Any]
    site: Site
    targets: tuple[str, ...]
    limits: tuple[tuple[float, float], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    horizon: int
    window: int
    tolerance: tuple[float, ...]
    target_units: tuple[str, ...] = ()
    phase_s: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    bundle_id: str = ""
    schema: int = SCHEMA

    @property
    def horizons_min(self) -> tuple[float, ...]:
        """Lead time of each forecast step in minutes."""
        return tuple(step * self.interval_s / 60 for step in range(1, self.horizon + 1))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that were exported: those with a graph, and tf32, which has none, if it was measured."""
        with_graph = [precision for precision in PRECISIONS if graph_name(precision) in self.files]
        return tuple(precision for precision in with_graph if precision != TF32 or precision in self.parity)

    def check_exported(self, precision: str) -> None:
        """Refuse a precision that the bundle was not exported with.

        Raises:
            ConfigError: if there is no such precision.
            BundleError: if it was not exported.
        """
        check_precision(precision)
        if precision not in self.precisions:
            raise BundleError(
                f"precision {precision}, which this bundle was not exported with",
                f"one of {', '.join(self.precisions)}, which it was",
                f"export the model again with: stunet-export model.pt --precision {precision}",
            )

    def tolerance_of(self, precision: str) -> tuple[float, ...]:
        """Return the largest allowed difference from the float64 reference per target, as measured for a precision.

        Raises:
            ConfigError, BundleError: see :meth:`check_exported`.
        """
        self.check_exported(precision)
        if precision == FLOAT32:
            return self.tolerance
        return tuple(float(number) for number in self.parity[precision]["tolerance"])

    @property
    def units_of_targets(self) -> tuple[str, ...]:
        """Unit of each target."""
        return self.target_units or tuple(self.units[self.features.index(target)] for target in self.targets)

    def check(self) -> None:
        """Check that the facts fit together, and nothing is larger than a device can hold.

        Raises:
            StunetError: naming what does not.
        """
        features, targets = len(self.features), len(self.targets)
        per_feature = {"limits": self.limits, "mean": self.mean, "std": self.std}
        per_target = {"tolerance": self.tolerance, "target_units": self.target_units or self.targets}
        for wanted, lists in ((features, per_feature), (targets, per_target)):
            for name, entries in lists.items():
                if len(entries) != wanted:
                    raise DataError(f"{name} of {len(entries)}", f"{wanted}, one for each", "correct it")
        if not self.target_units:
            self.site.feature_indices(self.targets)
        for name in ("window", "horizon"):
            if not 1 <= getattr(self, name) <= MOST_INTERVALS:
                raise DataError(f"{name} = {getattr(self, name)}", f"1 to {MOST_INTERVALS:,}", "correct it")
        if not 0 <= self.phase_s < self.interval_s <= LONGEST_INTERVAL_S:
            raise DataError(
                f"interval_s = {self.interval_s} and phase_s = {self.phase_s}",
                f"an interval of up to {LONGEST_INTERVAL_S:,} s, and a phase within it",
                "correct it",
            )
        find_zone(self.timezone)
        self.contract.check_size()

    def essentials(self) -> dict[str, str]:
        """Return what a lone ``step.onnx`` must carry in its metadata to explain itself, as JSON strings."""
        names = ["model", "sensor_ids", "features", "units", "targets", "limits"]
        names += ["interval_s", "phase_s", "stamp", "timezone", "no_data", "horizon", "window"]
        values = {name: getattr(self, name) for name in names} | {"contract": self.contract.to_json()}
        return {f"stunet.{name}": json.dumps(value, sort_keys=True) for name, value in values.items()}

    def to_json(self) -> str:
        """Return the text of ``manifest.json``: sorted keys, so that equal manifests are equal bytes.

        Its ``checksum`` is the SHA-256 of the same text with an empty one.
        """
        data = {f.name: getattr(self, f.name) for f in fields(self)} | {"contract": self.contract.to_json()}
        data |= asdict(data.pop("site"))
        text = json.dumps(data | {"checksum": ""}, indent=1, sort_keys=True, allow_nan=False) + "\n"
        return text.replace(_CHECKSUM, _CHECKSUM + sha256(text.encode()), 1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises:
            BundleError: if it is damaged, was altered, lacks a field or has another schema.
        """
        again = "export the model again with this version of stunet-export"
        try:
            data = json.loads(text)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"a damaged {MANIFEST} ({error})", "the JSON that stunet-export writes", again) from error
        if schema != SCHEMA:
            raise BundleError(f"a bundle of schema {schema}", f"schema {SCHEMA}", again)
        checksum = data.pop("checksum", None)  # absent from what was written before there was one
        if checksum is not None and sha256(text.replace(f"{_CHECKSUM}{checksum}", _CHECKSUM, 1).encode()) != checksum:
            raise BundleError(
                f"a {MANIFEST} that was altered",
                f"the checksum {checksum!s:.12}…",
                "copy the bundle again, or " + again,
            )
        try:
            site = {f.name: data.pop(f.name) for f in fields(Site) if f.name in data}
            manifest = from_mapping(cls, data | {"site": site})
            manifest.check()
        except StunetError as error:
            raise BundleError(
                f"a {MANIFEST} with a missing or unknown field, or an impossible one ({error.came})",
                f"a whole one, with {error.expected}",
                again,
            ) from error
        return manifest


@dataclass(frozen=True)
class Golden:
    """A recorded stream and what the float64 reference forecast on it, to verify a device without torch.

    Attributes:
        timestamps: [time] seconds since the epoch, UTC.
        values: [time, node, feature] float32 in physical units; 0 where unobserved.
        observed: [time, node, feature] bool.
        scored: [issue] indices into time of the intervals whose reference forecast is stored.
        forecast: [issue, horizon, node, target] float32, the reference rounded once.
    """

    timestamps: NDArray[np.int64]
    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    scored: NDArray[np.int64]
    forecast: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the arrays uncompressed; equal arrays give equal bytes."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read a recorded stream.

        Raises:
            BundleError: if the file is missing, damaged or lacks an array.
        """
        try:
            return cls.from_bytes(read_bundle_file(path), path)
        except FileNotFoundError as error:
            raise BundleError(f"{path}: no such file", "a golden stream", "correct the path") from error

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Golden:
        """Read the content of a recorded stream.

        Args:
            data: all of it.
            path: of the file, for messages.

        Raises:
            BundleError: if it is damaged, claims more than it holds, or lacks an array.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                names = {f.name for f in fields(cls)}
                claimed = claimed_arrays(arrays, path.name, names)
                if sum(member.file_size for member in arrays.zip.infolist()) > len(data):
                    raise ValueError("it unpacks to more than it is")
                kinds = {name: claimed[name].dtype.kind for name in names}
                if kinds != {"timestamps": "i", "values": "f", "observed": "b", "scored": "i", "forecast": "f"}:
                    raise ValueError(f"its arrays are of the kinds {kinds}")
                return cls(**{name: arrays[name] for name in names})
        except Exception as error:  # numpy raises many kinds for a damaged zip
            raise BundleError(
                f"{path} cannot be read ({error})",
                "the golden stream that stunet-export writes",
                "copy the bundle again or export the model again",
            ) from error


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder and its manifest. Immutable, and shared by all streams of it."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open a bundle and check that its step graph is the one the manifest describes.

        Raises:
            BundleError: if the folder is no bundle, is incomplete, or ``step.onnx`` was altered.
        """
        folder = Path(path)
        manifest_path = folder / MANIFEST
        if not manifest_path.is_file():
            kind = "a file" if folder.is_file() else "a folder"
            raise BundleError(
                f"{folder}, {kind} without {MANIFEST}" if folder.exists() else f"{folder}: no such folder",
                "a bundle, which is a folder",
                "correct the path, copy the whole bundle there, or make one with 'stunet-export model.pt'",
            )
        try:
            text = read_bundle_file(manifest_path).decode("utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{manifest_path} cannot be read ({error})", "a text file", "copy the bundle again"
            ) from error
        bundle = cls(folder, Manifest.from_json(text))
        check_names(bundle.manifest.files, FILES, folder)
        if bundle.manifest.bundle_id != bundle_id(
            bundle.read(STEP), bundle.manifest.contract, bundle.manifest.sensor_ids
        ):
            raise BundleError(
                f"{folder}: contract or sensor ids do not belong to this {STEP}",
                f"the identity {bundle.manifest.bundle_id[:12]}",
                "copy the bundle again or export the model again",
            )
        return bundle

    def graph(self, precision: str = FLOAT32) -> StepGraph:
        """Return the step graph of a precision, its hash checked.

        Raises:
            ConfigError: if there is no such precision.
            BundleError: if it was not exported, or its graph was altered.
        """
        self.manifest.check_exported(precision)
        return self._graph(graph_name(precision))

    def cpu_graph(self, precision: str = FLOAT32) -> StepGraph:
        """Return the step graph of a precision for a processor, its hash checked.

        Raises:
            ConfigError, BundleError: see :meth:`graph`.
        """
        if precision != FLOAT32 or CPU_STEP not in self.manifest.files:
            return self.graph(precision)
        return self._graph(CPU_STEP)

    def _graph(self, name: str) -> StepGraph:
        return StepGraph(self.path / name, self.read(name))

    @property
    def engines(self) -> Path:
        """Folder of what was compiled for a device; may not exist.

        Raises:
            BundleError: if it is a link, behind which are not the bundle's own.
        """
        folder = self.path / ENGINES
        if folder.is_symlink():
            raise BundleError(f"{folder}, a link", "a folder in the bundle", "delete it and build its engines again")
        return folder

    def golden(self) -> Golden:
        """Return the recorded stream after checking its hash."""
        return Golden.from_bytes(self.read(GOLDEN), self.path / GOLDEN)

    def check_files(self) -> None:
        """Compare every file with the manifest's hash.

        Raises:
            BundleError: naming the first file that is missing or altered.
        """
        for name in self.manifest.files:
            self.read(name)

    def read(self, name: str) -> bytes:
        """Return the content of a file, which is that of the manifest's hash.

        Raises:
            BundleError: if it is missing, altered, or no plain file.
        """
        path = self.path / name
        missing = BundleError(f"{self.path} without {name}", "a whole bundle", "copy the bundle again")
        if name not in self.manifest.files:
            raise missing
        try:
            content = read_bundle_file(path)
        except FileNotFoundError:
            raise missing from None
        found = sha256(content)
        if found != self.manifest.files[name]:
            raise BundleError(
                f"{path} was altered (sha256 {found[:12]}…)",
                f"sha256 {self.manifest.files[name][:12]}…",
                "copy the bundle again or export the model again",
            )
        return content


def graph_name(precision: str) -> str:
    """Return the file of a precision's step graph; that of tf32 is the float32 one."""
    return STEP if precision in (FLOAT32, TF32) else f"step.{precision}.onnx"


def check_precision(precision: str) -> None:
    """Refuse what is no precision.

    Raises:
        ConfigError: naming those there are.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}", f"one of {', '.join(PRECISIONS)}", "choose one of these")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def bundle_id(step: bytes, contract: StepContract, sensor_ids: Sequence[str]) -> str:
    """Return a bundle's identity; another precision or engine of the same model does not change it."""
    described = json.dumps([contract.to_json(), list(sensor_ids)], sort_keys=True).encode()
    return sha256(sha256(step).encode() + described)
