"""A durable stream, and the intervals that it is given."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.durable.stream import DurableStream
from runtime.options import StreamOptions
from runtime.stream import Stream

START = 1_330_588_800
INTERVAL_S = 300


@pytest.fixture
def options():
    """The options of every stream."""
    return StreamOptions(stuck_after=4, max_gap=5)


@pytest.fixture
def open_stream(options):
    """Return a function of a bundle and a folder that opens a durable stream."""

    def open_stream(bundle, folder, *, mode="carry", every=3, assembler=None):
        return DurableStream(Stream.open(bundle, mode=mode, options=options), folder, every=every, assembler=assembler)

    return open_stream


@pytest.fixture
def readings_of():
    """Return a function of a step that returns its readings [node, feature]: a tenth missing, some unchanging."""

    def readings_of(step):
        rng = np.random.default_rng([17, step])
        values = np.stack([rng.uniform(10, 85, 5), rng.uniform(-0.9, 0.9, 5)], axis=-1)
        values[rng.random((5, 2)) < 0.1] = np.nan
        values[0, 0] = 42.0 if step % 20 < 12 else values[0, 0]
        return values

    return readings_of


@pytest.fixture
def push(readings_of):
    """Return a function that pushes the readings of a step."""

    def push(stream, step):
        return stream.push(readings_of(step), START + INTERVAL_S * step)

    return push


@pytest.fixture
def bits():
    """Return a function that returns what forecasts are compared by, to the last bit."""

    def bits(forecast):
        return (forecast.issued_s, forecast.reasons, forecast.observed_share, forecast.values.tobytes())

    return bits
