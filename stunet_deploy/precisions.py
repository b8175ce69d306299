"""The precisions of a step, and the file of each one's graph."""

from __future__ import annotations

from stunet_deploy.errors import ConfigError

STEP = "step.onnx"
#: The float32 step as a processor computes it with the least work; only where it is not ``STEP``.
CPU_STEP = "step.cpu.onnx"
#: Key of the float32 step among the precisions of ``parity`` and ``accuracy``.
FLOAT32 = "fp32"
TF32 = "tf32"
#: Every precision by name. One graph each, but for tf32: the float32 graph on a device that may round its products.
PRECISIONS = (FLOAT32, TF32, "fp16", "bf16", "int8")


def graph_name(precision: str) -> str:
    """Return the file of a precision's step graph; that of tf32 is the float32 one."""
    return STEP if precision in (FLOAT32, TF32) else f"step.{precision}.onnx"


def check_precision(precision: str) -> None:
    """Refuse what is no precision.

    Raises:
        ConfigError: naming those there are.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}", f"one of {', '.join(PRECISIONS)}", "choose one of these")
