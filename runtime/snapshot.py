"""A snapshot: all that a stream remembers, as one versioned file that proves itself whole.

The file is a line with the layout's version, the SHA-256 of all that follows, and a numpy archive (npz) of a JSON text
and arrays. Every byte is compared or hashed, so damage anywhere is found before anything is restored.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from runtime.backends.slots import check_lines
from runtime.clock import is_time
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.snapshot_fields import ABOUT, FLAT, LAST, READINGS, checked
from stunet_deploy.array_files import claimed_arrays
from stunet_deploy.contract import Lines
from stunet_deploy.errors import DataError, StreamError
from stunet_deploy.files import create_file, read_file, sync_names
from stunet_deploy.manifest import Manifest

MAGIC = b"stunet-snapshot 1\n"
_DIGEST = hashlib.sha256().digest_size
#: Fields of a forecast that the last push keeps under their own names.
_OF_FORECAST = ("issued_s", "observed_share", "reasons", "step_us")
_ABOUT, _LINE, _DRIFT, _FLAT = "about", "line.", "drift.", "flat."


@dataclass(frozen=True)
class LastPush:
    """The last accepted push and its forecast; a repeat of it after a restart returns the same forecast.

    Attributes:
        values, observed: [node, feature] the readings as they were accepted.
        forecast: [horizon, node, target].
        issued_s, observed_share, reasons, step_us: see :class:`runtime.forecast.Forecast`.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    forecast: NDArray[np.float32]
    issued_s: int
    observed_share: float
    reasons: tuple[str, ...]
    step_us: float

    @classmethod
    def of(cls, interval: Interval, forecast: Forecast) -> LastPush:
        """Return the push of an interval."""
        kept = {name: getattr(forecast, name) for name in _OF_FORECAST}
        return cls(interval.values, interval.observed, forecast.values, **kept)

    def restored(self, stream: str, manifest: Manifest) -> tuple[Interval, Forecast]:
        """Return the interval and the forecast, as those of a stream of this name."""
        kept = {name: getattr(self, name) for name in _OF_FORECAST}
        return Interval(self.values, self.observed), Forecast(self.forecast, stream=stream, manifest=manifest, **kept)

    def fits(self, manifest: Manifest) -> bool:
        """Return whether a stream of a bundle can have been pushed it."""
        on_grid = (self.issued_s - manifest.phase_s) % manifest.interval_s == 0
        forecast = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
        same = self.forecast.shape == forecast and _is_finite(self.forecast)
        return on_grid and same and _fit(manifest, self.values, self.observed)


@dataclass(frozen=True)
class OpenReadings:
    """Single readings of intervals that are not closed yet.

    Attributes:
        names: what each column of ``values`` is.
        nodes: [reading] index of the sensor.
        seconds: [reading] time since the epoch, UTC.
        values: [reading, name] NaN where a reading does not have one.
        closed_s: stamp of the last interval closed, or None.
        counters: of the assembler.
    """

    names: tuple[str, ...]
    nodes: NDArray[np.int32]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    closed_s: int | None
    counters: Mapping[str, Any]

    def fits(self, manifest: Manifest) -> bool:
        """Return whether an assembler of a bundle can have taken them."""
        number = len(self.nodes)
        known = bool(((self.nodes >= 0) & (self.nodes < len(manifest.sensor_ids))).all())
        timed = all(map(is_time, self.seconds.tolist()))
        same = self.seconds.shape == (number,) and self.values.shape == (number, len(self.names))
        return known and timed and same and not np.isinf(self.values).any()


