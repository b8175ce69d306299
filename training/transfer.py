"""What a model that was trained on other sensor networks gives to a new one: all weights but those of a recording."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNRunConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from stunet_deploy.st_graph.st_graph import STGraph
from stunet_deploy.wording import exactly

AnyConfig = RunConfig | SRNNRunConfig
#: Parameters that are fitted to a recording before training: every network keeps its own.
OF_A_RECORDING = ("profile.damping",)


def continued(config: AnyConfig, start: Checkpoint, series: Series) -> AnyConfig:
    """Return the config of a model that continues another one: its architecture, the training of the new one.

    A Structural-RNN forecasts the quantities that it was trained on, at its interval. To an ST-UNet readings are
    numbers in units of their spread, and there need only be as many: see :func:`remarks`.

    Args:
        config: of the new run; its architecture is that of ``start`` or left at its defaults.
        start: the trained model.
        series: the new network's recording.

    Raises:
        ConfigError: if ``start`` is of another family, or was trained for another architecture, or for features,
            targets or intervals that do not suit.
    """
    model = start.model
    if type(config.model) is not type(model.config):
        raise ConfigError(
            f"the config of another family than that of the model to start from, {model.family!r}",
            f"model {model.family}",
            f"give --model {model.family}, or leave it out",
        )
    if config.model not in (type(config.model)(), model.config):
        changed = [name for name, value in vars(config.model).items() if value != getattr(model.config, name)]
        raise ConfigError(
            f"[model] with another {', '.join(changed)} than the model to start from",
            "its architecture",
            "take them out of the config file, or train from the beginning",
        )
    targets = config.targets
    if isinstance(model, StructuralRNN):
        targets = targets or model.signal.targets
        _check("features", series.features, model.signal.features)
        _check("targets", targets, model.signal.targets)
        _check("intervals of seconds", series.interval_s, start.site.interval_s)
    else:
        targets = corresponding(model, series, targets)
    architecture: Any = model.config  # of the config's family, as checked
    return replace(config, model=architecture, targets=targets)


def corresponding(model: Forecaster, series: Series, targets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the targets of a recording that correspond to those of a model, at the same places of its features.

    Args:
        model: of another network.
        series: the new network's recording.
        targets: names that are asked for; empty for those that correspond.

    Raises:
        ConfigError: another number of features, or targets that do not correspond.
    """
    signal = model.signal
    if len(series.features) != len(signal.features):
        raise ConfigError(
            f"{len(series.features)} features ({', '.join(series.features)})",
            f"{len(signal.features)}, as the other network has ({', '.join(signal.features)})",
            "give a recording of as many, or train from the beginning",
        )
    found = tuple(series.features[index] for index in signal.target_index)
    if targets not in ((), found):
        raise ConfigError(
            f"targets {', '.join(targets)}",
            f"{', '.join(found)}, at the places of the other network's {', '.join(signal.targets)}",
            "leave out --targets, or train from the beginning",
        )
    return found


def remarks(site: Site, other: Site) -> list[str]:
    """Return what differs between a network that weights were trained on and a new one, and need not be wrong."""
    found = []
    if other.features != site.features:
        found.append(f"the weights are of {', '.join(site.features)}, the recording of {', '.join(other.features)}")
    if other.interval_s != site.interval_s:
        found.append(
            f"the weights are of intervals of {site.interval_s} s, the recording has {other.interval_s} s: "
            "horizons are counted in intervals"
        )
    if site.no_data and not other.no_data and other.features == site.features:
        named = zip(site.features, site.no_data, strict=True)
        codes = " ".join(f"--no-data {name}={exactly(code)}" for name, codes in named for code in codes)
        found.append(f"the weights are of a recording with codes for no data: say {codes} if this one has them too")
    return found


def is_directed(graph: STGraph) -> bool:
    """Return whether an st-graph of sensors distinguishes upstream from downstream."""
    return any(kind.directed for kind in graph.edge_types)


def take_weights(model: Forecaster, start: Forecaster) -> None:
    """Give a model the weights of one of another network; what is fitted to a recording stays its own.

    Raises:
        ConfigError: if their st-graphs have other types, or their super nodes other numbers of members where each has
            weights of its own.
    """
    with torch.no_grad():
        for parameter, trained in _common(model, start):
            parameter.copy_(trained)


def share_weights(model: Forecaster, first: Forecaster) -> None:
    """Make the weights of a model the very ones of another network's; see :func:`take_weights`."""
    for name, (_, shared) in zip(_names(model), _common(model, first), strict=True):
        module, _, last = name.rpartition(".")
        setattr(model.get_submodule(module), last, shared)


def provenance(start: Checkpoint) -> dict[str, Any]:
    """Return the provenance of the model that a checkpoint continues; the hash is of the weights."""
    kept = ("data", "graph", "beside", "epochs", "validation_mae")
    found = {key: start.training[key] for key in kept if key in start.training}
    return {**found, "sensors": len(start.site.sensor_ids), "weights": weights_hash(start.model)}


def weights_hash(model: Forecaster) -> str:
    """Return the sha256 of a model's trained weights."""
    hashed = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        hashed.update(name.encode() + parameter.detach().cpu().numpy().tobytes())
    return hashed.hexdigest()


def _names(model: Forecaster) -> list[str]:
    return [name for name, _ in model.named_parameters() if name not in OF_A_RECORDING]


def _common(model: Forecaster, other: Forecaster) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Return the parameters that two models of one architecture have in common, of the first and of the other."""
    if isinstance(model, StructuralRNN) and isinstance(other, StructuralRNN):
        for what, came, expected in (
            ("node types", _node_types(model.graph), _node_types(other.graph)),
            ("edge types", _edge_types(model.graph), _edge_types(other.graph)),
        ):
            _check(what, came, expected, "give the types of the sensors with --types, or train from the beginning")
    own, others = dict(model.named_parameters()), dict(other.named_parameters())
    for name in _names(model):
        if own[name].shape != others[name].shape:
            raise ConfigError(
                f"{name} of the shape {tuple(own[name].shape)}, because super nodes of this graph have other members",
                f"{tuple(others[name].shape)}, as on the other network",
                'train from the beginning, or the other model with unpooling = "copy"',
            )
    return [(own[name], others[name]) for name in _names(model)]


def _check(
    what: str, came: object, expected: object, action: str = "give data of that kind, or train from the beginning"
) -> None:
    if came != expected:
        trained = f"those that the model to start from was trained on: {_listed(expected)}"
        raise ConfigError(f"{what}: {_listed(came)}", trained, action)


def _node_types(graph: STGraph) -> list[str]:
    return [f"{name} ({graph.width(name)} channels)" for name in graph.node_types]


def _edge_types(graph: STGraph) -> list[str]:
    return [f"{kind.name} ({('undirected', 'directed')[kind.directed]})" for kind in graph.edge_types]


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list | tuple) else str(names)
