"""A bundle on a backend as a predictor that the evaluation scores, through the stream that will serve it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import ONNXRUNTIME
from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import MEMORY_S
from stunet_deploy.errors import DataError
from stunet_deploy.precisions import FLOAT32
from stunet_deploy.series.series import Series

_CHUNK = 64


@dataclass(frozen=True)
class StreamPredictor:
    """Forecasts of a bundle, pushed interval by interval through a :class:`runtime.stream.Stream`.

    The series must have the bundle's sensors and features in the bundle's order; see ``Series.aligned``.

    Attributes:
        bundle: the model.
        backend: see :func:`runtime.backends.base.open_backend`.
        threads: CPU threads of one step.
        precision: one that the bundle was exported with.
    """

    bundle: Bundle
    backend: str = ONNXRUNTIME
    threads: int = 1
    precision: str = FLOAT32

    @property
    def name(self) -> str:
        """Name in the results: the model family."""
        return self.bundle.manifest.model

    def window(self, series: Series, issue: NDArray[np.int64], length: int) -> Iterator[NDArray[np.float32]]:
        """Yield forecasts [chunk, horizon, node, target] at the rows ``issue``, each over the last ``length`` rows.

        Raises:
            DataError: if the bundle's window has another length, or the series other sensors or features.
        """
        if length != self.bundle.manifest.window:
            raise DataError(
                f"windows of {length} intervals",
                f"{self.bundle.manifest.window}, as the bundle was exported",
                "evaluate with the bundle's own window",
            )
        return self._forecasts(series, int(issue[0]) - length + 1, issue, "window")

    def stream(self, series: Series, start: int, issue: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Yield forecasts [chunk, horizon, node, target] at the rows ``issue``, state carried from row ``start``.

        What lasts longer than a break of the recording is carried from the rows before.

        Raises:
            DataError: if the series has other sensors or features.
        """
        return self._forecasts(series, start, issue, "carry")

    def _forecasts(
        self, series: Series, start: int, issue: NDArray[np.int64], mode: Literal["carry", "window"]
    ) -> Iterator[NDArray[np.float32]]:
        manifest = self.bundle.manifest
        manifest.site.check_same(series.site, series.source or "a series")
        wanted = set(issue.tolist())
        # The rows of a series are consecutive but for breaks of a day or more, after which a stream starts anew.
        stream = Stream.open(
            self.bundle,
            backend=self.backend,
            precision=self.precision,
            mode=mode,
            threads=self.threads,
            fallback=False,  # the errors are those of the backend that was named
            options=StreamOptions(max_gap=0),
        )
        remembers = mode == "carry" and manifest.contract.lasting
        chunk = []
        try:
            for row in range(series.row_since(start, MEMORY_S) if remembers else start, int(issue[-1]) + 1):
                if row == start:
                    stream.begin_anew()
                forecast = stream.push(series.values[row], int(series.timestamps[row]), series.observed[row])
                if row in wanted:
                    chunk.append(forecast.values)
                if len(chunk) == _CHUNK:
                    yield np.stack(chunk)
                    chunk = []
            if chunk:
                yield np.stack(chunk)
        finally:
            stream.close()
