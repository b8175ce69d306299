"""The mean working and weekend day of every sensor, as a table in the step graph."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stunet_deploy.config import SRNNConfig, STUNetConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.signal import within_week
from stunet_deploy.series.wall_clock import DAY_S, KINDS_OF_DAY, WEEK_S, WORKING_DAYS


class DailyProfile(nn.Module):
    """Look up each target's mean at the present interval and at those forecast.

    Args:
        table: normalised means, [time of day, node, target]: of a working day, then of a weekend day.
        horizon: number of intervals forecast.
        residual: whether forecasts have a start, see :meth:`start`.
        damped: whether they start at the damped departure; otherwise at the present reading.
    """

    table: Tensor

    def __init__(
        self, table: Float[Tensor, "time_of_day node target"], horizon: int, residual: bool = True, damped: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("table", table)
        # The share of the way from the present reading to the profile ahead, and of the present departure that is kept.
        ways = torch.ones if damped else torch.zeros
        self.blend = nn.Parameter(ways(horizon, 1, 1)) if residual else None
        self.damping = nn.Parameter(torch.zeros(horizon, 1, table.shape[-1])) if residual and damped else None
        self.per_day = len(table) // KINDS_OF_DAY
        self.horizon = horizon

    @classmethod
    def of(cls, config: STUNetConfig | SRNNConfig, table: Tensor | None) -> DailyProfile | None:
        """Return the profile of a model, or None for a config without one.

        Raises:
            ConfigError: if there is a table and no profile in the config, or the other way round.
        """
        if config.profile != (table is not None):
            found = "no table" if table is None else "a table"
            raise ConfigError(
                f"model.profile = {config.profile} with {found}", "both or neither", "train the model again"
            )
        return None if table is None else cls(table, config.horizon, config.residual, config.damped)

    @property
    def channels(self) -> int:
        """Number of channels that the first layer receives."""
        return (self.horizon + 1) * self.table.shape[-1]

    def index(self, time_of_week: Float[Tensor, "*batch 1"]) -> Int64[Tensor, "*batch ahead"]:
        """Return the table's rows of the present interval and of the ``horizon`` after it; valid for any time."""
        slot_s = DAY_S / self.per_day
        week = within_week(time_of_week) + slot_s * torch.arange(self.horizon + 1, device=time_of_week.device)
        week = week - WEEK_S * torch.floor(week / WEEK_S)
        day = week - DAY_S * torch.floor(week / DAY_S)
        # Round-off just before midnight may give a whole day.
        interval = torch.clamp(torch.floor(day / slot_s), max=self.per_day - 1)
        weekend = (week >= WORKING_DAYS * DAY_S).to(interval.dtype)
        return (interval + self.per_day * weekend).long()

    def forward(self, time_of_week: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch ahead node target"]:
        """Return the normalised profile of the present interval and of the ``horizon`` after it."""
        rows = nn.functional.embedding(self.index(time_of_week), self.table.flatten(1))
        return torch.unflatten(rows, -1, self.table.shape[1:])

    def start(
        self, base: Float[Tensor, "*batch 1 node target"], deviations: Float[Tensor, "*batch ahead node target"]
    ) -> Float[Tensor, "*batch horizon node target"]:
        """Return the start of forecasts.

        With a blend of one this is the damped departure: the profile ahead, plus a share of how far the present
        reading departs from the profile now. Without damping it lies between the reading and the profile ahead.

        Args:
            base: the present reading.
            deviations: the profile minus the present reading, now and at every horizon.
        """
        if self.blend is None:
            return base
        start = base + self.blend * deviations[..., 1:, :, :]
        return start if self.damping is None else start - self.damping * deviations[..., :1, :, :]
