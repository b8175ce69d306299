"""The checkpoint ``model.pt``: a trained model with everything that export needs, as tensors and JSON only.

Layout of the file, all of it readable with ``torch.load(weights_only=True)``::

    meta      JSON: schema, model family, config, signal, site and training provenance
    weights   parameter name → tensor
    graph     the prepared graph (never computed again): hierarchy, array name → tensor; or st-graph, JSON
    stream    timestamps, values and observed of the reference stream
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from stunet_deploy.config import Signal
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.files import replacing
from stunet_deploy.limits import check_unpacked
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.earlier import reordered
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

SCHEMA = 8
#: The first schema whose memory of a week has the slots of now.
_MEMORY_SCHEMA = 6
#: The first schema whose perceptrons have their channels in the order of now.
_ORDER_SCHEMA = 8
_PLAIN = {"changes": False, "harmonics": 1}
_TOLD = {"profile_ahead": True, **_PLAIN}
_ALONE = {"common": False, "compress": False, **_TOLD}
_SAME = {"static_features": False, "sensor_scale": False, **_ALONE}
#: What checkpoints of earlier schemas could not choose, as they have it, by schema and model family.
_EARLIER: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    3: {"stunet": {"damped": False, "lags": 0, **_SAME}, "srnn": {"damped": False}},
    4: {"stunet": _SAME, "srnn": {}},
    5: {"stunet": _ALONE, "srnn": {}},
    6: {"stunet": _TOLD, "srnn": {}},
    7: {"stunet": _PLAIN, "srnn": {}},
}
FORMAT = "stunet-deploy checkpoint"
#: Arrays of the reference stream, as the file names them.
_STREAM = ("timestamps", "values", "observed")
#: The model families that a checkpoint may hold, by name.
FAMILIES: Mapping[str, type[Forecaster]] = {kind.family: kind for kind in (STUNet, StructuralRNN)}


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, a recording of the site it was trained for, and how it was trained.

    Attributes:
        model: in evaluation mode.
        reference: recorded intervals before the test span, from which export makes the golden stream and scores
            precisions; its site is the model's.
        training: provenance as JSON.
    """

    model: Forecaster
    reference: Series
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        """The sensors, features and clock that the model was trained for."""
        return self.reference.site

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
            "site": {name: fact for name, fact in asdict(self.site).items() if name != "features"},  # in the signal
            "training": dict(self.training),
        }
        graph = self.model.stored_graph()
        stream = {name: torch.from_numpy(getattr(self.reference, name)) for name in _STREAM}
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
        size = Path(path).stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                check_unpacked(Path(path).name, size, sum(member.file_size for member in archive.infolist()))
            content = torch.load(path, map_location="cpu", weights_only=True)
            meta = json.loads(content["meta"])
            schema = meta["schema"] if meta["format"] == FORMAT else None
        except Exception as error:  # torch raises many kinds for foreign and damaged files
            # torch advises to load what it refused without its guard: never pass that on.
            why = "not tensors and text alone" if "weights_only" in str(error) else _reason(error)
            came = f"{path} is not a readable checkpoint ({why})"
            raise CheckpointError(came, expected, "name a model.pt of 'stunet train', or train again") from error
        if schema not in (*_EARLIER, SCHEMA):
            raise CheckpointError(
                f"{path} has schema {schema}",
                f"schema {min(_EARLIER)} to {SCHEMA}",
                "train again with this version, or use the version that wrote it",
            )
        if schema < _MEMORY_SCHEMA and meta.get("config", {}).get("memory"):
            raise CheckpointError(
                f"{path} has schema {schema}, whose memory of a week had other slots",
                f"schema {_MEMORY_SCHEMA} or later for a model with a memory",
                "train again with this version, or use the version that wrote it",
            )
        try:
            tensors = [tensor for part in ("weights", "graph", "stream") for tensor in _tensors(content[part])]
            check_unpacked(Path(path).name, size, sum(tensor.numel() * tensor.element_size() for tensor in tensors))
            family, signal = FAMILIES[meta["model"]], from_mapping(Signal, meta["signal"])
            config = {**_EARLIER.get(schema, {}).get(family.family, {}), **meta["config"]}
            weights = content["weights"]
            with torch.device("meta"):  # where tensors have shapes and take no memory
                described = family.restored(config, signal, content["graph"], weights).state_dict()
            for name, tensor in described.items():
                if weights[name].shape != tensor.shape:
                    shape = list(weights[name].shape)
                    raise CheckpointError(f"{name} of shape {shape}", f"{list(tensor.shape)}", "train again")
            model = family.restored(config, signal, content["graph"], weights)
            if schema < _ORDER_SCHEMA and isinstance(model, STUNet):
                weights = reordered(weights, model)
            model.load_state_dict(weights)
            site = from_mapping(Site, meta["site"] | {"features": signal.features})
            sensors = len(site.sensor_ids)
            if sensors != model.sensors:
                raise CheckpointError(f"{sensors} sensors", f"{model.sensors} as in the graph", "train again")
            reference = Series(**{name: tensor.numpy() for name, tensor in content["stream"].items()}, site=site)
            return cls(model.eval(), reference, meta["training"])
        except Exception as error:  # whatever the content lacks or holds too much of
            came = f"{path} contradicts itself ({_reason(error)})"
            raise CheckpointError(came, expected, "train again") from error

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


def _tensors(part: Mapping[str, torch.Tensor] | str) -> Iterable[torch.Tensor]:
    """Return the tensors of a part of a checkpoint; an st-graph is text."""
    return () if isinstance(part, str) else part.values()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
