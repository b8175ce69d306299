"""The one training loop of the networks that are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.peers.task import Floats, Forecast, Peer, Readings, Rows, Task, best

#: Share of the time in which learning rates are tried out.
SEARCH = 0.2
UPDATES_PER_EPOCH, CLIP_NORM = 100, 5.0


@dataclass(frozen=True)
class Loop:
    """How a network is trained: Adam on the mean absolute error over observed labels, until the time is up.

    The learning rate falls to zero by a cosine over the time. An epoch is at most a hundred updates; the weights of the
    one with the smallest validation error are kept.

    Attributes:
        build: returns the network for a task; it maps windows [batch, time, node, channel] of z-scores and their times
            to z-scores [batch, horizon, node, 1].
        channels: that it reads: the value (1), also the time of day (2), also the day of the week (3).
        batch: windows an update.
        rates: learning rates; of several the best one after a short training on each is taken.
        patience: epochs without a better validation error after which training ends.
        weight_decay: of Adam.
    """

    build: Callable[[Task], nn.Module]
    channels: Literal[1, 2, 3] = 1
    batch: int = 32
    rates: tuple[float, ...] = (3e-3, 1e-3)
    patience: int = 30
    weight_decay: float = 0.0

    def __call__(self, name: str, task: Task) -> Peer:
        """Return the trained network as a predictor."""
        seconds, rate = 60 * task.minutes, self.rates[0]
        if len(self.rates) > 1:
            part = SEARCH * seconds / len(self.rates)
            rate, _ = best(task, self.rates, lambda one: self.train(task, one, part))
            seconds -= SEARCH * seconds
        return Peer(name, task, self.train(task, rate, seconds), {"learning_rate": rate})

    def train(self, task: Task, rate: float, seconds: float) -> Forecast:
        """Return the forecast of a network trained at a learning rate for so many seconds."""
        torch.manual_seed(task.seed)
        network = self.build(task)
        generator = torch.Generator().manual_seed(task.seed)
        adam = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=self.weight_decay)
        forecast = self._forecast(network, task)
        train, begin = task.split.train, task.clock()
        per_epoch = min(UPDATES_PER_EPOCH, -(-len(train) // self.batch))
        error, kept, behind, updates = math.inf, _weights(network), 0, 0
        while behind < self.patience and updates < task.epochs * per_epoch and task.clock() - begin < seconds:
            network.train()
            order = torch.randperm(len(train), generator=generator).numpy()
            for first in range(0, per_epoch * self.batch, self.batch):
                spent = max((task.clock() - begin) / seconds, updates / (task.epochs * per_epoch))
                if spent >= 1:
                    break
                for group in adam.param_groups:
                    group["lr"] = rate * (1 + math.cos(math.pi * spent)) / 2
                self.update(network, task, train[order[first : first + self.batch]], adam)
                updates += 1
            now = task.error(forecast)
            behind = 0 if now < error else behind + 1
            if now < error:
                error, kept = now, _weights(network)
        network.load_state_dict(kept)
        return forecast

    def update(self, network: nn.Module, task: Task, issue: Rows, adam: torch.optim.Optimizer) -> None:
        """Take a step of the optimiser on the windows of issue rows; none where no label was observed."""
        labels, observed = task.labels(issue)
        if not observed.any():
            return
        seen = torch.from_numpy(observed)[..., None]
        missed = network(self._inputs(task.readings, issue, task)) - torch.from_numpy(labels)[..., None]
        adam.zero_grad(set_to_none=True)
        missed.abs()[seen].mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        adam.step()

    def _inputs(self, readings: Readings, issue: Rows, task: Task) -> Tensor:
        return torch.from_numpy(readings.channels(issue, task.split.window)[..., : self.channels])

    def _forecast(self, network: nn.Module, task: Task) -> Forecast:
        def forecast(readings: Readings, issue: Rows) -> Floats:
            network.eval()
            with torch.inference_mode():
                found: Floats = network(self._inputs(readings, issue, task))[..., 0].numpy()
            return found

        return forecast


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
