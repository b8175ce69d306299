"""Precisions in a bundle: measured, held to their own tolerance, and refused where they lose too much."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from export.bundle import export_bundle
from export.precision.measure import TOLERANCE_FACTOR, check_loss, loss
from runtime.backends.base import open_backend
from runtime.inspect import explain, inspect
from runtime.verify import verify
from stunet_deploy.bundle import GOLDEN, Bundle
from stunet_deploy.errors import BackendError, BundleError, CheckFailed, ConfigError
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.precisions import PRECISIONS, STEP

ALL = ("int8", "fp16", "tf32", "bf16", "fp16")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def precise(make, tmp_path_factory) -> Bundle:
    """Return a bundle with every precision."""
    return export_bundle(make(), tmp_path_factory.mktemp("precise") / "model.bundle", precisions=ALL, max_loss=1.0)


def test_every_precision_but_tf32_has_a_graph_of_its_own(precise, exported_bundle):
    files = {MANIFEST, STEP, GOLDEN, "step.bf16.onnx", "step.fp16.onnx", "step.int8.onnx"}

    assert set(names(precise.path)) == files
    assert set(precise.manifest.files) == files - {MANIFEST}
    precise.check_files()
    assert precise.graph("tf32") == precise.graph()
    assert precise.manifest.bundle_id == exported_bundle.manifest.bundle_id


def test_the_manifest_says_what_each_costs_and_how_it_was_measured(precise):
    manifest = precise.manifest

    assert set(manifest.parity) == set(manifest.accuracy) == set(PRECISIONS)
    by = {precision: parity["measured_by"] for precision, parity in manifest.parity.items()}
    emulated = dict.fromkeys(("tf32", "fp16", "bf16"), "emulated")
    assert by == emulated | {"fp32": "onnxruntime", "int8": "onnxruntime"}
    base = [entry["mae"] for entry in manifest.accuracy["fp32"]["results"]]
    for precision in set(PRECISIONS) - {"fp32"}:
        parity, accuracy = manifest.parity[precision], manifest.accuracy[precision]
        assert manifest.tolerance_of(precision) == pytest.approx((TOLERANCE_FACTOR * parity["max_abs_error"],))
        assert parity["max_abs_error"] > manifest.tolerance[0]
        assert len(parity["course"]["mean"]) == 10
        shares = [entry["mae"] / mae - 1 for entry, mae in zip(accuracy["results"], base, strict=True)]
        assert accuracy["loss"] == pytest.approx(max(shares), abs=1e-6)
        assert "forced" not in accuracy
    errors = [manifest.parity[precision]["mean_abs_error"] for precision in ("fp32", "fp16", "bf16", "int8")]
    assert errors == sorted(errors)
    assert manifest.tolerance == manifest.tolerance_of("fp32") == pytest.approx((5e-5 * 12,))


def test_the_same_checkpoint_gives_the_same_bytes(precise, make, tmp_path):
    again = export_bundle(make(), tmp_path / "again.bundle", precisions=sorted(ALL), max_loss=1.0)

    assert names(again.path) == names(precise.path)
    for name in names(again.path):
        assert (again.path / name).read_bytes() == (precise.path / name).read_bytes(), name


def test_a_lone_graph_of_a_precision_explains_itself(precise):
    properties = {p.key: p.value for p in onnx.load(precise.graph("int8").path).metadata_props}

    assert properties == precise.manifest.essentials() | {"stunet.precision": '"int8"'}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_device_is_held_to_the_tolerance_of_the_precision(precise, precision):
    outcome = verify(precise, precision=precision)

    assert outcome
    assert outcome.precision == precision
    assert (outcome.tolerance,) == precise.manifest.tolerance_of(precision)
    parity = dict(precise.manifest.parity)
    parity[precision] = parity[precision] | {"tolerance": [outcome.max_abs_error / 2]}
    assert not verify(Bundle(precise.path, replace(precise.manifest, parity=parity)), precision=precision)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_cpu_refuses_what_it_cannot_compute(precise, precision):
    with pytest.raises(BackendError, match=f"precision {precision} on a CPU"):
        open_backend(precise, precision=precision)
    with pytest.raises(BackendError, match=f"precision {precision} on a CPU"):
        verify(precise, precision=precision)


@pytest.mark.parametrize("precision", ["int8", "tf32"])
def test_a_precision_that_was_not_exported_is_named_with_the_command(exported_bundle, precision):
    with pytest.raises(BundleError, match=f"--precision {precision}"):
        verify(exported_bundle, precision=precision)
    with pytest.raises(ConfigError, match="fp4"):
        verify(exported_bundle, precision="fp4")


def test_inspect_shows_every_precision(precise):
    described, text = json.loads(json.dumps(inspect(precise))), explain(precise)

    assert list(described["precisions"]) == list(PRECISIONS)
    assert described["precisions"]["tf32"]["file"] == STEP
    assert described["precisions"]["bf16"]["parity"]["measured_by"] == "emulated"
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "emulated" in lines["fp16"]
    assert "measured on onnxruntime" in lines["int8"]
    assert "differs by" in lines["tf32"]


@pytest.fixture
def ruined(make):
    """Return a checkpoint whose weights int8 cannot hold: beside one of 10⁵ for a channel that is always 0."""
    checkpoint = make("ST-UNet")
    model = checkpoint.model
    with torch.no_grad():
        model.encoder.contracting[0].norm.weight[2] = 0
        model.encoder.contracting[0].norm.bias[2] = 0
        cell = model.encoder.contracting[1].cell
        cell.input_weight[2::4] = 1e5
    return checkpoint


def test_a_precision_that_ruins_the_forecast_is_refused_and_leaves_nothing(ruined, tmp_path):
    with pytest.raises(CheckFailed, match=r"precision int8 loses .* of MAE .*; expected at most 0\.50%; .*--force"):
        export_bundle(ruined, tmp_path / "model.bundle", precisions=["int8"])
    assert list(tmp_path.iterdir()) == []


def test_force_writes_it_and_the_manifest_says_so(ruined, tmp_path):
    bundle = export_bundle(ruined, tmp_path / "model.bundle", precisions=["int8", "fp16"], force=True)

    accuracy = bundle.manifest.accuracy
    assert accuracy["int8"]["forced"] is True
    assert accuracy["int8"]["loss"] > 0.005
    assert "forced" in explain(bundle)
    # fp16 leaves the product with the huge weights in float32.
    assert "forced" not in accuracy["fp16"]
    assert verify(bundle, precision="fp16")


def test_an_unknown_precision_is_refused_before_any_work(make, tmp_path):
    with pytest.raises(ConfigError, match="'fp8'"):
        export_bundle(make(), tmp_path / "model.bundle", precisions=["fp8"])
    assert list(tmp_path.iterdir()) == []


def test_loss_is_the_worst_over_lead_times():
    single = [{"mae": 2.0}, {"mae": 4.0}, {"mae": None}, {"mae": 1.0}]

    assert loss([{"mae": 2.01}, {"mae": 4.0}, {"mae": None}, {"mae": 0.5}], single) == pytest.approx(0.005)
    assert loss([{"mae": 1.0}, {"mae": 3.0}, {"mae": None}, {"mae": 0.5}], single) == pytest.approx(-0.25)
    assert loss([], []) is None
    assert loss([{"mae": None}], [{"mae": None}]) is None
    check_loss("fp16", 0.005, 0.005)
    check_loss("fp16", -0.25, 0.0)
    with pytest.raises(CheckFailed, match="cannot be measured"):
        check_loss("fp16", None, 1.0)
    with pytest.raises(CheckFailed, match=r"0\.60%"):
        check_loss("fp16", 0.006, 0.005)


def test_a_graph_that_forecasts_no_finite_numbers_is_never_written(make, tmp_path):
    checkpoint = make("GCGRU")
    values = checkpoint.reference.values
    assert np.isfinite(values).all()
    bundle = export_bundle(checkpoint, tmp_path / "a.bundle", precisions=["fp16"], max_loss=1.0)

    broken = onnx.load(bundle.path / STEP)
    for tensor in broken.graph.initializer:
        if tensor.name == "output.std":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 1), np.nan, np.float32), tensor.name))
    from export.precision.measure import Candidate, measure_parity

    candidate = Candidate("fp16", broken, broken, "emulated")
    with candidate.opened(bundle) as opened, pytest.raises(CheckFailed, match="not finite"):
        measure_parity(candidate, opened, bundle.golden())
