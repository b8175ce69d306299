"""ONNX Runtime sessions of graphs that no bundle holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from runtime.backends.onnxruntime.session import CPU_PROVIDER, session_options
from stunet_deploy.contract import StepContract


def open_session(graph: onnx.ModelProto, *, without: Sequence[str] = ()) -> Any:
    """Open a graph on one thread with the options of a backend's session, for batches of one.

    Args:
        graph: of a step or of a whole window.
        without: optimisations to leave out.
    """
    options = session_options(onnxruntime)
    options.add_free_dimension_override_by_name("batch", 1)
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=[CPU_PROVIDER], disabled_optimizers=list(without)
    )


def step_call(graph: onnx.ModelProto, contract: StepContract) -> Callable[[], Any]:
    """Return a call that takes a step from zero state on random inputs, and returns its outputs."""
    session, rng = open_session(graph), np.random.default_rng(0)
    feed = {spec.name: rng.random(spec.with_batch(1), np.float32) for spec in contract.inputs}
    feed |= {tap.name: np.zeros(tap.state.with_batch(1), np.float32) for tap in contract.taps}
    return lambda: session.run(None, feed)
