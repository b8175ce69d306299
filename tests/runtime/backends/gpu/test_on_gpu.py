"""On a real GPU: every backend that is installed, in every precision of a bundle, over a thousand intervals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.gpu.delay_lines import delay_lines
from runtime.backends.base import GPU_BACKENDS, open_backend
from runtime.stream import Stream
from runtime.verify import verify
from runtime.window import Window
from stunet_deploy.errors import BackendError
from stunet_deploy.testing import sample_inputs, verify_stateful_step
from tests.paths import ROOT

pytestmark = pytest.mark.gpu
FLAVOR_OF = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
INTERVALS = 1_000
#: Largest difference from the float32 step on the CPU, relative, by precision; the example's numbers go to a few 100.
TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3}


@pytest.fixture(params=GPU_BACKENDS)
def open_gpu(request, example):
    """Open each backend in turn, its engine built first; skipped with the reason where something is missing."""
    backend = request.param

    def open_it(batch=1, precision="fp32"):
        if backend in FLAVOR_OF:
            words = ["build", str(example.bundle.path), "--flavor", FLAVOR_OF[backend], "--precision", precision]
            command = [sys.executable, "-m", "stunet_deploy", *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no engine: {done.stderr.strip()}")
        try:
            return open_backend(example.bundle, backend, precision=precision, batch=batch)
        except BackendError as missing:
            pytest.skip(str(missing))

    open_it.backend = backend
    return open_it


def test_slots_phases_and_graphs_need_nothing_but_cuda():
    assert delay_lines(INTERVALS)["wrong"] == 0


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_thousand_intervals_equal_the_cpu(open_gpu, example, precision):
    gpu, cpu = open_gpu(precision=precision), open_backend(example.bundle)
    inputs = sample_inputs(example.bundle.manifest.contract, np.random.default_rng(0), 1, INTERVALS)
    for t in range(INTERVALS):
        one = {name: array[:, t] for name, array in inputs.items()}
        expected = cpu.step(one)["forecast"]
        tolerance = TOLERANCE[precision]
        np.testing.assert_allclose(gpu.step(one)["forecast"], expected, rtol=tolerance, atol=100 * tolerance)
    gpu.close()


def test_the_step_contract_is_kept(open_gpu):
    verify_stateful_step(open_gpu, np.random.default_rng(0), tolerance=1e-4, exact=False)


def test_restored_state_continues_bit_for_bit_in_every_phase(open_gpu, example):
    gpu = open_gpu()
    slots = gpu.contract.slots
    inputs = sample_inputs(gpu.contract, np.random.default_rng(0), 1, 4 * slots)

    def run(first, count):
        rows = ({name: array[:, t] for name, array in inputs.items()} for t in range(first, first + count))
        return [gpu.step(one)["forecast"].copy() for one in rows]

    run(0, 2 * slots)
    lines = gpu.read_lines()
    expected = run(2 * slots, 2 * slots)
    for phase in range(1, slots + 1):
        gpu.reset()
        run(0, phase)
        gpu.write_lines(lines)
        np.testing.assert_array_equal(run(2 * slots, 2 * slots), expected)


def test_window_mode_equals_the_cpu(open_gpu, example):
    window = example.bundle.manifest.window
    modes = [Window(open_gpu(window)), Window(open_backend(example.bundle, batch=window))]
    inputs = sample_inputs(example.bundle.manifest.contract, np.random.default_rng(0), 1, 60)
    for t in range(60):
        one = {name: array[:, t] for name, array in inputs.items()}
        found, expected = (mode.step(one) for mode in modes)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_verify_passes_and_a_stream_runs_undegraded(open_gpu, example, readings):
    values, _, timestamps = readings
    open_gpu().close()
    assert verify(example.bundle, open_gpu.backend)
    stream = Stream.open(example.bundle, backend=open_gpu.backend)
    stream.warm_up(values, timestamps)
    assert stream.backend.name == open_gpu.backend
    assert not stream.last.degraded
