"""The checkpoint ``model.pt``: a trained model with everything that export needs, as tensors and JSON only.

Layout of the file, all of it readable with ``torch.load(weights_only=True)``::

    meta      JSON: schema, model family, config, signal, site and training provenance
    weights   parameter name → tensor
    graph     the prepared graph hierarchy, array name → tensor (never computed again)
    stream    timestamps, values and observed of the reference stream
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.config import Signal, STUNetConfig, from_mapping
from stunet_deploy.errors import CheckpointError, StunetError
from stunet_deploy.files import replacing
from stunet_deploy.graph import GraphHierarchy
from stunet_deploy.models.stunet import STUNet

SCHEMA = 1
FORMAT = "stunet-deploy checkpoint"


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
    stamp: str
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

    model: STUNet
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
            "model": "stunet",
            "config": asdict(self.model.config),
            "signal": asdict(self.model.signal),
            "site": asdict(self.site),
            "training": dict(self.training),
        }
        graph = {name: torch.from_numpy(array) for name, array in self.model.hierarchy.to_arrays().items()}
        stream = {name: torch.from_numpy(array) for name, array in asdict(self.reference).items()}
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        content = {"meta": json.dumps(meta, sort_keys=True), "weights": weights, "graph": graph, "stream": stream}
        with replacing(path) as temporary:
            torch.save(content, temporary)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint; nothing in the file can run code.

        Raises:
            CheckpointError: if the file is missing, damaged, foreign or of another schema.
        """
        expected = "a checkpoint written by 'stunet train'"
        if not Path(path).is_file():
            raise CheckpointError(f"no file {path}", expected, "name an existing model.pt")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            meta = json.loads(content["meta"])
            schema = meta["schema"] if meta["format"] == FORMAT else None
        except Exception as error:  # torch raises many kinds for foreign and damaged files
            reason = str(error).splitlines()[0][:200]
            raise CheckpointError(f"{path} is not a readable checkpoint ({reason})", expected, "train again") from error
        if schema != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {schema}",
                f"schema {SCHEMA}",
                "train again with this version, or use the one it names",
            )
        try:
            graph = GraphHierarchy.from_arrays({name: tensor.numpy() for name, tensor in content["graph"].items()})
            model = STUNet(from_mapping(STUNetConfig, meta["config"]), graph, from_mapping(Signal, meta["signal"]))
            model.load_state_dict(content["weights"])
            site = from_mapping(Site, meta["site"])
            reference = ReferenceStream(**{name: tensor.numpy() for name, tensor in content["stream"].items()})
        except StunetError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise CheckpointError(f"{path} contradicts itself ({reason})", expected, "train again") from error
        return cls(model.eval(), site, reference, meta["training"])
