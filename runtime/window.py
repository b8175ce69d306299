"""Two ways to run a step: carry the state for ever, or forecast from exactly the last J intervals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from stunet_deploy.contract import Lines

FORECAST = "forecast"

#: The inputs of one interval, one row: [1, ...] each.
Inputs = dict[str, NDArray[Any]]

Result = TypeVar("Result")
#: Steps that the caller runs: yields the inputs of one, is sent its forecast, and so on; returns the result.
Steps = Generator[Inputs, NDArray[np.float32], Result]


def drive(steps: Steps[Result], step: Callable[[Inputs], NDArray[np.float32]]) -> Result:
    """Run steps one after the other and return their result."""
    try:
        inputs = next(steps)
        while True:
            inputs = steps.send(step(inputs))
    except StopIteration as done:
        result: Result = done.value
        return result


class Mode(ABC):
    """How a stream uses its backend: which rows step, and whose forecast counts."""

    name: str

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @abstractmethod
    def step(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run one interval and return a copy of its forecast [horizon, node, target]."""

    def reset(self) -> None:
        """Return to zero state."""
        self.backend.reset()

    def restore(self, lines: Lines, age: int) -> None:
        """Go on with the lines of a stream of this bundle and mode that has run ``age`` intervals since zero state.

        Raises:
            StreamError: if the lines do not fit; nothing has changed then.
        """
        self.backend.write_lines(lines)


class Carry(Mode):
    """Carry one state for ever: one step an interval."""

    name = "carry"

    def step(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run one interval and return a copy of its forecast [horizon, node, target]."""
        forecast: NDArray[np.float32] = self.backend.step(inputs)[FORECAST][0].copy()
        return forecast


class Window(Mode):
    """Forecast from exactly the last J intervals, from zero state, without stepping through them again.

    J staggered rows share one batch, and each sees every interval. After the step of interval t, row (t + 1) mod J
    holds the state of exactly the last J intervals: it forecasts, then starts from zero::

        interval    0 1 2 3 4 5        J = 3
        row 0       . . F|. . F|       F| forecasts, then is zeroed
        row 1       F|. . F|. .        the first J - 1 forecasts have seen fewer intervals
        row 2       . F|. . F|.

    The row is zeroed in all slots of all entries: with delays above 1, a younger slot would otherwise bring the
    previous window back.
    """

    name = "window"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._interval = 0

    def step(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run one interval and return a copy of its forecast [horizon, node, target]."""
        window = self.backend.batch
        rows = {name: np.broadcast_to(row, (window, *row.shape[1:])) for name, row in inputs.items()}
        row = (self._interval + 1) % window
        forecast: NDArray[np.float32] = self.backend.step(rows)[FORECAST][row].copy()
        self.backend.reset([row])
        self._interval += 1
        return forecast

    def reset(self) -> None:
        """Return to zero state."""
        super().reset()
        self._interval = 0

    def restore(self, lines: Lines, age: int) -> None:
        """Go on with the lines of another stream, its rows in their places."""
        super().restore(lines, age)
        self._interval = age
