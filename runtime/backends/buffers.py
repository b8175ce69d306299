"""Host buffers of a step at addresses that never change, filled from what a caller gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.contract import TensorSpec
from stunet_deploy.errors import StreamError


def zero_buffers(specs: Iterable[TensorSpec], batch: int) -> dict[str, NDArray[Any]]:
    """Return an array of zeros [batch, ...] for each tensor."""
    return {spec.name: np.zeros(spec.with_batch(batch), spec.dtype) for spec in specs}


def write_inputs(buffers: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Copy the inputs of a step into its buffers, after all of them were checked.

    Raises:
        StreamError: if an input is missing, unknown or of another shape; no buffer was written.
    """
    if inputs.keys() != buffers.keys():
        raise StreamError(f"step inputs {sorted(inputs)}", f"{sorted(buffers)}", "give each input of the contract")
    for name, buffer in buffers.items():
        if inputs[name].shape != buffer.shape:
            raise StreamError(f"step input {name!r} of shape {inputs[name].shape}", f"{buffer.shape}", "reshape it")
    for name, buffer in buffers.items():
        buffer[...] = inputs[name]
