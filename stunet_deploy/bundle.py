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

import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.array_files import claimed_arrays
from stunet_deploy.bundle_files import LARGEST, check_names, engines_of, read_bundle_file
from stunet_deploy.errors import BundleError
from stunet_deploy.files import read_file, sha256
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.onnx_graph.step_graph import StepGraph
from stunet_deploy.precisions import CPU_STEP, FLOAT32, STEP, graph_name
from stunet_deploy.step_notes import step_notes

if TYPE_CHECKING:
    from stunet_deploy.signature import Signed, Trust

GOLDEN = "golden.npz"
#: The files that a manifest may name.
FILES = (STEP, CPU_STEP, *(f"step.{precision}.onnx" for precision in ("fp16", "bf16", "int8")), GOLDEN)


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
            return cls.from_bytes(read_file(path, LARGEST[".npz"]), path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error})", "a golden stream", "correct the path") from error

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
            data = read_bundle_file(manifest_path)
            signed = None if trust is None else trust.check(folder, data)
            text = data.decode("utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{manifest_path} cannot be read ({error})", "a text file", "copy the bundle again"
            ) from error
        # What a step says about itself tells what was altered. Where it must be signed it is not read before its hash.
        unread = trust is not None or not (folder / STEP).is_file()
        told_by = {} if unread else step_notes(read_bundle_file(folder / STEP))
        bundle = cls(folder, Manifest.from_json(text, told_by), signed)
        check_names(bundle.manifest.files, FILES, folder)
        if trust is not None:
            bundle.check_files()
        step = bundle.read(STEP)
        told = bundle.manifest.contradictions(step_notes(step))
        if told or bundle.manifest.bundle_id != bundle.manifest.identity(step):
            raise BundleError(
                f"{folder}, whose {MANIFEST} does not belong to its {STEP}" + f" ({'; '.join(told)})" * bool(told),
                f"what the identity {bundle.manifest.bundle_id[:12]} was given to",
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
        return engines_of(self.path)

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
