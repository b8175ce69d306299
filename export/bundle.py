"""From a checkpoint to a verified bundle: nothing appears under its name before it has proved itself."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from export.cpu_graph import cpu_graph
from export.golden import make_golden, rounding
from export.precision.measure import MAX_LOSS, check_loss, loss, make_candidate, measure_parity
from export.scores import score_reference
from export.step_graph import check_step, export_step
from runtime.verify import verify
from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import BundleError, CheckFailed, StunetError
from stunet_deploy.files import sha256, sync_folder
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.precisions import CPU_STEP, FLOAT32, PRECISIONS, STEP, check_precision, graph_name

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
        bundle = _make(checkpoint, made, report)
        for precision in sorted(set(precisions) - {FLOAT32}, key=PRECISIONS.index):
            report(f"making {precision} and measuring what it costs")
            bundle = _add_precision(bundle, checkpoint, precision, max_loss, force)
        bundle = Bundle.load(made)
        sync_folder(made)
        _put_in_place(made, target, scratch / "replaced")
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(bundle, path=target)


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


def _make(checkpoint: Checkpoint, folder: Path, report: Callable[[str], None]) -> Bundle:
    """Make a bundle of the float32 step; each part of the work adds a file or what it has measured to the manifest."""
    manifest = _describe(checkpoint)
    report("exporting the step")
    graph = export_step(checkpoint.model, manifest.essentials())
    bundle = _with_step(Bundle(folder, manifest), graph)
    report("forecasting the golden stream in float64")
    bundle = _with_golden(bundle, checkpoint)
    report("verifying against the golden stream")
    bundle = _verified(bundle, STEP)
    lighter = cpu_graph(graph)
    if lighter is not None:
        report("verifying the form of the step for processors")
        check_step(lighter, manifest.contract)
        bundle = _verified(_with_graph(bundle, CPU_STEP, lighter), CPU_STEP)
    report("scoring the reference stream")
    return _scored(bundle, checkpoint)


def _with_step(bundle: Bundle, graph: onnx.ModelProto) -> Bundle:
    """Add the step, which gives the bundle its identity."""
    bundle = _with_graph(bundle, STEP, graph)
    identity = bundle.manifest.identity(bundle.read(STEP))
    return _with_manifest(bundle, replace(bundle.manifest, bundle_id=identity))


def _with_golden(bundle: Bundle, checkpoint: Checkpoint) -> Bundle:
    """Add the golden stream, and how far from it a device may be."""
    golden = make_golden(checkpoint)
    golden.save(bundle.path / GOLDEN)
    bundle = _with_file(bundle, GOLDEN)
    return _with_manifest(bundle, replace(bundle.manifest, tolerance=_tolerance(checkpoint, golden)))


def _with_graph(bundle: Bundle, name: str, graph: onnx.ModelProto) -> Bundle:
    """Add a graph."""
    (bundle.path / name).write_bytes(graph.SerializeToString(deterministic=True))
    return _with_file(bundle, name)


def _with_file(bundle: Bundle, name: str) -> Bundle:
    """Add the hash of a file that was written."""
    files = {**bundle.manifest.files, name: sha256((bundle.path / name).read_bytes())}
    return _with_manifest(bundle, replace(bundle.manifest, files=files))


def _with_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Write the manifest anew."""
    (bundle.path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return replace(bundle, manifest=manifest)


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


def _verified(bundle: Bundle, graph: str) -> Bundle:
    """Verify the float32 step and add its difference from the reference; ``graph`` is the file that the backend runs.

    Raises:
        CheckFailed: if that difference is above the tolerance.
    """
    outcome = verify(bundle)
    if not outcome:
        raise CheckFailed(
            f"{graph} differs from the float64 reference by {outcome.max_abs_error:.3g} "
            f"(tolerance {outcome.tolerance:.3g}, worst at {outcome.worst}); no bundle was written"
        )
    measured = outcome.to_json()
    kept = {key: measured[key] for key in ("backend", "intervals", "max_abs_error", "mean_abs_error", "course")}
    parity = {FLOAT32: kept | {"measured_by": "onnxruntime"}}
    return _with_manifest(bundle, replace(bundle.manifest, parity=parity))


def _scored(bundle: Bundle, checkpoint: Checkpoint) -> Bundle:
    """Add the errors on the reference stream."""
    accuracy = {FLOAT32: {"results": score_reference(bundle, checkpoint)}}
    return _with_manifest(bundle, replace(bundle.manifest, accuracy=accuracy))


def _add_precision(bundle: Bundle, checkpoint: Checkpoint, precision: str, max_loss: float, force: bool) -> Bundle:
    """Add a precision's graph to a bundle that is not yet in its place, and what it costs to the manifest."""
    manifest, name = bundle.manifest, graph_name(precision)
    candidate = make_candidate(precision, onnx.load_from_string(bundle.read(STEP)), bundle, checkpoint.reference)
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
    if name != STEP:
        bundle = _with_graph(bundle, name, candidate.graph)
    manifest = replace(
        bundle.manifest,
        parity={**manifest.parity, precision: parity},
        accuracy={**manifest.accuracy, precision: accuracy},
    )
    return _with_manifest(bundle, manifest)


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


def _unwritable(target: Path, error: OSError) -> StunetError:
    return StunetError(
        f"{target} cannot be written ({error.strerror or error})",
        "a place with write permission and enough space",
        "choose another --out or free some space",
    )
