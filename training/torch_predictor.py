"""A torch model as a predictor that the evaluation scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.contract import MEMORY_S
from stunet_deploy.models.forecaster import Forecaster, StepInputs
from stunet_deploy.series.series import Series
from training.data import TensorSeries

_WINDOWS_AT_ONCE = 64
_ROWS_AT_ONCE = 288


@dataclass(frozen=True)
class TorchPredictor:
    """Forecasts of a model in torch, by its sequence form."""

    model: Forecaster

    @property
    def name(self) -> str:
        """Name in the results: the model family."""
        return self.model.family

    def window(self, series: Series, issue: NDArray[np.int64], length: int) -> Iterator[NDArray[np.float32]]:
        """Forecast at each row of ``issue`` from zero state over the last ``length`` rows."""
        first = int(issue.min()) - length + 1
        tensors = self._tensors(series.rows(slice(first, int(issue.max()) + 1)))
        rows = torch.from_numpy(issue - first)[:, None] + torch.arange(1 - length, 1)
        for some in rows.split(_WINDOWS_AT_ONCE):
            last = torch.tensor([length - 1])
            forecast, _ = self._forward(tensors.inputs(some), self.model.initial_lines(len(some)), last)
            yield forecast[:, 0].cpu().numpy()

    def stream(self, series: Series, start: int, issue: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Forecast at each row of ``issue`` with the state carried from zero at row ``start``.

        What lasts longer than a break of the recording is carried from the rows before.
        """
        tensors, lines = self._tensors(series.rows(slice(start, int(issue[-1]) + 1))), self.model.initial_lines(1)
        earlier = slice(series.row_since(start, MEMORY_S), start)
        if self.model.contract.lasting and earlier.start < start:
            before = self._tensors(series.rows(earlier))
            for rows in torch.arange(len(before.values)).split(_ROWS_AT_ONCE):
                with torch.inference_mode():
                    lines |= self.model.remembered(before.inputs(rows[None]), lines)
        for rows in torch.arange(len(tensors.values)).split(_ROWS_AT_ONCE):
            within = issue - start - int(rows[0])
            wanted = within[(within >= 0) & (within < len(rows))]
            forecast, lines = self._forward(tensors.inputs(rows[None]), lines, torch.from_numpy(wanted))
            if len(wanted):
                yield forecast[0].cpu().numpy()

    @torch.inference_mode()  # not around the generators: it would stay on between their forecasts
    def _forward(
        self, inputs: StepInputs, lines: dict[str, Tensor], issued: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        forecast, final = self.model(inputs, lines, issued=issued.to(inputs.values.device))
        return forecast, final

    def _tensors(self, series: Series) -> TensorSeries:
        device = next(self.model.parameters()).device
        return TensorSeries.of(series, self.model.signal, device)
