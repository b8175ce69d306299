"""Transfer of a Structural-RNN that was trained on one st-graph to another with the same types."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNConfig, SRNNRunConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.st_graph.st_graph import STGraph


def continued(config: RunConfig | SRNNRunConfig, start: Checkpoint, series: Series) -> SRNNRunConfig:
    """Return the config of a model that continues another one: its architecture and targets, this one's training.

    Args:
        config: of the new run; its architecture is that of ``start`` or left at its defaults.
        start: the trained model.
        series: the new network's recording.

    Raises:
        ConfigError: if ``start`` is of another family, or was trained for another architecture, other targets,
            features or intervals.
    """
    model = structural(start)
    if not isinstance(config, SRNNRunConfig):
        raise ConfigError("the config of an ST-UNet for a Structural-RNN", "model srnn", "give --model srnn")
    if config.model not in (SRNNConfig(), model.config):
        changed = [name for name, value in vars(config.model).items() if value != getattr(model.config, name)]
        raise ConfigError(
            f"[model] with another {', '.join(changed)} than the model to start from",
            "its architecture",
            "take [model] out of the config file, or train from the beginning",
        )
    signal, site = model.signal, start.site
    for what, came, expected in (
        ("features", series.features, signal.features),
        ("targets", config.targets or signal.targets, signal.targets),
        ("intervals of seconds", series.interval_s, site.interval_s),
    ):
        if came != expected:
            raise ConfigError(
                f"{what}: {_listed(came)}",
                f"those that the model to start from was trained on: {_listed(expected)}",
                "give data of that kind, or train from the beginning",
            )
    return replace(config, model=model.config, targets=signal.targets)


def structural(start: Checkpoint) -> StructuralRNN:
    """Return the model of a checkpoint whose weights belong to types and not to nodes.

    Raises:
        ConfigError: if it is of another family.
    """
    if not isinstance(start.model, StructuralRNN):
        raise ConfigError(
            f"a model of the family {start.model.family!r} to start from",
            "a Structural-RNN, whose weights belong to types of nodes and edges",
            "train on the new network from the beginning",
        )
    return start.model


def is_directed(graph: STGraph) -> bool:
    """Return whether an st-graph of sensors distinguishes upstream from downstream."""
    return any(kind.directed for kind in graph.edge_types)


def take_weights(model: StructuralRNN, start: StructuralRNN) -> None:
    """Give a model the weights of one with the same types; normalisation and daily profile stay its own.

    Raises:
        ConfigError: if their st-graphs have other types.
    """
    for what, came, expected in (
        ("node types", _node_types(model.graph), _node_types(start.graph)),
        ("edge types", _edge_types(model.graph), _edge_types(start.graph)),
    ):
        if came != expected:
            raise ConfigError(
                f"an st-graph with the {what} {_listed(came)}",
                f"those of the model to start from: {_listed(expected)}",
                "give the types of the sensors with --types, or train from the beginning",
            )
    trained = dict(start.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(trained[name])


def provenance(start: Checkpoint) -> dict[str, Any]:
    """Return the provenance of the model that a checkpoint continues; the hash is of the weights."""
    kept = {key: start.training[key] for key in ("data", "graph", "epochs", "validation_mae") if key in start.training}
    return {**kept, "sensors": len(start.site.sensor_ids), "weights": weights_hash(structural(start))}


def weights_hash(model: StructuralRNN) -> str:
    """Return the sha256 of a model's trained weights."""
    hashed = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        hashed.update(name.encode() + parameter.detach().cpu().numpy().tobytes())
    return hashed.hexdigest()


def _node_types(graph: STGraph) -> list[str]:
    return [f"{name} ({graph.width(name)} channels)" for name in graph.node_types]


def _edge_types(graph: STGraph) -> list[str]:
    return [f"{kind.name} ({('undirected', 'directed')[kind.directed]})" for kind in graph.edge_types]


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list | tuple) else str(names)
