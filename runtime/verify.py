"""Verification: a bundle proves itself on this device, by forecasting its golden stream again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from runtime.backends.base import ONNXRUNTIME, open_backend
from runtime.clock import is_time
from runtime.golden_replay import compare_golden, golden_forecasts
from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.compare import Comparison, course, json_number
from stunet_deploy.errors import BundleError
from stunet_deploy.manifest import Manifest
from stunet_deploy.precisions import FLOAT32
from stunet_deploy.series.times import format_time


@dataclass(frozen=True)
class Verification:
    """The outcome of :func:`verify`; true when it passes.

    Attributes:
        backend: what was verified.
        precision: of the graph that was verified.
        intervals: number of intervals that were streamed, state carried.
        comparison: of the forecasts with the float64 reference, in units of the target: of the one that comes closest
            to its tolerance, or exceeds it most.
        worst: where that difference is largest: issued_at, horizon_min, sensor, target, found, expected.
    """

    backend: str
    precision: str
    intervals: int
    comparison: Comparison
    worst: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every forecast is within the manifest's tolerance."""
        return self.comparison.passed

    def __bool__(self) -> bool:
        return self.passed

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference."""
        return self.comparison.max_abs_error

    @property
    def mean_abs_error(self) -> float:
        """Mean absolute difference."""
        return self.comparison.mean_abs_error

    @property
    def tolerance(self) -> float:
        """Largest difference that passes."""
        return self.comparison.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the verification as JSON, with the course of the error over time last."""
        return {
            "passed": self.passed,
            "backend": self.backend,
            "precision": self.precision,
            "intervals": self.intervals,
            "max_abs_error": json_number(self.max_abs_error),
            "mean_abs_error": json_number(self.mean_abs_error),
            "tolerance": self.tolerance,
            "worst": self.worst,
            "scored": self.comparison.intervals,
            "course": course(self.comparison),
        }


def verify(bundle: Bundle, backend: str = ONNXRUNTIME, *, precision: str = FLOAT32, threads: int = 1) -> Verification:
    """Check every file of a bundle, then replay its golden stream and compare with the float64 reference.

    A precision is held to the tolerance that export measured for it.

    Args:
        bundle: what to verify.
        backend, precision, threads: see :func:`runtime.backends.base.open_backend`.

    Raises:
        BundleError: if a file is missing or altered, the golden stream does not fit the manifest, or the precision was
            not exported.
        BackendError: if the backend does not serve.
    """
    bundle.check_files()
    manifest = bundle.manifest
    tolerances = manifest.tolerance_of(precision)
    golden = bundle.golden()
    _check_golden(golden, manifest)
    with closing(open_backend(bundle, backend, precision=precision, threads=threads)) as runner:
        found = golden_forecasts(runner, manifest, golden)
    comparisons = compare_golden(found, golden, tolerances)
    target = max(range(len(comparisons)), key=lambda column: comparisons[column].severity)
    comparison = comparisons[target]
    issue, horizon, node = comparison.worst
    return Verification(
        backend=backend,
        precision=precision,
        intervals=len(golden.timestamps),
        comparison=comparison,
        worst={
            "issued_at": format_time(golden.timestamps[golden.scored[issue]]),
            "horizon_min": manifest.horizons_min[horizon],
            "sensor": manifest.sensor_ids[node],
            "target": manifest.targets[target],
            "found": json_number(float(found[..., target][comparison.worst])),
            "expected": json_number(float(golden.forecast[..., target][comparison.worst])),
        },
    )


def _check_golden(golden: Golden, manifest: Manifest) -> None:
    if golden.timestamps.ndim != 1 or golden.scored.ndim != 1 or not all(map(is_time, golden.timestamps.tolist())):
        raise BundleError(f"{GOLDEN} without a list of times", "seconds since the epoch", "export the model again")
    time, issues, nodes = len(golden.timestamps), len(golden.scored), len(manifest.sensor_ids)
    cells = (time, nodes, len(manifest.features))
    forecasts = (issues, manifest.horizon, nodes, len(manifest.targets))
    shapes = (golden.values.shape, golden.observed.shape, golden.forecast.shape)
    inside = issues > 0 and bool(((golden.scored >= 0) & (golden.scored < time)).all())
    if shapes != (cells, cells, forecasts) or not inside or len(set(golden.scored.tolist())) < issues:
        raise BundleError(
            f"{GOLDEN} with values, observed and forecast of shapes {shapes}",
            f"{(cells, cells, forecasts)}, and scored intervals among them",
            "export the model again",
        )
