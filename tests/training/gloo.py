"""What the tests of training in several processes run in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from training.history import Epoch
from training.loop import Trainer
from training.preparation import prepare_signal
from training.processes import Processes
from training.protocols import protocol_a
from training.run import TrainingRun

#: Settings of a network that is fed labels in training.
RECURRENT = {"decoder": "recurrent"}


@dataclass
class Trained:
    """What came of an epoch.

    Attributes:
        weights: after it.
        losses: of every update.
        batches: sizes of the batches that the network was given, for every update.
        errors: of the validation.
        reported: epochs.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    reported: int = 0


def weighed(series: Series) -> Series:
    """Return the recording with two long outages."""
    observed = series.observed.copy()
    observed[50:72] = False
    observed[100:160, 1:] = False
    return replace(series, observed=observed)


def trained(series: Series, graph: SensorGraph, *, decoder: Any = "direct", **settings: Any) -> Trained:
    """Train a tiny network for an epoch, in the processes that there are."""
    network = STUNetConfig(scales=((1, 2),), hidden=4, horizon=3, window=6, time_features="day", decoder=decoder)
    training = {"chunk": 2, "warm_up": 5, "threads": 1, "epochs": 1, "average": 0.0} | settings
    config = RunConfig(network, TrainingConfig(**training))
    split = protocol_a(series, network.window, network.horizon)
    hierarchy = GraphHierarchy.build(graph.adjacency, pool_levels=[levels for levels, _ in network.scales])
    torch.manual_seed(1 + Processes.present().rank)  # the first one's network is everybody's
    model = STUNet(network, hierarchy, prepare_signal(series, split, ()))
    found = Trained()

    class Recorded(Trainer):
        def update(self, draw: Any, objective: Any = None) -> float:
            found.batches.append([])
            found.losses.append(super().update(draw, objective))
            return found.losses[-1]

    def seen(module: STUNet, arguments: Any) -> None:
        if module.training:
            found.batches[-1].append(len(arguments[0].values))

    def report(epoch: Any) -> None:
        found.reported += 1

    model.register_forward_pre_hook(seen)
    history = Recorded(model, series, split, config.training, 1, report=report).run()
    found.errors = [epoch.validation_mae for epoch in history]
    found.weights = model.state_dict()
    return found


def trained_in_a_process(series: Series, graph: SensorGraph, folder: Path, settings: Mapping[str, Any]) -> None:
    """Train, and leave what came of it in the folder."""
    found = trained(series, graph, **settings)
    torch.save(found, folder / f"{distributed.get_rank()}.pt")


def trained_together(networks: list[tuple[Series, SensorGraph]], config: RunConfig, folder: Path) -> None:
    """Train on several networks, and leave weights, the number of epochs reported and the error in the folder."""
    epochs: list[Epoch] = []
    first, *others = networks
    checkpoint = TrainingRun(*first, config, others=others, seed=3, report=epochs.append).run()
    error = checkpoint.training["validation_mae"]
    torch.save((checkpoint.model.state_dict(), len(epochs), error), folder / f"{distributed.get_rank()}.pt")


def fail(how: str) -> None:
    """Let the second process fail while the first waits for it."""
    if distributed.get_rank() == 1:
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ConfigError("no such thing", "another", "choose another")
    Processes.present().of_first(lambda: None)
    Processes.present().sum([torch.ones(1)])
