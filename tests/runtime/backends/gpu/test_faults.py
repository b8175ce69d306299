"""A device that fails at any moment of a stream: the CPU goes on from its state."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.base import open_backend
from runtime.backends.fallback import FallbackBackend
from runtime.window import Carry, Window
from stunet_deploy.errors import BackendError
from stunet_deploy.testing import sample_inputs

FAULT = BackendError("CUDA answers cudaEventSynchronize with cudaErrorLaunchFailure", "a GPU that works", "look at it")


@settings(max_examples=20)
@given(
    call=st.sampled_from(["record", "wait", "zero", "copy_out", "synchronize"]),
    after=st.integers(0, 60),
    every=st.integers(1, 20),
    window=st.booleans(),
)
def test_the_stream_goes_on_with_the_cpu(example, host, call, after, every, window):
    bundle = example.bundle
    batch = bundle.manifest.window if window else 1
    device = host.open(bundle, batch)
    whole, left = getattr(device.device, call), after

    def failing(*arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise FAULT
        return whole(*arguments)

    backend = FallbackBackend(device, lambda: open_backend(bundle, batch=batch), every=every)
    setattr(device.device, call, failing)
    mode = Window if window else Carry
    found, expected = mode(backend), mode(open_backend(bundle, batch=batch))
    inputs = sample_inputs(bundle.manifest.contract, np.random.default_rng(0), 1, 50)
    for t in range(50):
        one = {name: array[:, t] for name, array in inputs.items()}
        np.testing.assert_array_equal(found.step(one), expected.step(one))
    assert (backend.name == "onnxruntime") == (left < 0)
    if left < 0:
        assert backend.degraded == f"fallback to onnxruntime: host failed, {FAULT.came}"
        assert device.device.closed
