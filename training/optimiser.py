"""The optimiser of a training: Adam with decoupled weight decay, clipped gradients, and an average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stunet_deploy.config import TrainingConfig
from stunet_deploy.models.forecaster import Forecaster


class Optimiser:
    """Everything that an update changes.

    Args:
        model: updated in place.
        config: weight decay, largest norm of a gradient, and decay of the average (0 for none).
    """

    def __init__(self, model: Forecaster, config: TrainingConfig) -> None:
        self.model = model
        self._clip_norm = config.clip_norm
        self._adam = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        ema = get_ema_multi_avg_fn(config.average)
        self._average = AveragedModel(model, multi_avg_fn=ema) if config.average else None

    @property
    def learning_rate(self) -> float:
        """The rate of the last update."""
        return float(self._adam.param_groups[0]["lr"])

    @property
    def evaluated(self) -> Forecaster:
        """The model with the weights that are validated and kept: their moving average where there is one."""
        return self.model if self._average is None else cast(Forecaster, self._average.module)

    def update(self, loss: Tensor, learning_rate: float) -> None:
        """Take one step down the gradient of a loss."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self._adam.step()
        if self._average is not None:
            self._average.update_parameters(self.model)

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the evaluated weights."""
        return {name: tensor.detach().clone() for name, tensor in self.evaluated.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Return everything that an update changes, for :meth:`restore`."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._adam.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self._adam.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
