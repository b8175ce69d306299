"""The manifest: all that a bundle says about itself, and the identity of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError, DataError, StunetError
from stunet_deploy.files import sha256
from stunet_deploy.limits import LONGEST_INTERVAL_S, MOST_INTERVALS
from stunet_deploy.precisions import FLOAT32, PRECISIONS, TF32, check_precision, graph_name
from stunet_deploy.series.wall_clock import find_zone
from stunet_deploy.site import AtSite, Site

SCHEMA = 1
MANIFEST = "manifest.json"
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


def bundle_id(step: bytes, contract: StepContract, sensor_ids: Sequence[str]) -> str:
    """Return a bundle's identity; another precision or engine of the same model does not change it."""
    described = json.dumps([contract.to_json(), list(sensor_ids)], sort_keys=True).encode()
    return sha256(sha256(step).encode() + described)