@dataclass(frozen=True)
class Snapshot:
    """All that a stream remembers between two intervals.

    Attributes:
        bundle_id: identity of the model; a stream of another one does not restore it.
        mode: ``carry`` or ``window``.
        age: intervals run since zero state; in window mode also the position of the rows.
        lines: the live slices of each state entry by age: [delay, batch, ...], oldest first.
        counters: see :class:`runtime.counters.Counters`.
        last: the last accepted push, or None for a fresh stream; its stamp is the clock.
        flat_lines: [node, feature] twice: last readings, and how often each has come; None without ``stuck_after``.
        readings: of an assembler in front of the stream, or None.
        drift: the memory of a drift watch, by name; None without one.
        unknown: fields of the file that it was read from that this version does not know.
    """

    bundle_id: str
    mode: str
    age: int
    lines: Lines
    counters: Mapping[str, Any]
    last: LastPush | None = None
    flat_lines: tuple[NDArray[np.float32], NDArray[np.int32]] | None = None
    readings: OpenReadings | None = None
    drift: Mapping[str, NDArray[Any]] | None = None
    unknown: tuple[str, ...] = ()

    def check(self, manifest: Manifest, mode: str, batch: int) -> None:
        """Refuse to be restored into a stream of another bundle or mode, or with what no stream of it can have been.

        Args:
            manifest: of the stream's bundle.
            mode: of the stream.
            batch: rows of its backend.

        Raises:
            StreamError: naming what does not fit.
        """
        for what, came, expected in (("bundle", self.bundle_id, manifest.bundle_id), ("mode", self.mode, mode)):
            if came != expected:
                raise StreamError(
                    f"a snapshot of {what} {came[:12]}",
                    f"{what} {expected[:12]}",
                    f"restore it with the {what} that it was taken with, or start without",
                )
        check_lines(manifest.contract, batch, self.lines)
        dtypes = {state.name: np.dtype(state.dtype) for state in manifest.contract.states}
        for part, good in {
            "states": all(line.dtype == dtypes[name] and _is_finite(line) for name, line in self.lines.items()),
            "last push": self.last is None or self.last.fits(manifest),
            "runs of equal readings": self.flat_lines is None or _fit(manifest, *self.flat_lines),
            "open readings": self.readings is None or self.readings.fits(manifest),
        }.items():
            if not good:
                raise StreamError(
                    f"a snapshot with impossible {part}",
                    "what a stream of this bundle can have",
                    "restore an older one, or start without",
                )

    def to_bytes(self) -> bytes:
        """Return the bytes of the file; equal snapshots give equal bytes."""
        about: dict[str, Any] = {name: getattr(self, name) for name in ("bundle_id", "mode", "age", "counters")}
        arrays: dict[str, Any] = {_LINE + name: line for name, line in self.lines.items()}
        if self.last is not None:
            about["last"] = _plain(self.last)
            arrays |= _arrays(self.last, "last.")
        if self.flat_lines is not None:
            arrays[_FLAT + "values"], arrays[_FLAT + "runs"] = self.flat_lines
        if self.readings is not None:
            about["readings"] = _plain(self.readings)
            arrays |= _arrays(self.readings, "readings.")
        if self.drift is not None:
            arrays |= {_DRIFT + name: array for name, array in self.drift.items()}
        text = json.dumps(about, sort_keys=True, allow_nan=False).encode()
        body = io.BytesIO()
        arrays[_ABOUT] = np.frombuffer(text, np.uint8)
        np.savez(body, **arrays)
        return MAGIC + hashlib.sha256(body.getvalue()).digest() + body.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Read a snapshot after checking that it is whole.

        Raises:
            DataError: if a byte is missing, added or different, or the layout is another: see
                :mod:`runtime.snapshot_fields`.
        """
        body = data[len(MAGIC) + _DIGEST :]
        if not data.startswith(MAGIC):
            _refuse(f"a file that begins with {data[: len(MAGIC)]!r}")
        if hashlib.sha256(body).digest() != data[len(MAGIC) : len(MAGIC) + _DIGEST]:
            _refuse("a damaged snapshot: its checksum differs")
        try:
            return cls._from_body(body)
        except Exception as error:  # numpy raises many kinds for what is no archive of plain arrays
            _refuse(f"a snapshot of another layout ({error})")

    @classmethod
    def _from_body(cls, body: bytes) -> Snapshot:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            claimed_arrays(archive, "a snapshot")
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        parts = {name: about.pop(name, None) for name in ("last", "readings")}
        unknown: list[str] = []
        own = checked(about, ABOUT, "", unknown)
        flat, drift, lines = (_taken(arrays, prefix) for prefix in (_FLAT, _DRIFT, _LINE))
        last, readings = (_taken(arrays, f"{name}.") for name in parts)
        unknown += arrays
        if last or parts["last"] is not None:
            last = checked((parts["last"] or {}) | last, LAST, "last.", unknown)
        if readings or parts["readings"] is not None:
            readings = checked((parts["readings"] or {}) | readings, READINGS, "readings.", unknown)
        if flat:
            flat = checked(flat, FLAT, _FLAT, unknown)
        return cls(
            **own,
            lines=lines,
            last=LastPush(**last | {"reasons": tuple(last["reasons"])}) if last else None,
            flat_lines=(flat["values"], flat["runs"]) if flat else None,
            readings=OpenReadings(**readings | {"names": tuple(readings["names"])}) if readings else None,
            drift=drift or None,
            unknown=tuple(unknown),
        )

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all, and bring it to the disk before its name.

        Raises:
            OSError: if the disk is full, read-only or gone; what was at ``path`` still is.
        """
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, f".{name}.tmp")
        try:
            with open(create_file(temporary), "wb") as handle:
                handle.write(self.to_bytes())
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_names(folder or os.curdir)

    @classmethod
    def load(cls, path: str | Path, most: int = 1 << 40) -> Snapshot:
        """Read a file.

        Args:
            path: of the file.
            most: bytes that it may have.

        Raises:
            DataError: if it cannot be read, is larger or damaged, or of another layout.
        """
        try:
            data = read_file(path, most)
        except (OSError, MemoryError) as error:
            _refuse(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'too little memory'})")
        return cls.from_bytes(data)


def _plain(part: LastPush | OpenReadings) -> dict[str, Any]:
    """Return the fields that are no arrays."""
    return {name: value for name, value in vars(part).items() if not isinstance(value, np.ndarray)}


def _arrays(part: LastPush | OpenReadings, prefix: str) -> dict[str, NDArray[Any]]:
    """Return the fields that are arrays, by prefixed name."""
    return {prefix + name: value for name, value in vars(part).items() if isinstance(value, np.ndarray)}


def _taken(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    """Take the arrays of a prefix out of those that are left, and return them without it."""
    return {name.removeprefix(prefix): arrays.pop(name) for name in list(arrays) if name.startswith(prefix)}


def _fit(manifest: Manifest, values: NDArray[np.float32], other: NDArray[Any]) -> bool:
    """Return whether two arrays are [node, feature], and the numbers of the first finite."""
    shape = (len(manifest.sensor_ids), len(manifest.features))
    return values.shape == other.shape == shape and _is_finite(values) and bool((other >= 0).all())


def _is_finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all())


def _refuse(came: str) -> NoReturn:
    raise DataError(came, "a whole snapshot of this layout", "restore an older one, or start without")
