"""What the facts of a manifest must be, beyond their types: the one reading on which every verb stands.

``docs/reference/manifest.schema.json`` says the same of single facts to other programs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import TensorSpec
from stunet_deploy.errors import DataError, shown
from stunet_deploy.limits import (
    LONGEST_AHEAD_S,
    LONGEST_INTERVAL_S,
    LONGEST_NAME,
    MOST_CHANNELS,
    MOST_COLUMNS,
    MOST_FILES,
    MOST_INTERVALS,
)
from stunet_deploy.precisions import FLOAT32, PRECISIONS, STEP
from stunet_deploy.series.wall_clock import find_zone
from stunet_deploy.site import LARGEST_READING
from stunet_deploy.st_graph.st_graph import STGraph

if TYPE_CHECKING:
    from stunet_deploy.manifest import Manifest

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Parity:
    """What is read of a precision's entry in ``parity``."""

    measured_by: str
    max_abs_error: float
    mean_abs_error: float
    tolerance: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Score:
    """What is read of an entry of ``results``."""

    target: str
    horizon_minutes: float
    mae: float | None


@dataclass(frozen=True)
class _Accuracy:
    """What is read of a precision's entry in ``accuracy``."""

    results: tuple[Mapping[str, Any], ...]
    loss: float | None = None
    forced: bool = False


def check_manifest(manifest: Manifest) -> None:
    """Check that the facts are possible and fit together, and nothing is larger than a device can hold.

    Raises:
        StunetError: naming what does not.
    """
    _check_names(manifest)
    _check_numbers(manifest)
    _check_clock(manifest)
    _check_contract(manifest)
    _check_measured(manifest)
    _check_files(manifest)
    if (st_graph := manifest.config.get("st_graph")) is not None:
        _require(isinstance(st_graph, str), "config.st_graph", st_graph, "the text of an st-graph")
        STGraph.from_json(st_graph)


def _require(fulfilled: bool, name: str, came: object, expected: str) -> None:
    if not fulfilled:
        raise DataError(f"{name} = {shown(came)}", expected, "correct it")


def _check_names(manifest: Manifest) -> None:
    """Check texts: of a length to be shown, without control characters, and distinct where they name something."""
    named = {"sensor_ids": manifest.sensor_ids, "features": manifest.features, "targets": manifest.targets}
    for name, entries in named.items():
        most = MOST_COLUMNS if name == "sensor_ids" else MOST_CHANNELS
        _require(0 < len(entries) <= most, name, entries, f"one to {most:,} names")
        _require(len(set(entries)) == len(entries), name, entries, "distinct names")
        _require(all(entries), name, entries, "names that are not empty")
    tensors = (*manifest.contract.inputs, *manifest.contract.outputs, *manifest.contract.states)
    texts = named | {"model": (manifest.model,), "timezone": (manifest.timezone,), "units": manifest.units}
    texts |= {"target_units": manifest.target_units, "versions": (*manifest.versions, *manifest.versions.values())}
    texts["contract"] = tuple(text for tensor in tensors for text in (tensor.name, *tensor.axes))
    for name, entries in texts.items():
        _check_texts(name, entries)
    _require(manifest.model != "", "model", "", "a name")
    if manifest.target_units:
        _check_length("target_units", manifest.target_units, len(manifest.targets))
    else:
        manifest.site.feature_indices(manifest.targets)


def _check_texts(name: str, texts: Iterable[str]) -> None:
    for text in texts:
        _require(len(text) <= LONGEST_NAME, name, text, f"texts of up to {LONGEST_NAME:,} characters")
        plain = text.isprintable() or not any(unicodedata.category(letter) == "Cc" for letter in text)
        _require(plain, name, text, "texts without control characters")


def _check_length(name: str, entries: Sequence[object], length: int) -> None:
    if len(entries) != length:
        raise DataError(f"{name} of {len(entries)}", f"{length}, one for each", "correct it")


def _check_numbers(manifest: Manifest) -> None:
    """Check numbers in physical units: as many as there are features or targets, and computable."""
    features, targets = len(manifest.features), len(manifest.targets)
    for name in ("limits", "mean", "std"):
        _check_length(name, getattr(manifest, name), features)
    _check_length("tolerance", manifest.tolerance, targets)
    numbers = {"mean": manifest.mean, "std": manifest.std, "tolerance": manifest.tolerance}
    numbers["limits"] = tuple(limit for pair in manifest.limits for limit in pair)
    numbers |= {"latitude": manifest.latitude or (), "longitude": manifest.longitude or ()}
    for name, entries in numbers.items():
        _require(all(abs(number) <= LARGEST_READING for number in entries), name, entries, "numbers that float32 has")
    for name in ("std", "tolerance"):
        _require(all(number > 0 for number in numbers[name]), name, numbers[name], "numbers above 0")
    spans = [high - low for low, high in manifest.limits]
    _require(
        all(0 < span <= LARGEST_READING for span in spans), "limits", manifest.limits, "[low, high], low below high"
    )
    located = (manifest.latitude is None, manifest.longitude is None)
    _require(len(set(located)) == 1, "latitude and longitude", located, "both or neither")


