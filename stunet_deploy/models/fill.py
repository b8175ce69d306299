"""The filling of unobserved readings: the fills, the state that three of them keep, and filled steps and sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stunet_deploy.contract import STATE, StateSpec
from stunet_deploy.models.signal import ForecastOutput, SignalInput, targets_of, with_targets

#: State entry: the substitute of readings that are unobserved at the next interval, in normalised units.
SUBSTITUTE = "substitute"
#: State entry: how far the substitute of such a reading departs from the usual one, in normalised units.
DEPARTED = "departed"
#: The fill whose gaps no mask channel tells from readings.
UNMARKED = "zeros"


def return_share(span: float) -> float:
    """Return the share of the way back to the usual value that a silent sensor's substitute goes in an interval.

    It is 2 / (1 + span), that of an exponential moving average; a span of 1 or less is back at once.

    Args:
        span: in intervals.
    """
    return min(2 / (1 + span), 1.0)


class Outlook(NamedTuple):
    """The reading of an interval and the forecast made after it, from which ``forecast`` derives its substitute.

    Attributes:
        observed: [*batch, node, feature], 1 or 0.
        forecast: [*batch, horizon, node, target], normalised.
        deviations: of the profile from the reading, [*batch, 1 + horizon, node, target]; None without a profile.
        sensor_mean: returns the normalised mean reading of every sensor, [node, feature]; called by ``forecast`` alone.
    """

    observed: Tensor
    forecast: Tensor
    deviations: Tensor | None
    sensor_mean: Callable[[], Tensor]


class Fill:
    """A fill of :class:`stunet_deploy.config.STUNetConfig`: the value that takes the place of an unobserved reading.

    ``mean`` is the mean of the training span and ``zeros`` a reading of 0, as in the literature; both are constant.
    ``usual`` is the usual reading of the time plus a part of what the last reading departed from that of its time: the
    part shrinks from interval to interval. ``last`` is the sensor's last filled reading and ``forecast`` the forecast
    made for it one interval before. These three remember a state.

    A fill holds no tensors of its own: it computes with the constants of the model's input and output, and is told what
    is usual at an interval.

    Args:
        name: one of these.
        source: normalises readings.
        output: of the model, for ``forecast``.
        horizon: number of intervals forecast, for ``forecast``.

    Attributes:
        part: share of the way back in an interval, for ``usual`` and ``forecast``; see :func:`return_share`.
    """

    def __init__(self, name: str, source: SignalInput, output: ForecastOutput | None = None, horizon: int = 0) -> None:
        self.name, self.source, self.output, self.horizon = name, source, output, horizon
        self.part = return_share(float(horizon))

    @property
    def remembers(self) -> bool:
        """Whether the substitute changes over time, and so is a state."""
        return self.name in ("usual", "last", "forecast")

    @property
    def _entry(self) -> str:
        return DEPARTED if self.name == "usual" else SUBSTITUTE

    def states(self, nodes: int) -> tuple[StateSpec, ...]:
        """Return the state entry of the fill, if there is one, for a node axis of this length."""
        spec = StateSpec(self._entry, ("batch", "node", "feature"), (None, nodes, len(self.source.mean)))
        return (spec,) if self.remembers else ()

    def step(
        self,
        values: Float[Tensor, "batch node feature"],
        observed: Float[Tensor, "batch node feature"],
        state: Mapping[str, Tensor],
        usual: Float[Tensor, "batch node feature"],
    ) -> Float[Tensor, "batch node feature"]:
        """Return the normalised readings of an interval, unobserved ones replaced.

        Args:
            values, observed: of the interval.
            state: by tap.
            usual: the normalised usual readings of the interval; read by ``usual`` alone.
        """
        substitute = state[STATE + self._entry] if self.remembers else self.constant()
        if self.name == "usual":
            substitute = usual + substitute
        return torch.where(observed > 0.5, self.source.normalise(values), substitute)

    def sequence(
        self,
        values: Float[Tensor, "batch time node feature"],
        observed: Float[Tensor, "batch time node feature"],
        lines: Mapping[str, Tensor],
        usual: Float[Tensor, "batch time node feature"],
    ) -> Float[Tensor, "batch time node feature"]:
        """Fill a sequence as :meth:`step` would, interval by interval, each the substitute of the next."""
        seen = observed > 0.5
        normalised = self.source.normalise(values)
        if not self.remembers:
            return torch.where(seen, normalised, self.constant())
        # Of ``usual`` the departures are filled; those of a reading seen no longer shrink.
        kept, base = (1.0, torch.zeros_like(normalised)) if self.name != "usual" else (1 - self.part, usual)
        substitute, filled = lines[self._entry][0], []
        for now, reading in zip(seen.unbind(1), (normalised - base).unbind(1), strict=True):
            filled.append(torch.where(now, reading, substitute))
            substitute = kept * filled[-1]
        # What was read stays as it is, without the round-off of the way to a departure and back.
        return torch.where(seen, normalised, base + torch.stack(filled, dim=1))

    def constant(self) -> Float[Tensor, "1 feature"]:
        """Return the normalised substitute of a fill that does not remember."""
        zeros = torch.zeros_like(self.source.mean)[None]
        return self.source.normalise(zeros) if self.name == UNMARKED else zeros

    def written(
        self,
        filled: Float[Tensor, "*batch node feature"],
        usual: Float[Tensor, "*batch node feature"],
        outlook: Outlook | None = None,
    ) -> dict[str, Float[Tensor, "*batch node feature"]]:
        """Return the state entry after an interval, if there is one, by name; ``outlook`` is for ``forecast``."""
        if not self.remembers:
            return {}
        if self.name == "usual":
            return {DEPARTED: (1 - self.part) * (filled - usual)}
        return {SUBSTITUTE: filled if self.name == "last" or outlook is None else self._expected(filled, outlook)}

    def _expected(self, filled: Tensor, outlook: Outlook) -> Tensor:
        """Return the substitute for the next interval that follows from a forecast.

        It is the forecast for it, and the filled reading of features that are not forecast. Where this interval lacks
        the reading too, it moves a part of the way towards the sensor's profile (towards its mean, without a profile
        or a forecast): a model that is fed its own forecasts for longer than it was trained to forecast drifts away.
        The span of its return is the horizon.
        """
        assert self.output is not None
        signal = self.source.signal
        expected = with_targets(filled, self.output.clip(outlook.forecast[..., 0, :, :]), signal)
        mean = outlook.sensor_mean().expand_as(filled)
        if outlook.deviations is not None:
            mean = with_targets(mean, outlook.deviations[..., 1, :, :] + targets_of(filled, signal), signal)
        return torch.where(outlook.observed > 0.5, expected, expected + self.part * (mean - expected))

    def pieces(
        self, observed: Float[Tensor, "batch time node feature"], issued: Int64[Tensor, " issue"] | None
    ) -> Iterator[tuple[slice, Int64[Tensor, " issue"] | None, int | None]]:
        """Cut a sequence into pieces in which no substitute depends on a forecast made within them.

        Only ``forecast`` has more than one: it cuts before every interval that lacks a reading, and makes a forecast
        after the last interval of every piece, wanted or not, since the next substitute follows from it.

        Args:
            observed: of the sequence.
            issued: the intervals whose forecasts are wanted, ascending; None for all.

        Yields:
            The intervals of a piece; those, counted from its first, after which a forecast is made, None for all; and
            how many of these forecasts, from the first, are wanted, None for all.
        """
        time, device = observed.shape[1], observed.device
        if self.name != "forecast":
            yield slice(0, time), issued, None
            return
        wanted = torch.arange(time, device=device) if issued is None else issued
        lacking = (~(observed > 0.5)).flatten(2).any(2).any(0)
        lacking[0] = True
        for first, after in pairwise([*torch.nonzero(lacking).flatten().tolist(), time]):
            decoded = wanted[(wanted >= first) & (wanted < after)] - first
            count, last = len(decoded), after - first - 1
            if last not in decoded[-1:]:
                decoded = torch.cat([decoded, torch.tensor([last], device=device)])
            yield slice(first, after), decoded, count
