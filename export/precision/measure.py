"""The cost of a precision: its difference over the golden stream and its forecast errors on the reference stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.precision.calibrate import calibrate
from export.precision.emulate import emulate_half, emulate_tf32
from export.precision.half import HALVES, half_graph
from export.precision.int8 import calibrated_values, int8_graph
from runtime.backends.base import open_backend
from runtime.golden_replay import compare_golden, golden_forecasts, recorded_inputs
from stunet_deploy.bundle import Bundle, Golden
from stunet_deploy.compare import course
from stunet_deploy.errors import CheckFailed
from stunet_deploy.files import sha256
from stunet_deploy.precisions import STEP
from stunet_deploy.series.series import Series

#: Largest share of MAE that a precision may lose against fp32.
MAX_LOSS = 0.005
#: Tolerance of a precision, in multiples of the largest difference measured. Hardware that cuts operands instead of
#: rounding them doubles a difference, and sums in another order move it.
TOLERANCE_FACTOR = 3.0


@dataclass(frozen=True)
class Candidate:
    """A precision's graph whose loss is not yet known.

    Attributes:
        precision: its name.
        graph: what the bundle would hold; the float32 step for tf32.
        measured: the graph that is run to measure it.
        measured_by: ``onnxruntime`` if that is the graph itself, or ``emulated``.
    """

    precision: str
    graph: onnx.ModelProto
    measured: onnx.ModelProto
    measured_by: str

    @contextmanager
    def opened(self, bundle: Bundle) -> Iterator[Bundle]:
        """Give a bundle whose only graph, the float32 step, is the one that is run to measure this precision."""
        with tempfile.TemporaryDirectory() as folder:
            graph = self.measured.SerializeToString(deterministic=True)
            (Path(folder) / STEP).write_bytes(graph)
            yield Bundle(Path(folder), replace(bundle.manifest, files={STEP: sha256(graph)}))


def make_candidate(precision: str, step: onnx.ModelProto, bundle: Bundle, reference: Series) -> Candidate:
    """Return the graph of a precision.

    Args:
        precision: any but fp32.
        step: the float32 step.
        bundle: that holds it, for its contract and clock.
        reference: what int8 is calibrated on.
    """
    if precision in HALVES:
        graph = half_graph(step, precision)
        return Candidate(precision, graph, emulate_half(graph, precision), "emulated")
    if precision == "tf32":
        return Candidate(precision, step, emulate_tf32(step), "emulated")
    recording = recorded_inputs(bundle.manifest, reference.timestamps, reference.values, reference.observed)
    graph = int8_graph(step, calibrate(step, bundle.manifest.contract, recording, calibrated_values(step)))
    return Candidate(precision, graph, graph, "onnxruntime")


def measure_parity(candidate: Candidate, opened: Bundle, golden: Golden) -> dict[str, Any]:
    """Return a precision's difference from the float64 reference, and the tolerance that follows from it.

    Args:
        candidate: the precision.
        opened: as :meth:`Candidate.opened` gives it.
        golden: the recorded stream.

    Raises:
        CheckFailed: if a forecast is not finite.
    """
    with closing(open_backend(opened)) as runner:
        found = golden_forecasts(runner, opened.manifest, golden)
    if not np.isfinite(found).all():
        raise CheckFailed(
            f"precision {candidate.precision} forecasts numbers that are not finite on the golden stream; "
            "expected finite ones; leave it out of --precision"
        )
    least = opened.manifest.tolerance
    comparisons = compare_golden(found, golden, least)
    worst = max(comparisons, key=lambda comparison: comparison.severity)
    return {
        "backend": "onnxruntime",
        "measured_by": candidate.measured_by,
        "intervals": len(golden.timestamps),
        "max_abs_error": worst.max_abs_error,
        "mean_abs_error": worst.mean_abs_error,
        "tolerance": [
            max(at_least, TOLERANCE_FACTOR * comparison.max_abs_error)
            for at_least, comparison in zip(least, comparisons, strict=True)
        ],
        "course": course(worst),
    }


def loss(results: Sequence[Mapping[str, Any]], single: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the largest share of MAE that scores lose against those of fp32, over lead times and targets.

    None where there are no scores. Less than 0 if every one is better.
    """
    pairs = [
        (float(found["mae"]), float(base["mae"]))
        for found, base in zip(results, single, strict=True)
        if found["mae"] is not None and base["mae"]
    ]
    return round(max(found / base - 1 for found, base in pairs), 9) if pairs else None


def check_loss(precision: str, share: float | None, max_loss: float) -> None:
    """Refuse a precision that loses more than a share of MAE, or whose loss cannot be measured.

    Raises:
        CheckFailed: with what it loses, what would have been right and what to do.
    """
    if share is None:
        raise CheckFailed(
            f"the loss of precision {precision} cannot be measured: the reference stream has no scores; expected one "
            "longer than a window and its labels; train on a longer recording, or write it all the same with --force"
        )
    if share > max_loss:
        raise CheckFailed(
            f"precision {precision} loses {share:.2%} of MAE on the reference stream; expected at most {max_loss:.2%}; "
            "leave it out of --precision, allow more with --max-loss, or write it all the same with --force; no bundle "
            "was written"
        )