def _check_clock(manifest: Manifest) -> None:
    for name in ("window", "horizon"):
        count = getattr(manifest, name)
        _require(1 <= count <= MOST_INTERVALS, name, count, f"1 to {MOST_INTERVALS:,}")
    if not 0 <= manifest.phase_s < manifest.interval_s <= LONGEST_INTERVAL_S:
        raise DataError(
            f"interval_s = {manifest.interval_s} and phase_s = {manifest.phase_s}",
            f"an interval of up to {LONGEST_INTERVAL_S:,} s, and a phase within it",
            "correct it",
        )
    ahead = manifest.horizon * manifest.interval_s
    _require(ahead <= LONGEST_AHEAD_S, "seconds ahead", ahead, f"at most {LONGEST_AHEAD_S:,}")
    find_zone(manifest.timezone)


def _check_contract(manifest: Manifest) -> None:
    """Check that the step has the inputs and outputs of a forecaster of these sensors, and takes little memory."""
    nodes, features, targets = len(manifest.sensor_ids), len(manifest.features), len(manifest.targets)
    inputs = {"values": (None, nodes, features), "observed": (None, nodes, features), "time_of_week": (None, 1)}
    outputs = {"forecast": (None, manifest.horizon, nodes, targets)}
    contract = manifest.contract
    both: tuple[tuple[str, Mapping[str, Any], tuple[TensorSpec, ...]], ...] = (
        ("inputs", inputs, contract.inputs),
        ("outputs", outputs, contract.outputs),
    )
    for kind, expected, specs in both:
        found = {spec.name: spec.shape for spec in specs}
        if found != expected:
            raise DataError(f"a step with the {kind} {shown(found)}", f"{expected}", "export the model again")
    contract.check_size()


def _check_measured(manifest: Manifest) -> None:
    """Check ``parity`` and ``accuracy``: what is read of them, for every precision that there is."""
    targets = len(manifest.targets)
    for name, tables in (("parity", manifest.parity), ("accuracy", manifest.accuracy)):
        _require(set(tables) <= set(PRECISIONS), name, list(tables), f"entries of {', '.join(PRECISIONS)}")
        exported = {precision for precision in manifest.precisions if precision != FLOAT32}
        _require(set(tables) - {FLOAT32} == exported, name, list(tables), f"entries of {sorted(exported)}, as exported")
    for precision, table in manifest.parity.items():
        parity = _read(_Parity, table, f"parity.{precision}")
        for name in ("max_abs_error", "mean_abs_error"):
            _require(getattr(parity, name) >= 0, f"parity.{precision}.{name}", getattr(parity, name), "0 or more")
        _check_texts(f"parity.{precision}", [parity.measured_by])
        if precision != FLOAT32:
            _check_length(f"parity.{precision}.tolerance", parity.tolerance, targets)
        fine = all(0 < number <= LARGEST_READING for number in parity.tolerance)
        _require(fine, f"parity.{precision}.tolerance", parity.tolerance, "numbers above 0")
    for precision, table in manifest.accuracy.items():
        accuracy = _read(_Accuracy, table, f"accuracy.{precision}")
        if precision != FLOAT32:
            _require("loss" in table, f"accuracy.{precision}", table, "its loss")
        for result in accuracy.results:
            score = _read(_Score, result, f"accuracy.{precision}.results")
            _require(score.target in manifest.targets, "a target of accuracy", score.target, "one of the targets")
            _require(score.horizon_minutes > 0, "horizon_minutes", score.horizon_minutes, "above 0")
            _require(score.mae is None or score.mae >= 0, "mae", score.mae, "0 or more, or null")


_Table = TypeVar("_Table", _Parity, _Score, _Accuracy)


def _read(kind: type[_Table], table: object, where: str) -> _Table:
    """Return of a table of measurements what is read of it; it may hold more."""
    if isinstance(table, Mapping):
        known = {f.name for f in fields(kind)}
        table = {name: value for name, value in table.items() if name in known}
    return from_mapping(kind, table, where=where)


def _check_files(manifest: Manifest) -> None:
    names = list(manifest.files)
    _require(len(names) <= MOST_FILES, "files", names, f"at most {MOST_FILES}")
    _require(STEP in names, "files", names, f"{STEP} among them")
    for name, digest in manifest.files.items():
        plain = _FILE.fullmatch(name) is not None and not name.lower().startswith("manifest.json")
        _require(plain, "a name among files", name, "a plain name of letters, digits, dots, - and _")
        _require(_HASH.fullmatch(digest) is not None, f"files.{name}", digest, "64 hexadecimal digits")
    _require(_HASH.fullmatch(manifest.bundle_id) is not None, "bundle_id", manifest.bundle_id, "64 hexadecimal digits")
