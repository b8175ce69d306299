"""A step graph of a bundle, whose bytes an inference engine gets after they were looked at, and never a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stunet_deploy.errors import BundleError
from stunet_deploy.onnx_graph.cost import check_cost
from stunet_deploy.onnx_graph.model import read_model
from stunet_deploy.onnx_graph.wire import MalformedError


@dataclass(frozen=True)
class StepGraph:
    """A step graph, whole and as it was exported, but not yet looked at.

    An engine that is given a path follows what the file names beside it, and reads it a second time. So nothing but
    :meth:`for_batch` hands the bytes out.

    Attributes:
        path: where it was read, for messages.
    """

    path: Path
    _data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def for_batch(self, batch: int) -> bytes:
        """Return the bytes of the ONNX model after checking that it may run with so many rows.

        Raises:
            BundleError: if it is damaged or ambiguous, reaches outside of itself, has operators that no step has, or
                would take far more than the bundle holds.
        """
        try:
            check_cost(read_model(self._data), batch)
        except MalformedError as error:
            raise BundleError(
                f"{self.path}, which no engine is given ({error})",
                "a step as stunet-export writes it",
                "copy the bundle again, or export the model again with this version of stunet-export",
            ) from error
        return self._data
