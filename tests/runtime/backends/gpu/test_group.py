"""A group of streams on a device's bookkeeping: held rows, phases and a fault, on memory that refuses wrong access."""

from __future__ import annotations

import numpy as np

from runtime.backends.base import open_backend
from runtime.backends.fallback import FallbackBackend
from runtime.group import StreamGroup
from stunet_deploy.errors import BackendError

INTERVAL_S, START_S = 300, 1_330_588_800
NAMES = ("one", "two", "three")


def ticks(nodes):
    """Intervals of three streams that start at different times and miss some."""
    rng = np.random.default_rng(2)
    for tick in range(24):
        stamps = [START_S + INTERVAL_S * tick for _ in NAMES]
        if tick < 5:
            stamps[1] = None
        if tick in (9, 10, 16):
            stamps[2] = None
        yield rng.uniform(0.1, 0.9, (len(NAMES), nodes, 2)), stamps


def forecasts(group, nodes):
    for values, stamps in ticks(nodes):
        yield [None if found is None else (found.values, found.reasons) for found in group.push(values, stamps)]


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None) == (right is None)
            if left is not None:
                np.testing.assert_array_equal(left[0], right[0])
                assert left[1] == right[1]


def test_a_group_on_a_device_is_a_group_on_the_cpu(example, host):
    nodes = len(example.bundle.manifest.sensor_ids)
    device = StreamGroup(example.bundle, host.open(example.bundle, 3), NAMES)
    cpu = StreamGroup(example.bundle, open_backend(example.bundle, batch=3), NAMES)

    same(list(forecasts(device, nodes)), list(forecasts(cpu, nodes)))


def test_a_group_goes_on_when_its_device_fails_while_rows_are_held(example, monkeypatch):
    nodes = len(example.bundle.manifest.sensor_ids)
    device = open_backend(example.bundle, batch=3)
    step, steps = device.step, iter(range(100))

    def failing(inputs):
        if next(steps) >= 11:
            raise BackendError("the device is gone", "a device", "look at it")
        return step(inputs)

    monkeypatch.setattr(device, "step", failing)
    whole = FallbackBackend(device, lambda: open_backend(example.bundle, batch=3), every=4)
    expected = list(forecasts(StreamGroup(example.bundle, open_backend(example.bundle, batch=3), NAMES), nodes))

    found = list(forecasts(StreamGroup(example.bundle, whole, NAMES), nodes))

    for tick, (one, other) in enumerate(zip(found, expected, strict=True)):
        for left, right in zip(one, other, strict=True):
            assert (left is None) == (right is None)
            if left is not None:
                np.testing.assert_array_equal(left[0], right[0])
                assert any("fallback" in reason for reason in left[1]) == (tick >= 11)
