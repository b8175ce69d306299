"""From a checkpoint to a verified bundle: nothing appears under its name before it has proved itself."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from export.cpu_graph import cpu_graph
from export.golden import make_golden, rounding
from export.precision.measure import MAX_LOSS, check_loss, loss, make_candidate, measure_parity
from export.step_graph import check_step, export_step
from runtime.verify import Verification, carried_forecasts, verify
from stunet_deploy.bundle import (
    CPU_STEP,
    FLOAT32,
    GOLDEN,
    MANIFEST,
    PRECISIONS,
    STEP,
    Bundle,
    Golden,
    Manifest,
    bundle_id,
    check_precision,
    graph_name,
    sha256,
)
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import BundleError, CheckFailed, StunetError
from stunet_deploy.files import sync_folder
from stunet_deploy.metrics import ErrorSums, scored_horizons

#: Largest difference from the float64 reference, in training standard deviations of each target …
TOLERANCE_STD = 5e-5
#: … or, if that is more, in multiples of what the model in float32 differs by: an export adds up in another order.
TOLERANCE_ROUNDING = 3.0
#: A model that magnifies the rounding of float32 to more than this, in the same deviations, is not exported.
MAX_ROUNDING_STD = 5e-3


def export_bundle(
    checkpoint: Checkpoint,
    out: str | Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    precisions: Sequence[str] = (FLOAT32,),
    max_loss: float = MAX_LOSS,
    force: bool = False,
) -> Bundle:
    """Export, verify and put in place.

    The bundle is made in a temporary folder beside ``out`` and renamed when its verification has passed; an existing
    bundle is replaced whole. The same checkpoint, machine and versions give the same bytes.

    Args:
        checkpoint: what to export.
        out: the bundle's folder.
        report: called with a line of text before each part of the work.
        precisions: further precisions to write and measure; fp32 is always there.
        max_loss: largest share of MAE that a precision may lose against fp32.
        force: write a precision that loses more all the same; the manifest says so.

    Returns:
        The bundle in its place.

    Raises:
        BundleError: if ``out`` is something else than a bundle or an empty folder.
        ConfigError: if a precision is unknown.
        CheckFailed: if the verification fails or a precision loses too much; nothing is left behind.
        StunetError: if the folder cannot be written.
    """
    target = Path(out)
    for precision in precisions:
        check_precision(precision)
    try:
        check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        made = scratch / target.name
        made.mkdir()
        bundle = _write(checkpoint, made, report)
        for precision in sorted(set(precisions) - {FLOAT32}, key=PRECISIONS.index):
            report(f"making {precision} and measuring what it costs")
            bundle = _add_precision(bundle, checkpoint, precision, max_loss, force)
        sync_folder(made)
        _put_in_place(made, target, scratch / "replaced")
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.load(target)


def check_replaceable(target: Path) -> None:
    """Refuse a target that holds anything else than a bundle.

    Raises:
        BundleError: naming what is there.
    """
    is_bundle = all((target / name).is_file() for name in (MANIFEST, STEP))  # other programs have a manifest.json too
    if target.is_dir() and (is_bundle or not any(target.iterdir())):
        return
    if target.exists():
        kind = "a folder with other files" if target.is_dir() else "a file"
        raise BundleError(f"{target} is {kind}", "a new name, an empty folder or a bundle", "choose another --out")


def _put_in_place(made: Path, target: Path, replaced: Path) -> None:
    """Rename a finished bundle to its target; what was there comes back if that fails."""
    if target.exists():
        os.replace(target, replaced)
    try:
        os.replace(made, target)
    except BaseException:  # an interrupt too
        if replaced.exists():
            os.replace(replaced, target)
        raise


def _write(checkpoint: Checkpoint, folder: Path, report: Callable[[str], None]) -> Bundle:
    """Write a whole bundle: the manifest twice, the second time with what was measured on the first."""
    manifest = _describe(checkpoint)
    report("exporting the step")
    graph = export_step(checkpoint.model, manifest.essentials())
    step = graph.SerializeToString(deterministic=True)
    (folder / STEP).write_bytes(step)
    report("forecasting the golden stream in float64")
    golden = make_golden(checkpoint)
    golden.save(folder / GOLDEN)
    manifest = replace(
        manifest,
        tolerance=_tolerance(checkpoint, golden),
        files={name: sha256((folder / name).read_bytes()) for name in (STEP, GOLDEN)},
        bundle_id=bundle_id(step, manifest.contract, manifest.sensor_ids),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    bundle = Bundle.load(folder)
    report("verifying against the golden stream")
    outcome = _verified(bundle, STEP)
    lighter = cpu_graph(graph)
    if lighter is not None:
        report("verifying the form of the step for processors")
        check_step(lighter, manifest.contract)
        (folder / CPU_STEP).write_bytes(lighter.SerializeToString(deterministic=True))
        manifest = replace(manifest, files={**manifest.files, CPU_STEP: sha256((folder / CPU_STEP).read_bytes())})
        bundle = _with_manifest(bundle, manifest)
        outcome = _verified(bundle, CPU_STEP)
    report("scoring the reference stream")
    manifest = replace(
        manifest,
        parity={FLOAT32: _parity(outcome)},
        accuracy={FLOAT32: {"results": score_reference(bundle, checkpoint)}},
    )
    return _with_manifest(bundle, manifest)


def _tolerance(checkpoint: Checkpoint, golden: Golden) -> tuple[float, ...]:
    """Return the largest difference from the reference that passes, per target.

    Raises:
        CheckFailed: if float32 is not enough for the model.
    """
    signal = checkpoint.model.signal
    own = rounding(checkpoint, golden)
    for target, error, scale in zip(signal.targets, own, signal.target_scale, strict=True):
        if not error <= MAX_ROUNDING_STD * scale:
            raise CheckFailed(
                f"in float32 the model's forecasts of {target} differ from those in float64 by {error:.3g}, more than "
                f"{MAX_ROUNDING_STD:g} of its standard deviation: it magnifies rounding; no bundle was written"
            )
    return tuple(
        max(TOLERANCE_STD * scale, TOLERANCE_ROUNDING * error)
        for error, scale in zip(own, signal.target_scale, strict=True)
    )


def _verified(bundle: Bundle, graph: str) -> Verification:
    """Verify a bundle that is not yet in its place; ``graph`` is the file that the backend runs.

    Raises:
        CheckFailed: if the difference from the reference is above the tolerance.
    """
    outcome = verify(bundle)
    if not outcome:
        raise CheckFailed(
            f"{graph} differs from the float64 reference by {outcome.max_abs_error:.3g} "
            f"(tolerance {outcome.tolerance:.3g}, worst at {outcome.worst}); no bundle was written"
        )
    return outcome


def _add_precision(bundle: Bundle, checkpoint: Checkpoint, precision: str, max_loss: float, force: bool) -> Bundle:
    """Add a precision's graph to a bundle that is not yet in its place, and what it costs to the manifest."""
    manifest, name = bundle.manifest, graph_name(precision)
    candidate = make_candidate(precision, onnx.load(bundle.step), bundle, checkpoint.reference)
    check_step(candidate.graph, manifest.contract)
    with candidate.opened(bundle) as opened:
        parity = measure_parity(candidate, opened, bundle.golden())
        results = score_reference(opened, checkpoint)
    lost = loss(results, manifest.accuracy[FLOAT32]["results"])
    accuracy = {"results": results, "loss": lost}
    try:
        check_loss(precision, lost, max_loss)
    except CheckFailed:
        if not force:
            raise
        accuracy["forced"] = True
    files = dict(manifest.files)
    if name != STEP:
        (bundle.path / name).write_bytes(candidate.graph.SerializeToString(deterministic=True))
        files[name] = sha256((bundle.path / name).read_bytes())
    manifest = replace(
        manifest,
        files=files,
        parity={**manifest.parity, precision: parity},
        accuracy={**manifest.accuracy, precision: accuracy},
    )
    return _with_manifest(bundle, manifest)


