"""The state file of a training, from which it goes on after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stunet_deploy.checkpoint import SCHEMA
from stunet_deploy.config import TrainingConfig
from stunet_deploy.errors import CheckpointError
from stunet_deploy.files import replacing
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.series.series import Series
from training.protocols import Split


@dataclass(frozen=True)
class StateFile:
    """A file of tensors and JSON text, read without running code.

    Attributes:
        path: of the file.
        identity: of the run it belongs to; see :func:`run_identity`.
    """

    path: Path
    identity: str

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the file as a whole."""
        # torch opens files by itself only with errors of its own, not OSError.
        with replacing(self.path) as temporary, temporary.open("wb") as handle:
            torch.save({"identity": self.identity, **state}, handle)

    def read(self, device: torch.device) -> dict[str, Any]:
        """Return the state that was written, its tensors on ``device``.

        Raises:
            CheckpointError: the file is missing, damaged or of another run.
        """
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
            identity = state["identity"]
        except Exception as error:  # torch raises many kinds for missing, foreign and damaged files
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise CheckpointError(
                f"{self.path} cannot be read ({reason})",
                "the training state written after each epoch",
                "train again without --resume",
            ) from error
        if identity != self.identity:
            raise CheckpointError(
                f"{self.path} belongs to another run",
                "the same data, config, seed and version",
                "give those of the interrupted run, or train again without --resume",
            )
        return state


def run_identity(
    model: Forecaster, series: Series, split: Split, config: TrainingConfig, seed: int, origin: str = ""
) -> str:
    """Return the properties on which the result of a run depends, as JSON; they must not change for a resume.

    Args:
        model, series, split, config, seed: of the run.
        origin: names the first weights where they are not the seed's.
    """
    hashed = hashlib.sha256()
    for array in (series.timestamps, series.values, series.observed, split.train, split.validation):
        hashed.update(array.tobytes())
    graph = model.stored_graph()
    for part in [graph.encode()] if isinstance(graph, str) else [array.numpy().tobytes() for array in graph.values()]:
        hashed.update(part)
    parts = {
        "schema": SCHEMA,
        "model": model.family,
        "config": asdict(model.config),
        "signal": asdict(model.signal),
        "training": asdict(config),
        "seed": seed,
        "sensors": series.sensor_ids,
        "data": hashed.hexdigest(),
    }
    return json.dumps(parts | ({"origin": origin} if origin else {}), sort_keys=True)
