"""The input and output of a step graph: from physical units to channels, and from forecasts to physical units."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.config import Signal, TimeFeatures
from stunet_deploy.series.wall_clock import DAY_S, WEEK_S

#: Per channel its period in seconds and its phase in turns: a cosine is a sine a quarter of a turn ahead.
TIME_CHANNELS: dict[TimeFeatures, tuple[tuple[int, float], ...]] = {
    "week": ((DAY_S, 0.0), (DAY_S, 0.25), (WEEK_S, 0.0), (WEEK_S, 0.25)),
    "day": ((DAY_S, 0.0), (DAY_S, 0.25)),
    "fraction": ((DAY_S, 0.0),),
    "none": (),
}


def within_week(seconds: Float[Tensor, "*batch ahead"]) -> Float[Tensor, "*batch ahead"]:
    """Return times in seconds of the week, in [0, a week): garbage in one row, even NaN, must not stop the others."""
    week = seconds - WEEK_S * torch.floor(seconds / WEEK_S)
    return torch.where(week >= 0, torch.clamp(week, max=WEEK_S - 1), 0.0)


class TimeChannels(nn.Module):
    """The time of week as waves.

    Args:
        time_features: a key of ``TIME_CHANNELS``.
        harmonics: waves of the day at so many frequencies, its own the first, where it is fed as a wave at all.
    """

    period: Tensor
    phase: Tensor

    def __init__(self, time_features: TimeFeatures, harmonics: int = 1) -> None:
        super().__init__()
        channels: tuple[tuple[float, float], ...] = TIME_CHANNELS[time_features]
        if (DAY_S, 0.25) in channels:
            channels += tuple((DAY_S / n, phase) for n in range(2, harmonics + 1) for phase in (0.0, 0.25))
        waves = torch.tensor(channels, dtype=torch.float32).reshape(-1, 2)
        self.register_buffer("period", waves[:, 0], persistent=False)
        self.register_buffer("phase", waves[:, 1], persistent=False)
        self.linear = time_features == "fraction"

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.period)

    def forward(self, seconds: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch channel"]:
        """Return the channels of the time of week; there are none with ``none``."""
        turns = seconds / self.period + self.phase
        turns = turns - torch.floor(turns)  # before the sine: float32 is exact enough there for any time given
        return turns if self.linear else torch.sin(2 * math.pi * turns)


class SignalInput(nn.Module):
    """Clip and normalise the readings of an interval, and add mask and time channels to the filled ones.

    Args:
        signal: features, limits and normalisation.
        time_features: a key of ``TIME_CHANNELS``.
        mask_channel: append the mask to the channels.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, signal: Signal, time_features: TimeFeatures, mask_channel: bool) -> None:
        super().__init__()
        self.signal = signal
        for name in ("low", "high", "mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(signal, name), dtype=torch.float32), persistent=False)
        self.time = TimeChannels(time_features)
        self.mask_channel = mask_channel

    @property
    def channels(self) -> int:
        """Number of channels that the first layer receives."""
        return len(self.mean) * (2 if self.mask_channel else 1) + self.time.width

    def normalise(self, values: Float[Tensor, "*batch node feature"]) -> Float[Tensor, "*batch node feature"]:
        """Clip to the physical limits and normalise."""
        return (torch.maximum(torch.minimum(values, self.high), self.low) - self.mean) / self.std

    def channelise(
        self,
        filled: Float[Tensor, "*batch node feature"],
        observed: Float[Tensor, "*batch node feature"],
        time_of_week: Float[Tensor, "*batch 1"],
    ) -> Float[Tensor, "*batch node channel"]:
        """Return the first layer's input: filled readings, mask, time of day and week (the same at every node)."""
        parts = self._marked(filled, observed)
        if self.time.width:
            time = self.time(time_of_week)[..., None, :]
            parts.append(time.expand(*filled.shape[:-1], time.shape[-1]))
        return torch.cat(parts, dim=-1)

    def mark(
        self, filled: Float[Tensor, "*batch node feature"], observed: Float[Tensor, "*batch node feature"]
    ) -> Float[Tensor, "*batch node channel"]:
        """Return filled readings, and the mask beside them where it is a channel."""
        return torch.cat(self._marked(filled, observed), dim=-1)

    def _marked(self, filled: Tensor, observed: Tensor) -> list[Tensor]:
        return [filled, (observed > 0.5).to(filled.dtype)] if self.mask_channel else [filled]


class ForecastOutput(nn.Module):
    """Denormalise forecasts and clip them to the targets' limits: the last node of the graph.

    Args:
        signal: features, limits and normalisation.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, signal: Signal) -> None:
        super().__init__()
        for name in ("low", "high", "mean", "std"):
            numbers = [getattr(signal, name)[index] for index in signal.target_index]
            # Two axes: ONNX Runtime broadcasts one axis of length 1, or a scalar, nine times slower here.
            self.register_buffer(name, torch.tensor([numbers], dtype=torch.float32), persistent=False)

    def normalise(self, labels: Float[Tensor, "*batch node target"]) -> Float[Tensor, "*batch node target"]:
        """Bring labels in physical units to the units of the forecasts."""
        return (labels - self.mean) / self.std

    def clip(self, forecast: Float[Tensor, "*batch node target"]) -> Float[Tensor, "*batch node target"]:
        """Clip normalised forecasts to the limits."""
        low, high = self.normalise(self.low), self.normalise(self.high)
        return torch.maximum(torch.minimum(forecast, high), low)

    def forward(self, forecast: Float[Tensor, "*batch node target"]) -> Float[Tensor, "*batch node target"]:
        """Return normalised forecasts in physical units, within the limits."""
        return torch.maximum(torch.minimum(forecast * self.std + self.mean, self.high), self.low)


def targets_of(readings: Float[Tensor, "*batch node feature"], signal: Signal) -> Float[Tensor, "*batch node target"]:
    """Return the target features of the readings."""
    return readings if signal.targets == signal.features else readings[..., list(signal.target_index)]


def with_targets(
    readings: Float[Tensor, "*batch node feature"], targets: Float[Tensor, "*batch node target"], signal: Signal
) -> Float[Tensor, "*batch node feature"]:
    """Return the readings with the target features replaced."""
    if signal.targets == signal.features:
        return targets
    columns = list(readings.unbind(-1))
    for position, feature in enumerate(signal.target_index):
        columns[feature] = targets[..., position]
    return torch.stack(columns, dim=-1)
