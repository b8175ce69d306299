"""The checkpoint ``model.pt``: a trained model with everything that export needs, as tensors and JSON only.

Layout of the file, all of it readable with ``torch.load(weights_only=True)``::

    meta      JSON: schema, model family, config, signal, site and training provenance
    weights   parameter name → tensor
    graph     the prepared graph (never computed again): hierarchy, array name → tensor; or st-graph, JSON
    stream    timestamps, values and observed of the reference stream
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.config import Signal
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.files import replacing
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series

SCHEMA = 3
FORMAT = "stunet-deploy checkpoint"
#: The model families that a checkpoint may hold, by name.
FAMILIES: Mapping[str, type[Forecaster]] = {kind.family: kind for kind in (STUNet, StructuralRNN)}


@dataclass(frozen=True)
class Site:
    """Where and when a model works: its sensors and their clock.

    Attributes:
        sensor_ids: in the order of the node axis.
        units: unit of each input feature.
        interval_s: length of an interval in seconds.
        stamp: whether a time stamp is an interval's ``start`` or ``end``.
        timezone: IANA zone of the local time that the time features use.
        latitude, longitude: sensor coordinates in degrees, or None.
    """

    sensor_ids: tuple[str, ...]
    units: tuple[str, ...]
    interval_s: int
    stamp: Literal["start", "end"]
    timezone: str
    latitude: tuple[float, ...] | None = None
    longitude: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ReferenceStream:
    """Recorded intervals before the test span, from which export makes the golden stream and scores precisions.

    Attributes:
        timestamps: [time] seconds since the epoch, UTC.
        values: [time, node, feature] float32 in physical units.
        observed: [time, node, feature] bool.
    """

    timestamps: NDArray[np.int64]
    values: NDArray[np.float32]
    observed: NDArray[np.bool_]


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, the site it was trained for and how it was trained."""

    model: Forecaster
    site: Site
    reference: ReferenceStream
    training: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the checkpoint whole or not at all.

        Raises:
            StunetError: if the file cannot be written.
        """
        meta = {
            "format": FORMAT,
            "schema": SCHEMA,
            "model": self.model.family,
            "config": asdict(self.model.config),
            "signal": asdict(self.model.signal),
            "site": asdict(self.site),
            "training": dict(self.training),
        }
        graph = self.model.stored_graph()
        stream = {name: torch.from_numpy(array) for name, array in asdict(self.reference).items()}
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        content = {"meta": json.dumps(meta, sort_keys=True), "weights": weights, "graph": graph, "stream": stream}
        # torch opens files by itself only with errors of its own, not OSError.
        with replacing(path) as temporary, temporary.open("wb") as handle:
            torch.save(content, handle)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint; nothing in the file can run code.

        Raises:
            CheckpointError: if the file is missing, damaged, foreign, of another schema or contradicts itself.
        """
        expected = "a checkpoint written by 'stunet train'"
        if not Path(path).is_file():
            raise CheckpointError(f"no file {path}", expected, "name an existing model.pt")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            meta = json.loads(content["meta"])
            schema = meta["schema"] if meta["format"] == FORMAT else None
        except Exception as error:  # torch raises many kinds for foreign and damaged files
            # torch advises to load what it refused without its guard: never pass that on.
            why = "not tensors and text alone" if "weights_only" in str(error) else _reason(error)
            came = f"{path} is not a readable checkpoint ({why})"
            raise CheckpointError(came, expected, "name a model.pt of 'stunet train', or train again") from error
        if schema != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {schema}",
                f"schema {SCHEMA}",
                "train again with this version, or use the version that wrote it",
            )
        try:
            family, signal = FAMILIES[meta["model"]], from_mapping(Signal, meta["signal"])
            model = family.restored(meta["config"], signal, content["graph"], content["weights"])
            model.load_state_dict(content["weights"])
            site = from_mapping(Site, meta["site"])
            reference = ReferenceStream(**{name: tensor.numpy() for name, tensor in content["stream"].items()})
            checkpoint = cls(model.eval(), site, reference, meta["training"])
            checkpoint._check_agreement()
        except Exception as error:  # whatever the content lacks or holds too much of
            came = f"{path} contradicts itself ({_reason(error)})"
            raise CheckpointError(came, expected, "train again") from error
        return checkpoint

    def with_fill(self, fill: str) -> Checkpoint:
        """Return a checkpoint with the same weights, none of which is of the fill, and this fill.

        Raises:
            ConfigError: if the model has no such fill, or only one of the two is ``zeros``: it is told of none.
        """
        model = self.model
        if fill == model.config.fill:
            return self
        if "zeros" in (fill, model.config.fill):
            raise ConfigError(
                f"fill {fill!r} for a model with fill {model.config.fill!r}",
                "zeros in both or in none",
                f"train it with fill = {fill!r}",
            )
        weights = model.state_dict()
        other = model.restored(asdict(model.config) | {"fill": fill}, model.signal, model.stored_graph(), weights)
        other.load_state_dict(weights)
        return replace(self, model=other.eval())

    def _check_agreement(self) -> None:
        """Raise if site, signal, graph and reference stream are not of one network."""
        site, signal, stream = self.site, self.model.signal, self.reference
        Series(
            values=stream.values,
            observed=stream.observed,
            timestamps=stream.timestamps,
            sensor_ids=site.sensor_ids,
            features=signal.features,
            units=site.units,
            interval_s=site.interval_s,
            timezone=site.timezone,
            stamp=site.stamp,
            latitude=None if site.latitude is None else np.array(site.latitude),
            longitude=None if site.longitude is None else np.array(site.longitude),
        )
        if len(site.sensor_ids) != self.model.sensors:
            raise CheckpointError(
                f"{len(site.sensor_ids)} sensors", f"{self.model.sensors} as in the graph", "train again"
            )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
