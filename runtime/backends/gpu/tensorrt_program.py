"""One step as a TensorRT engine: full, RTX and lean, versions 10.3 to 11.4, through the calls that all of them have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runtime.backends.gpu.engines import Engine
from runtime.backends.gpu.flavor import Flavor
from runtime.backends.gpu.tensorrt_log import tensorrt_log
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BackendError, BundleError

if TYPE_CHECKING:
    import tensorrt as trt

_DTYPES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}


class TensorRTProgram:
    """A step that a TensorRT engine executes; see :class:`runtime.backends.gpu.device.Program`.

    Ask for the driver before making one: without a driver TensorRT may crash instead of raising.

    Args:
        flavor: the TensorRT to run it with.
        engine: what :func:`runtime.backends.gpu.engines.find_engine` found to fit and to be whole.
        contract: what the engine must be.
        batch: number of rows.
        stream: handle of the stream to put steps on; not the default stream, on which nothing can be captured.

    Raises:
        BackendError: if TensorRT refuses the engine.
        BundleError: if the engine's tensors are not those of the contract.
    """

    capturable = True

    def __init__(self, flavor: Flavor, engine: Engine, contract: StepContract, batch: int, stream: int) -> None:
        trt = flavor.module
        self._stream = stream
        self._path = engine.stored.path
        self._log = tensorrt_log(flavor)
        self._log.clear()
        runtime = trt.Runtime(self._log)
        self._engine = runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise self._refused(f"{flavor.name} {flavor.version} cannot load")
        _check_engine(flavor, self._engine, contract, batch, str(self._path))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._refused(f"{flavor.name} {flavor.version} makes no execution context of")
        for spec in contract.step_inputs:
            if not self._context.set_input_shape(spec.name, spec.with_batch(batch)):
                raise self._refused(f"{flavor.name} {flavor.version} refuses {spec.name} of batch {batch} in")

    def bind(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return the call that puts one step on the stream, which reads and writes these addresses."""
        context, stream, fixed = self._context, self._stream, dict(addresses)

        def step() -> None:
            for name, address in fixed.items():
                if not context.set_tensor_address(name, address):
                    raise self._refused(f"TensorRT refuses an address of {name} in")
            if not context.execute_async_v3(stream):
                raise self._refused("TensorRT did not enqueue a step of")

        return step

    def close(self) -> None:
        """Give the engine's memory back; the context goes before the engine that it belongs to."""
        del self._context
        del self._engine

    def _refused(self, what: str) -> BackendError:
        said = f" ({self._log.errors[-1]})" if self._log.errors else ""
        return BackendError(
            f"{what} {self._path}{said}", "an engine that runs here", "build it again: stunet build bundle/ --rebuild"
        )


def _check_engine(flavor: Flavor, engine: trt.ICudaEngine, contract: StepContract, batch: int, path: str) -> None:
    """Compare names, directions, dtypes and shapes of an engine with the contract."""
    trt = flavor.module
    expected = {
        spec.name: (direction, _DTYPES.get(spec.dtype), spec.with_batch(batch))
        for direction, specs in (("input", contract.step_inputs), ("output", contract.step_outputs))
        for spec in specs
    }
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        direction = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        lengths = engine.get_tensor_shape(name)
        shape: tuple[int, ...] = tuple(lengths[axis] for axis in range(len(lengths)))
        if shape[:1] == (-1,):  # the free batch axis; its range was compared when the engine was found
            shape = (batch, *shape[1:])
        found[name] = (direction, engine.get_tensor_dtype(name).name, shape)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BundleError(
                f"{path}: {name!r} is {found.get(name, 'absent')}",
                f"{expected.get(name, 'no such tensor')} as in the contract",
                "build it again: stunet build bundle/ --rebuild",
            )
