"""A series as tensors, and the random chunks, windows and labels cut from it by index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.config import Signal
from stunet_deploy.errors import DataError
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.series import Series


@dataclass(frozen=True)
class TensorSeries:
    """A series on a torch device, with the limits and targets of a model's signal.

    Attributes:
        values: [time, node, feature] in physical units, 0 where unobserved.
        observed: [time, node, feature], 1 or 0; 0 too where a reading lies outside the signal's limits.
        time_of_week: [time, 1] seconds.
        target_index: position of each target among the features.
    """

    values: Float[Tensor, "time node feature"]
    observed: Float[Tensor, "time node feature"]
    time_of_week: Float[Tensor, "time 1"]
    target_index: tuple[int, ...]

    @classmethod
    def of(cls, series: Series, signal: Signal, device: torch.device) -> TensorSeries:
        """Copy a series to a device, without the readings that a stream would drop as impossible."""
        series = series.within(signal.low, signal.high)
        return cls(
            torch.from_numpy(np.where(series.observed, series.values, np.float32(0))).to(device),
            torch.from_numpy(series.observed.astype(np.float32)).to(device),
            torch.from_numpy(series.time_of_week()[:, None]).to(device),
            signal.target_index,
        )

    def inputs(self, rows: Int64[Tensor, "batch time"]) -> StepInputs:
        """Return the step inputs of the given rows."""
        return StepInputs(self.values[rows], self.observed[rows], self.time_of_week[rows])

    def labels(
        self, issue: Int64[Tensor, "batch time"], horizon: int
    ) -> tuple[Float[Tensor, "batch time horizon node target"], Bool[Tensor, "batch time horizon node target"]]:
        """Return the raw labels of the ``horizon`` rows after each issue row, and which of them were observed."""
        ahead = issue[..., None] + torch.arange(1, horizon + 1, device=issue.device)
        return self.values[ahead][..., self.target_index], self.observed_labels(issue, horizon)

    def observed_labels(
        self, issue: Int64[Tensor, "batch time"], horizon: int
    ) -> Bool[Tensor, "batch time horizon node target"]:
        """Return which of the labels of :meth:`labels` were observed."""
        ahead = issue[..., None] + torch.arange(1, horizon + 1, device=issue.device)
        return self.observed[ahead][..., self.target_index] > 0.5


@dataclass(frozen=True)
class ChunkSampler:
    """Random contiguous chunks of the training rows, none of them across a break of the recording.

    Attributes:
        starts: [start] first row of every possible chunk.
        length: rows of a chunk.
    """

    starts: NDArray[np.int64]
    length: int

    @classmethod
    def of(cls, runs: list[slice], length: int, horizon: int) -> ChunkSampler:
        """Allow every chunk whose labels lie in its run too; all chunks are shorter where no run is long enough.

        Raises:
            DataError: if no run holds a single row and its labels.
        """
        longest = max((run.stop - run.start for run in runs), default=0)
        if longest <= horizon:
            raise DataError(
                f"at most {longest} consecutive rows to train on",
                f"more than the {horizon} that a forecast reaches ahead",
                "give a longer recording",
            )
        length = min(length, longest - horizon)
        starts = [np.arange(run.start, run.stop - length - horizon + 1) for run in runs]
        return cls(np.concatenate(starts).astype(np.int64), length)

    def draws(self, batch: int, scored: int) -> int:
        """Return the number of draws in which about as many rows are scored as there are starts.

        Args:
            batch: chunks a draw.
            scored: rows of a chunk that count.
        """
        return max(1, -(-len(self.starts) // (batch * max(1, scored))))

    def draw(self, batch: int, generator: torch.Generator) -> Int64[Tensor, "batch time"]:
        """Return the rows of random chunks.

        Args:
            batch: how many.
            generator: source of randomness.
        """
        chosen = torch.randint(len(self.starts), (batch,), generator=generator)
        return torch.from_numpy(self.starts)[chosen][:, None] + torch.arange(self.length)
