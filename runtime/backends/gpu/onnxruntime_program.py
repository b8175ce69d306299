"""One step on an execution provider of ONNX Runtime for NVIDIA GPUs: CUDA or TensorRT, bound to device addresses."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import ModuleType

from runtime.backends.onnxruntime.session import import_onnxruntime, open_session, run_options
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BackendError
from stunet_deploy.onnx_graph.step_graph import StepGraph
from stunet_deploy.precisions import FLOAT32

CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
EXTRA = "gpu"
#: With 0, CUDA's libraries and TensorRT round no float32 product to TF32, whatever a program asks for.
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"


class OnnxRuntimeProgram:
    """A step that one execution provider runs whole; see :class:`runtime.backends.gpu.device.Program`.

    It is put on the stream anew every interval: ONNX Runtime cannot be recorded into a graph of its caller
    (onnxruntime#32081). The one wait of an interval is the device's; ONNX Runtime is told not to wait for itself.

    Args:
        ort: what :func:`import_gpu_onnxruntime` returned.
        provider: :data:`CUDA_PROVIDER` or :data:`TENSORRT_PROVIDER`.
        graph: the step.
        contract: what it must be.
        precision: ``fp32`` keeps TF32 off.
        batch: number of rows.
        stream: handle of the stream to put steps on.

    Raises:
        BackendError: if the provider does not start, or does not run every node.
        BundleError: if the graph is no step, or its inputs or outputs are not those of the contract.
    """

    capturable = False

    def __init__(
        self,
        ort: ModuleType,
        provider: str,
        graph: StepGraph,
        contract: StepContract,
        *,
        precision: str,
        batch: int,
        stream: int,
    ) -> None:
        options = {"device_id": "0", "user_compute_stream": str(stream)}
        if provider == CUDA_PROVIDER:
            options["use_tf32"] = "1" if precision == "tf32" else "0"
        self._session = open_session(
            ort, graph, contract, batch=batch, provider=provider, provider_options=options, extra=EXTRA
        )
        self._options = run_options(ort, {"disable_synchronize_execution_providers": "1"})
        self._contract = contract
        self._batch = batch

    def bind(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return the call that puts one step on the stream, which reads and writes these addresses."""
        session, options = self._session, self._options
        binding = session.io_binding()
        for spec in self._contract.step_inputs:
            shape = spec.with_batch(self._batch)
            binding.bind_input(spec.name, "cuda", 0, spec.dtype, shape, addresses[spec.name])
        for spec in self._contract.step_outputs:
            shape = spec.with_batch(self._batch)
            binding.bind_output(spec.name, "cuda", 0, spec.dtype, shape, addresses[spec.name])

        def step() -> None:
            try:
                session.run_with_iobinding(binding, options)
            except Exception as error:  # ONNX Runtime has an exception class per status code and no common base
                raise BackendError(
                    f"ONNX Runtime failed in a step ({error})",
                    "a step that runs",
                    "run 'stunet verify' on the bundle with this backend",
                ) from error

        return step

    def close(self) -> None:
        """Drop the session; the program must not be used afterwards."""
        self._session = None


def import_gpu_onnxruntime(provider: str, precision: str) -> ModuleType:
    """Return ONNX Runtime, of the wheel that has the provider.

    Raises:
        BackendError: if it is missing, installed twice, the CPU's wheel, or cannot keep the precision.
    """
    ort = import_onnxruntime(EXTRA)
    available = ort.get_available_providers()
    if provider not in available:
        raise BackendError(
            f"this onnxruntime {ort.__version__} has the providers {', '.join(available)}",
            f"{provider}, which the wheel onnxruntime-gpu has",
            "pip uninstall -y onnxruntime, then pip install 'stunet-deploy[gpu]'",
        )
    if provider == TENSORRT_PROVIDER and precision == FLOAT32 and os.environ.get(TF32_OVERRIDE) != "0":
        raise BackendError(
            f"ONNX Runtime's TensorRT provider in {FLOAT32}, which rounds products to TF32 and has no switch for it",
            f"the environment variable {TF32_OVERRIDE}=0, or a precision that allows it",
            f"set {TF32_OVERRIDE}=0, or choose --precision tf32, or --backend onnxruntime-cuda",
        )
    return ort
