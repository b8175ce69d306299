"""The bundle: the one artifact that is deployed, a folder that explains and proves itself.

manifest.json    what it is: contract, sensors, units, clock, limits, provenance, accuracy, hashes
step.onnx        the float32 step, weights and Chebyshev bases inside
step.cpu.onnx    the float32 step in a form that costs a processor less, where there is one
step.fp16.onnx   and others: the step in further precisions; inputs, outputs and states stay float32
golden.npz       a recorded stream and the float64 reference's forecasts, to verify any device with
engines/         compiled engines, which change after export
signature.json   who vouches for all of it, where it was signed after export
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.array_files import claimed_arrays
from stunet_deploy.errors import BundleError
from stunet_deploy.files import read_file, sha256
from stunet_deploy.limits import LONGEST_SETTINGS
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.precisions import CPU_STEP, FLOAT32, STEP, graph_name
from stunet_deploy.step_notes import step_notes

if TYPE_CHECKING:
    from stunet_deploy.signature import Signed, Trust

GOLDEN = "golden.npz"
ENGINES = "engines"


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
            with np.load(path, allow_pickle=False) as arrays:
                claimed_arrays(arrays, path.name)
                return cls(**{f.name: arrays[f.name] for f in fields(cls)})
        except Exception as error:  # numpy raises many kinds for a damaged zip
            raise BundleError(
                f"{path} cannot be read ({error})",
                "the golden stream that stunet-export writes",
                "copy the bundle again or export the model again",
            ) from error


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder and its manifest. Immutable, and shared by all streams of it.

    Attributes:
        path: the folder.
        manifest: what is in it.
        signed: the trusted signatures it was opened with; None where it was opened without trust.
    """

    path: Path
    manifest: Manifest
    signed: Signed | None = None

    @classmethod
    def load(cls, path: str | Path, *, trust: Trust | None = None) -> Bundle:
        """Open a bundle and check that its manifest and its step graph are possible, unaltered and of one another.

        Args:
            path: its folder.
            trust: keys of which one must have signed it; every file is then compared with its hash.

        Raises:
            BundleError: if the folder is no bundle, is incomplete, either is not, or no trusted key has signed it.
            StunetError: if there is trust, but ``cryptography`` is not installed.
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
            data = read_file(manifest_path, LONGEST_SETTINGS)
            signed = None if trust is None else trust.check(folder, data)
            text = data.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{manifest_path} cannot be read ({error})", "a text file", "copy the bundle again"
            ) from error
        notes = step_notes((folder / STEP).read_bytes()) if (folder / STEP).is_file() else {}
        bundle = cls(folder, Manifest.from_json(text, notes), signed)
        bundle.check_files([STEP] if trust is None else None)
        told = bundle.manifest.contradictions(notes)
        if told or bundle.manifest.bundle_id != bundle.manifest.identity(bundle.step.read_bytes()):
            raise BundleError(
                f"{folder}, whose {MANIFEST} does not belong to its {STEP}" + f" ({'; '.join(told)})" * bool(told),
                f"what the identity {bundle.manifest.bundle_id[:12]} was given to",
                "copy the bundle again or export the model again",
            )
        return bundle

    @property
    def step(self) -> Path:
        """Path of the float32 step graph."""
        return self.path / STEP

    def graph(self, precision: str = FLOAT32) -> Path:
        """Return the path of the step graph of a precision, its hash checked.

        Raises:
            ConfigError: if there is no such precision.
            BundleError: if it was not exported, or its graph was altered.
        """
        self.manifest.check_exported(precision)
        name = graph_name(precision)
        if name != STEP:  # that one was checked when the bundle was opened
            self.check_files([name])
        return self.path / name

    def cpu_graph(self, precision: str = FLOAT32) -> Path:
        """Return the path of the step graph of a precision for a processor, its hash checked.

        Raises:
            ConfigError, BundleError: see :meth:`graph`.
        """
        if precision != FLOAT32 or CPU_STEP not in self.manifest.files:
            return self.graph(precision)
        self.check_files([CPU_STEP])
        return self.path / CPU_STEP

    @property
    def engines(self) -> Path:
        """Folder of what was compiled for a device; may not exist."""
        return self.path / ENGINES

    def golden(self) -> Golden:
        """Return the recorded stream after checking its hash."""
        self.check_files([GOLDEN])
        return Golden.load(self.path / GOLDEN)

    def check_files(self, names: Sequence[str] | None = None) -> None:
        """Compare files with the manifest's hashes (all of them by default).

        Raises:
            BundleError: naming the first file that is missing or altered.
        """
        for name in self.manifest.files if names is None else names:
            path = self.path / name
            if not path.is_file() or name not in self.manifest.files:
                raise BundleError(f"{self.path} without {name}", "a whole bundle", "copy the bundle again")
            found = sha256(path.read_bytes())
            if found != self.manifest.files[name]:
                raise BundleError(
                    f"{path} was altered (sha256 {found[:12]}…)",
                    f"sha256 {self.manifest.files[name][:12]}…",
                    "copy the bundle again or export the model again",
                )
