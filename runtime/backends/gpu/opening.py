"""From the name of a GPU backend to the backend: what is missing is named before anything is touched."""

from __future__ import annotations

from contextlib import ExitStack

from runtime.backends.gpu.backend import DeviceBackend
from runtime.backends.gpu.cuda import CudaDevice, import_cuda
from runtime.backends.gpu.device import Device, Program
from runtime.backends.gpu.driver import require_driver
from runtime.backends.gpu.engines import find_engine
from runtime.backends.gpu.flavor import FULL, LEAN, RTX, find_flavor
from runtime.backends.gpu.onnxruntime_program import (
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    OnnxRuntimeProgram,
    import_gpu_onnxruntime,
)
from runtime.backends.gpu.tensorrt_program import TensorRTProgram
from stunet_deploy.bundle import Bundle
from stunet_deploy.precisions import FLOAT32

#: The flavours of TensorRT that serve a backend, in order of preference.
FLAVORS_OF = {"tensorrt": (FULL, LEAN), "tensorrt-rtx": (RTX,)}
PROVIDER_OF = {"onnxruntime-cuda": CUDA_PROVIDER, "onnxruntime-tensorrt": TENSORRT_PROVIDER}


def open_gpu_backend(bundle: Bundle, backend: str, *, precision: str = FLOAT32, batch: int = 1) -> DeviceBackend:
    """Open a bundle's step on the GPU.

    Args:
        bundle: what to run.
        backend: a key of :data:`FLAVORS_OF` or :data:`PROVIDER_OF`.
        precision: one of :data:`stunet_deploy.precisions.PRECISIONS` that the bundle was exported with.
        batch: number of independent rows.

    Raises:
        BackendError: if the library, cuda-python, the driver, a GPU or a fitting engine is missing, or the GPU fails.
        BundleError: if the precision was not exported, or graph or engine do not fit the bundle.
        ConfigError: if ``precision`` is unknown.
    """
    bundle.manifest.check_exported(precision)
    contract = bundle.manifest.contract
    if backend in FLAVORS_OF:
        flavor = find_flavor(*FLAVORS_OF[backend])
        gpu = require_driver()
        engine = find_engine(bundle, flavor, gpu.compute_capability, precision=precision, batch=batch)

        def make(device: Device) -> Program:
            return TensorRTProgram(flavor, engine, contract, batch, device.stream)
    else:
        provider = PROVIDER_OF[backend]
        ort = import_gpu_onnxruntime(provider, precision)
        require_driver()
        graph = bundle.graph(precision)

        def make(device: Device) -> Program:
            return OnnxRuntimeProgram(
                ort, provider, graph, contract, precision=precision, batch=batch, stream=device.stream
            )

    import_cuda()
    with ExitStack() as opened:
        device = CudaDevice()
        opened.callback(device.close)
        program = make(device)
        opened.callback(program.close)
        runner = DeviceBackend(backend, contract, batch, device, program)
        opened.pop_all()
    return runner
