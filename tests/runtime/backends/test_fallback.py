"""Faults at random moments: nothing is lost, the CPU goes on from the same history, and the forecasts say so."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.base import open_backend
from runtime.backends.fallback import FallbackBackend
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, ConfigError, StreamError
from stunet_deploy.testing import sample_inputs, verify_stateful_step

OPEN_GPU = "runtime.backends.gpu.opening.open_gpu_backend"
FAULT = BackendError("CUDA answers cudaGraphLaunch with cudaErrorLaunchFailure", "a GPU that works", "look at it")


class Failing:
    """A CPU backend that takes the part of a device: from a given call of a method on, it fails for good."""

    def __init__(self, backend, method="step", after=0):
        self._backend = backend
        self._method = method
        self._left = after
        self._dead = False
        self.closed = False

    name = "tensorrt"
    degraded = None

    @property
    def batch(self):
        return self._backend.batch

    @property
    def contract(self):
        return self._backend.contract

    def _call(self, method, *arguments):
        if method == self._method:
            self._dead = self._dead or self._left <= 0
            self._left -= 1
        if self._dead:
            # What a device at fault leaves behind is worth nothing.
            self._backend.write_lines({n: np.full_like(a, np.nan) for n, a in self._backend.read_lines().items()})
            raise FAULT
        return getattr(self._backend, method)(*arguments)

    def step(self, inputs):
        return self._call("step", inputs)

    def reset(self, rows=None):
        self._call("reset", rows)

    def read_lines(self):
        return self._call("read_lines")

    def write_lines(self, lines):
        self._call("write_lines", lines)

    def close(self):
        self.closed = True
        raise FAULT


def failing(bundle, batch=1, *, every=5, method="step", after=10**9):
    device = Failing(open_backend(bundle, batch=batch), method, after)
    return FallbackBackend(device, lambda: open_backend(bundle, batch=batch), every=every)


def draw_inputs(contract, rng, batch):
    return {name: array[:, 0] for name, array in sample_inputs(contract, rng, batch, 1).items()}


@settings(max_examples=40)
@given(
    method=st.sampled_from(["step", "reset", "read_lines", "write_lines"]),
    after=st.integers(1, 25),
    every=st.integers(1, 9),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_a_fault_at_any_moment_loses_nothing(example, method, after, every, batch, seed):
    rng = np.random.default_rng(seed)
    cpu = open_backend(example.bundle, batch=batch)
    backend = failing(example.bundle, batch, every=every, method=method, after=after)
    for _ in range(40):
        choice = rng.integers(12)
        if choice == 0:
            rows = rng.choice(batch, size=int(rng.integers(batch + 1)), replace=False).tolist()
            backend.reset(rows)
            cpu.reset(rows)
        elif choice == 1:
            backend.reset()
            cpu.reset()
        elif choice == 2:
            lines = {name: rng.random(line.shape, np.float32) for name, line in cpu.read_lines().items()}
            backend.write_lines(lines)
            cpu.write_lines(lines)
        elif choice == 3:
            found = backend.read_lines()
            for name, line in cpu.read_lines().items():
                np.testing.assert_array_equal(found[name], line)
        else:
            inputs = draw_inputs(cpu.contract, rng, batch)
            found, expected = backend.step(inputs)["forecast"], cpu.step(inputs)["forecast"]
            np.testing.assert_array_equal(found, expected)
    assert (backend.degraded is None) == (backend.name == "tensorrt")


def test_the_log_is_bounded_and_the_state_is_copied_every_so_often(example):
    backend = failing(example.bundle, 3, every=4)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(50):
        backend.step(draw_inputs(backend.contract, rng, 3))
        backend.reset([0])
        backend.reset([1])
        kept.append(len(backend._log))
    assert max(kept) <= 2 * 4
    assert kept.count(1) == 50 // 4  # the resets behind a copy of the state


def test_window_rows_are_kept_once(build_example, readings):
    values, _, timestamps = readings
    bundle = build_example((1,), (3, 1), window=5).bundle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OPEN_GPU, lambda *_, batch, **__: open_backend(bundle, batch=batch))
        stream = Stream.open(bundle, backend="tensorrt", mode="window")
    stream.push(values[0], timestamps[0])
    entry = stream.backend._log[0]
    assert {name: len(array) for name, array in entry.items()} == {"values": 1, "observed": 1, "time_of_week": 1}


def test_it_keeps_the_step_contract(example):
    verify_stateful_step(lambda batch: failing(example.bundle, batch, after=7), np.random.default_rng(0))


@pytest.mark.parametrize("mode", ["carry", "window"])
@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_stream_goes_on_and_says_why_it_is_degraded(example, readings, monkeypatch, mode, after):
    values, _, timestamps = readings
    expected = Stream.open(example.bundle, mode=mode)

    monkeypatch.setattr(
        OPEN_GPU, lambda bundle, *_, batch, **__: Failing(open_backend(bundle, batch=batch), after=after)
    )
    stream = Stream.open(example.bundle, backend="tensorrt", mode=mode)
    for t in range(30):
        found = stream.push(values[t], timestamps[t])
        np.testing.assert_array_equal(found.values, expected.push(values[t], timestamps[t]).values)
        said = [reason for reason in found.reasons if reason.startswith("fallback")]
        assert said == ([] if t < after else [f"fallback to onnxruntime: tensorrt failed, {FAULT.came}"])
    assert stream.backend.name == "onnxruntime"
    assert stream.counters.pushes == 30


def test_without_fallback_the_fault_is_the_streams(example, readings, monkeypatch):
    values, _, timestamps = readings
    monkeypatch.setattr(OPEN_GPU, lambda *_, **__: Failing(open_backend(example.bundle)))
    stream = Stream.open(example.bundle, backend="tensorrt", fallback=False)
    with pytest.raises(BackendError, match="cudaErrorLaunchFailure"):
        stream.push(values[0], timestamps[0])


def test_without_onnxruntime_the_error_names_fault_and_extra_and_the_device_is_tried_again(example, monkeypatch):
    device = Failing(open_backend(example.bundle), after=3)
    backend = FallbackBackend(device, lambda: open_backend(example.bundle))
    rng = np.random.default_rng(0)
    for _ in range(3):
        backend.step(draw_inputs(backend.contract, rng, 1))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        for _ in range(2):
            with pytest.raises(BackendError, match=r"cudaErrorLaunchFailure.*onnxruntime cannot.*stunet-deploy\[cpu\]"):
                backend.step(draw_inputs(backend.contract, rng, 1))
    assert not device.closed
    backend.step(draw_inputs(backend.contract, rng, 1))
    assert device.closed
    assert backend.degraded


def test_a_fault_of_the_cpu_is_not_hidden(example):
    backend = failing(example.bundle, after=2)
    rng = np.random.default_rng(0)
    for _ in range(4):
        backend.step(draw_inputs(backend.contract, rng, 1))
    backend._backend = Failing(backend._backend)
    with pytest.raises(BackendError, match="cudaErrorLaunchFailure"):
        backend.step(draw_inputs(backend.contract, rng, 1))
    with pytest.raises(BackendError, match="cudaErrorLaunchFailure"):
        backend.reset()


def test_inputs_that_are_refused_are_no_fault(example):
    backend = failing(example.bundle)
    with pytest.raises(StreamError):
        backend.step({})
    assert backend.degraded is None


def test_a_copy_every_zero_intervals_is_refused(example):
    with pytest.raises(ConfigError, match="every = 0"):
        failing(example.bundle, every=0)
