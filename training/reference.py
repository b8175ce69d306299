"""The reference stream of a checkpoint: recorded intervals from which export makes its proof."""

from __future__ import annotations

import numpy as np

from stunet_deploy.series.series import Series
from training.protocols import Split

#: A reference stream has at most so many intervals, and so many bytes.
REFERENCE_INTERVALS = 1_300
REFERENCE_BYTES = 64_000_000


def reference_stream(series: Series, split: Split) -> Series:
    """Return consecutive intervals before the test span, as many as a checkpoint may hold, the latest of that length.

    In a recording with breaks, an older run of rows is better than a short one: drift takes time to show.
    """
    row_bytes = 8 + series.values[0].nbytes + series.observed[0].nbytes  # with its time
    longest = max(1, min(REFERENCE_INTERVALS, REFERENCE_BYTES // row_bytes))
    before = [
        slice(run.start, min(run.stop, split.test_start)) for run in series.segments() if run.start < split.test_start
    ]
    run = max(before, key=lambda run: (min(run.stop - run.start, longest), run.start))
    rows = slice(max(run.start, run.stop - longest), run.stop)
    observed = series.observed[rows].copy()
    values = np.where(observed, series.values[rows], 0.0).astype(np.float32)
    return Series(values, observed, series.timestamps[rows].copy(), series.site, series.source)
