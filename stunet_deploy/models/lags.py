"""The last readings of every sensor as a state, fed to the head directly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stunet_deploy.contract import StateSpec
from stunet_deploy.models.forecaster import picked

#: State entries: departures, marks of what was observed, and readings of the intervals before this one, newest first.
LAGS, LAGS_SEEN, LAGS_READINGS = "lags", "lags.seen", "lags.readings"


class Lags:
    """A window over the last ``length`` intervals, this one included, of some channels of every node.

    A recurrent state must learn to remember a reading; here the last ones are simply at hand.

    Args:
        length: intervals in the window.
        channels: per node and interval.
        name: of the state entry.
    """

    def __init__(self, length: int, channels: int, name: str = LAGS) -> None:
        self.length, self.channels, self.name = length, channels, name

    @property
    def width(self) -> int:
        """Number of channels of the window."""
        return self.length * self.channels

    @property
    def _remembered(self) -> int:
        return self.width - self.channels

    def states(self, nodes: int) -> tuple[StateSpec, ...]:
        """Return the state entry, if the window is longer than the present interval, for a node axis of this length."""
        spec = StateSpec(self.name, ("batch", "node", "channel"), (None, nodes, self._remembered))
        return (spec,) if self._remembered else ()

    def step(
        self, now: Float[Tensor, "*batch node channel"], earlier: Float[Tensor, "*batch node lag"] | None
    ) -> tuple[Float[Tensor, "*batch node window"], dict[str, Float[Tensor, "*batch node lag"]]]:
        """Return the window, newest first, and the state entry after an interval by name.

        Args:
            now: channels of this interval.
            earlier: the state entry; None where there is none.
        """
        if earlier is None:
            return now, {}
        window = torch.cat([now, earlier], dim=-1)
        return window, {self.name: window[..., : self._remembered]}

    def sequence(
        self,
        now: Float[Tensor, "batch time node channel"],
        earlier: Float[Tensor, "batch node lag"] | None,
        issued: Int64[Tensor, " issue"] | None = None,
    ) -> tuple[Float[Tensor, "batch issue node window"], dict[str, Float[Tensor, "batch node lag"]]]:
        """Return the window at the issued intervals of a sequence, and the state entry after the last interval.

        Args:
            now: channels of the intervals.
            earlier: the state entry before them; None where there is none.
            issued: the intervals that are wanted; None for all.
        """
        if earlier is None:
            return picked(now, issued), {}
        oldest_first = earlier.unflatten(-1, (self.length - 1, self.channels)).movedim(-2, 1).flip(1)
        history = torch.cat([oldest_first, now], dim=1)
        time = now.shape[1]
        window = [picked(history[:, last - time : last], issued) for last in range(history.shape[1], time - 1, -1)]
        remembered = history[:, time:].flip(1).movedim(1, -2).flatten(-2)
        return torch.cat(window, dim=-1), {self.name: remembered}
