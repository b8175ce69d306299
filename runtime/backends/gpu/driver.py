"""The NVIDIA driver, asked before TensorRT is: without one TensorRT may crash instead of raising."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stunet_deploy.errors import BackendError

#: The first driver with TensorRT 10.3's CUDA 12; a newer ``cuda-bindings`` asks for a newer one.
OLDEST_CUDA = 12


@dataclass(frozen=True)
class Device:
    """The GPU that the process would use.

    Attributes:
        index: its number among the visible devices.
        name: as the driver calls it.
        compute_capability: major and minor, for instance ``8.7``.
        driver_cuda: the CUDA version that the driver supports, for instance ``13.0``.
        memory_bytes: its whole memory; on a Jetson that is the memory of the board.
    """

    index: int
    name: str
    compute_capability: str
    driver_cuda: str
    memory_bytes: int


def require_driver(index: int = 0) -> Device:
    """Return the device, after asking driver and device whether they are there; creates no context on it.

    Raises:
        BackendError: if cuda-bindings or the driver's library is missing, the driver is too old for the CUDA that is
            installed here, or there is no such device.
    """
    try:
        import cuda.bindings
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError(
            f"the Python module cuda.bindings cannot be imported ({error})",
            "NVIDIA's cuda-python, which steps the engine on the GPU",
            "pip install 'cuda-bindings>=12.6.1,<13' for CUDA 12, or 'cuda-bindings>=13' for CUDA 13",
        ) from error
    try:
        (status,) = driver.cuInit(0)
        _check(driver, status, "cuInit")
        version: int = _call(driver, "cuDriverGetVersion")
        needed = max(OLDEST_CUDA, int(cuda.bindings.__version__.partition(".")[0]))
        if version < 1000 * needed:
            raise BackendError(
                f"an NVIDIA driver for CUDA {_cuda(version)}",
                f"a driver for CUDA {needed} or newer, as cuda-bindings {cuda.bindings.__version__} is",
                "update the driver or JetPack"
                + f", or install cuda-bindings and TensorRT for CUDA {OLDEST_CUDA}" * (version >= 1000 * OLDEST_CUDA),
            )
        count: int = _call(driver, "cuDeviceGetCount")
        if index >= count:
            raise BackendError(
                f"GPU {index} of {count}", "a visible NVIDIA GPU", "check CUDA_VISIBLE_DEVICES and nvidia-smi"
            )
        device = _call(driver, "cuDeviceGet", index)
        attribute = driver.CUdevice_attribute
        major = _call(driver, "cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
        minor = _call(driver, "cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
        name: bytes = _call(driver, "cuDeviceGetName", 256, device)
        return Device(
            index=index,
            name=name.split(b"\0")[0].decode(errors="replace"),
            compute_capability=f"{major}.{minor}",
            driver_cuda=_cuda(version),
            memory_bytes=int(_call(driver, "cuDeviceTotalMem", device)),
        )
    except BackendError:
        raise
    except Exception as error:  # the library is looked for at the first call, and its absence has no documented class
        raise BackendError(
            f"the NVIDIA driver cannot be used ({str(error).splitlines()[0] if str(error) else error!r})",
            "the driver's library libcuda.so.1, of a version that cuda-bindings knows",
            "install the NVIDIA driver until nvidia-smi works (on a Jetson: JetPack; in a container: run it with its "
            "GPUs), or forecast on the CPU with --backend onnxruntime",
        ) from error


def find_device() -> Device | None:
    """Return the device if a driver and a GPU are there, otherwise None."""
    try:
        return require_driver()
    except BackendError:
        return None


def _call(driver: Any, function: str, *arguments: Any) -> Any:
    """Call the driver and return its one result."""
    status, *results = getattr(driver, function)(*arguments)
    _check(driver, status, function)
    return results[0]


def _check(driver: Any, status: Any, function: str) -> None:
    if int(status) == 0:
        return
    name = getattr(status, "name", None) or str(int(status))
    old = {driver.CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, driver.CUresult.CUDA_ERROR_SYSTEM_NOT_READY}
    raise BackendError(
        f"the NVIDIA driver answers {function} with {name}",
        "a driver that works and a visible NVIDIA GPU",
        "restart after an update of the driver, and see whether nvidia-smi works"
        if status in old
        else "check the GPU with nvidia-smi, and CUDA_VISIBLE_DEVICES; the CPU works with --backend onnxruntime",
    )


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