def _with_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    (bundle.path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return replace(bundle, manifest=manifest)


def _describe(checkpoint: Checkpoint) -> Manifest:
    model, site = checkpoint.model, checkpoint.site
    signal = model.signal
    return Manifest(
        contract=model.contract,
        model=model.family,
        config=model.description(),
        site=site,
        targets=signal.targets,
        target_units=signal.target_units,
        limits=tuple(zip(signal.low, signal.high, strict=True)),
        mean=signal.mean,
        std=signal.std,
        horizon=model.config.horizon,
        window=model.config.window,
        tolerance=(),  # known when the reference is
        phase_s=int(checkpoint.reference.timestamps[0]) % site.interval_s,
        training=checkpoint.training,
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxscript": onnxscript.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )


def _parity(outcome: Verification) -> dict[str, Any]:
    measured = outcome.to_json()
    kept = {key: measured[key] for key in ("backend", "intervals", "max_abs_error", "mean_abs_error", "course")}
    return kept | {"measured_by": "onnxruntime"}


def score_reference(bundle: Bundle, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return the carried errors of a bundle on the checkpoint's reference stream, as ``stunet evaluate`` prints them.

    The stream is the one before the test span: most of it was trained on. It serves to compare precisions with one
    another, not to judge the model; for that, evaluate on recordings of your own. A stream shorter than a window and
    its labels gives no errors, nor do targets of which a recording has no labels.
    """
    reference, manifest, signal = checkpoint.reference, bundle.manifest, checkpoint.model.signal
    if not signal.forecasts_features or len(reference.timestamps) < manifest.window + manifest.horizon:
        return []
    columns = list(signal.target_index)
    labels, known = reference.values[..., columns], reference.observed[..., columns]
    sums = ErrorSums()
    scored = slice(len(reference.timestamps) - manifest.horizon)
    recording = (reference.timestamps[scored], reference.values[scored], reference.observed[scored])
    for t, forecast in enumerate(carried_forecasts(bundle, *recording)):
        if t >= manifest.window - 1:
            ahead = slice(t + 1, t + 1 + manifest.horizon)
            sums.add(forecast[None], labels[ahead][None], known[ahead][None])
    scores = sums.scores()
    return [
        {
            "model": manifest.model,
            "protocol": "stream",
            "span": "reference",
            "target": target,
            "horizon_minutes": manifest.horizons_min[step - 1],
            "mae": _rounded(scores.mae[step - 1, column]),
            "mape": _rounded(scores.mape[step - 1, column]),
            "rmse": _rounded(scores.rmse[step - 1, column]),
            "count": int(scores.count[step - 1, column]),
        }
        for step in scored_horizons(manifest.horizon)
        for column, target in enumerate(manifest.targets)
    ]


def _rounded(number: float) -> float | None:
    return round(float(number), 6) if np.isfinite(number) else None


def _unwritable(target: Path, error: OSError) -> StunetError:
    return StunetError(
        f"{target} cannot be written ({error.strerror or error})",
        "a place with write permission and enough space",
        "choose another --out or free some space",
    )
