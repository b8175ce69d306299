"""What is known of every sensor before training: statistics of its readings, the same for any network of sensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: Quantiles of a sensor's readings that are static features, beside the logarithm of its spread.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Static features of a target.
STATIC_FEATURES = len(QUANTILES) + 1


class SensorStatistics(NamedTuple):
    """Statistics of every sensor over the training span, in normalised units.

    Attributes:
        mean: of the readings.
        static: of each target its quantiles (:data:`QUANTILES`) and the logarithm of the mean size of its departures.
        scale: the size of departures of a target in which the network measures those of this sensor, around 1.
    """

    mean: Float[Tensor, "node feature"]
    static: Float[Tensor, "node static"]
    scale: Float[Tensor, "node target"]

    @classmethod
    def neutral(cls, nodes: int, features: int, targets: int) -> SensorStatistics:
        """Return those of sensors of which nothing is known: they are all alike."""
        static = torch.zeros(nodes, STATIC_FEATURES * targets)
        return cls(torch.zeros(nodes, features), static, torch.ones(nodes, targets))
