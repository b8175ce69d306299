"""The manifest: all that a bundle says about itself, and the identity of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError, StunetError, shortened, shown
from stunet_deploy.files import sha256
from stunet_deploy.limits import MOST_ENTRIES, MOST_VALUES
from stunet_deploy.manifest_rules import check_manifest
from stunet_deploy.onnx_graph.messages import KEYS
from stunet_deploy.precisions import FLOAT32, PRECISIONS, STEP, TF32, check_precision, graph_name
from stunet_deploy.site import AtSite, Site
from stunet_deploy.strict_json import parse_json

#: Version of the layout that is written, and those that are read.
SCHEMA, SCHEMAS = 2, (1, 2)
MANIFEST = "manifest.json"
#: What stands before the manifest's own checksum; only a key of the outermost object is indented by one space.
_CHECKSUM = '\n "checksum": "'
#: Measurements and provenance: whatever else is added to a manifest is part of the identity.
_NOT_OF_IDENTITY = frozenset(
    ("tolerance", "training", "accuracy", "parity", "versions", "files", "bundle_id", "schema", "checksum")
)
_NO_NOTES: Mapping[str, str] = MappingProxyType({})
_AGAIN = "export the model again with this version of stunet-export"


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
        bundle_id: identity of the model, see :meth:`identity`.
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

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever relies on the bundle should know about it."""
        if self.schema == SCHEMA:
            return ()
        return (
            f"a bundle of schema {self.schema}: its identity covers the step, the contract and the sensor ids, not all "
            "else that a forecast means; export the model again for one that does",
        )

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

    def identity(self, step: bytes) -> str:
        """Return the identity of the model: a SHA-256 over its step and all that a forecast of it means.

        Another precision, engine or measurement of the same model does not change it. Of schema 1 it covers the step,
        the contract and the sensor ids alone, so that what was kept under it stays where it is.

        Args:
            step: content of ``step.onnx``.
        """
        described: Any = {name: fact for name, fact in self._facts().items() if name not in _NOT_OF_IDENTITY}
        if self.schema == 1:
            described = [self.contract.to_json(), list(self.sensor_ids)]
        return sha256(sha256(step).encode() + json.dumps(described, sort_keys=True).encode())

    def essentials(self) -> dict[str, str]:
        """Return what a lone ``step.onnx`` must carry in its metadata to explain itself, as JSON strings."""
        names = ["model", "sensor_ids", "features", "units", "targets", "target_units", "limits", "contract"]
        names += ["interval_s", "phase_s", "stamp", "timezone", "no_data", "horizon", "window"]
        facts = self._facts()
        return {KEYS + name: json.dumps(facts[name], sort_keys=True) for name in names}

    def contradictions(self, notes: Mapping[str, str]) -> list[str]:
        """Return what a step graph says otherwise than this manifest.

        Args:
            notes: the graph's metadata, of :meth:`essentials` then; what it does not say is not compared.
        """
        return _differences(json.loads(json.dumps(self._facts())), notes)

    def to_json(self) -> str:
        """Return the text of ``manifest.json``: sorted keys, so that equal manifests are equal bytes.

        Its ``checksum`` is the SHA-256 of the same text with an empty one.
        """
        return sealed(self._facts())

    @classmethod
    def from_json(cls, text: str, notes: Mapping[str, str] = _NO_NOTES) -> Manifest:
        """Read a manifest.

        Args:
            text: of the file.
            notes: metadata of the step, by which to tell what was altered.

        Raises:
            BundleError: if it is damaged, was altered, lacks a field, has an impossible one or is of another schema.
        """
        try:
            data = parse_json(text, MOST_VALUES)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"a damaged {MANIFEST} ({error})", "the JSON that stunet-export writes", _AGAIN
            ) from error
        if type(schema) is not int or schema not in SCHEMAS:
            expected = f"schema {' or '.join(map(str, SCHEMAS))}"
            raise BundleError(
                f"a bundle of schema {shown(schema)}", expected, f"{_AGAIN}, or install the version it needs"
            )
        _check_checksum(text, data.pop("checksum", None), schema, _differences(data, notes))
        try:
            missing = [name for name in _WRITTEN if name not in data] if schema == SCHEMA else []
            for name, fact in data.items():
                if isinstance(fact, dict) and len(fact) > MOST_ENTRIES:
                    raise BundleError(f"{name} of {len(fact):,} entries", f"at most {MOST_ENTRIES:,}", _AGAIN)
            site = {f.name: data.pop(f.name) for f in fields(Site) if f.name in data}
            manifest = from_mapping(cls, data | {"site": site})
            if missing:
                raise BundleError(f"no {missing[0]}", "every field", _AGAIN)
            check_manifest(manifest)
        except StunetError as error:
            raise BundleError(
                f"a {MANIFEST} with a missing or unknown field, or an impossible one ({error.came})",
                f"a whole one, with {error.expected}",
                _AGAIN,
            ) from error
        return manifest

    def _facts(self) -> dict[str, Any]:
        """Return the fields as the file has them, the checksum apart."""
        data = {f.name: getattr(self, f.name) for f in fields(self)} | {"contract": self.contract.to_json()}
        return data | asdict(data.pop("site"))


#: Every field of a file of today's schema.
_WRITTEN = tuple(f.name for kind in (Manifest, Site) for f in fields(kind) if f.name != "site")


def sealed(facts: Mapping[str, Any]) -> str:
    """Return the text of a manifest with its checksum; it proves that nothing was damaged, not who wrote it.

    Args:
        facts: the fields as JSON has them.
    """
    text = json.dumps({**facts, "checksum": ""}, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return text.replace(_CHECKSUM, _CHECKSUM + sha256(text.encode()), 1)


def _check_checksum(text: str, checksum: object, schema: int, told: list[str]) -> None:
    """Compare a manifest with its checksum; one of schema 1 may have been written before there was one."""
    if checksum is None and schema == 1:
        return
    if sha256(text.replace(f"{_CHECKSUM}{checksum}", _CHECKSUM, 1).encode()) != checksum:
        raise BundleError(
            f"a {MANIFEST} that was altered" + f" ({'; '.join(told)})" * bool(told),
            f"the checksum {checksum!s:.12}…",
            f"copy the bundle again, or {_AGAIN}",
        )


def _differences(facts: Mapping[str, Any], notes: Mapping[str, str]) -> list[str]:
    """Return a text for each fact of a manifest that a step's metadata has otherwise."""
    found = []
    for name in _WRITTEN:
        note = notes.get(KEYS + name)
        if note is not None and note != (fact := json.dumps(facts.get(name), sort_keys=True)):
            found.append(f"{name} is {shortened(fact, 60)}, in {STEP} {shortened(note, 60)}")
    return found
