"""Bundles: whole and verified, or not there at all."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import export.bundle
from export.bundle import export_bundle
from export.golden import make_golden, rounding
from export.scores import score_reference
from runtime.stream import Stream
from runtime.verify import verify
from stunet_deploy.bundle import GOLDEN, Bundle
from stunet_deploy.errors import BundleError, CheckFailed, StunetError
from stunet_deploy.manifest import MANIFEST, sealed
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.precisions import STEP
from stunet_deploy.series.wall_clock import time_of_week


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative path, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def copied(exported_bundle, tmp_path) -> Path:
    """Return a copy of the exported bundle that a test may damage, with an engine beside its core files."""
    folder = tmp_path / "here" / "copy.bundle"
    (folder / "engines").mkdir(parents=True)
    for name, data in content(exported_bundle.path).items():
        (folder / name).write_bytes(data)
    (folder / "engines" / "old.engine").write_bytes(b"compiled for an older step")
    return folder


def test_a_bundle_is_three_files_that_verify(exported_bundle):
    outcome = verify(exported_bundle)

    assert set(content(exported_bundle.path)) == {MANIFEST, STEP, GOLDEN}
    assert outcome
    assert outcome.intervals == 120
    assert exported_bundle.manifest.tolerance == pytest.approx((5e-5 * 12,))
    assert 0 < outcome.max_abs_error <= outcome.tolerance


def test_its_manifest_says_what_the_checkpoint_is(exported_bundle, checkpoint):
    manifest, signal = exported_bundle.manifest, checkpoint.model.signal

    assert manifest.contract == checkpoint.model.contract
    assert (manifest.sensor_ids, manifest.units) == (checkpoint.site.sensor_ids, checkpoint.site.units)
    assert (manifest.features, manifest.targets) == (signal.features, signal.targets)
    assert (manifest.mean, manifest.std, manifest.limits) == (signal.mean, signal.std, ((0, 90),))
    assert (manifest.interval_s, manifest.stamp, manifest.timezone) == (300, "end", "America/Los_Angeles")
    assert (manifest.horizon, manifest.window, manifest.config["hidden"]) == (3, 6, 4)
    assert manifest.training == {"seed": 8}
    assert set(manifest.files) == {STEP, GOLDEN}
    assert manifest.versions["torch"] == torch.__version__
    assert manifest.parity["fp32"]["max_abs_error"] == verify(exported_bundle).max_abs_error


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes_in_another_process(exported_bundle, run_export, tmp_path):
    again = run_export(tmp_path / "again.bundle", "2")

    assert content(again.path) == content(exported_bundle.path)
    assert [path.name for path in tmp_path.iterdir()] == ["again.bundle"]


def test_nothing_of_the_exporting_machine_is_in_the_manifest(exported_bundle, pytestconfig):
    text = (exported_bundle.path / MANIFEST).read_text()

    assert str(pytestconfig.rootpath) not in text
    assert str(exported_bundle.path.parent) not in text


def test_its_accuracy_is_that_of_the_model_on_the_reference_stream(exported_bundle, checkpoint):
    reference, model = checkpoint.reference, checkpoint.model
    results = exported_bundle.manifest.accuracy["fp32"]["results"]
    time = time_of_week(reference.timestamps, checkpoint.site.timezone)[:, None]
    arrays = (reference.values, reference.observed.astype(np.float32), time)
    with torch.inference_mode():
        sequence = StepInputs(*(torch.from_numpy(array)[None] for array in arrays))
        forecast = unroll(model, sequence, model.initial_lines(1))[0][0].numpy()

    assert [(result["horizon_minutes"], result["target"]) for result in results] == [
        (5, "speed"),
        (10, "speed"),
        (15, "speed"),
    ]
    issue = np.arange(5, 117)
    for ahead, result in enumerate(results, start=1):
        known = reference.observed[issue + ahead, :, 0]
        errors = np.abs(forecast[issue, ahead - 1, :, 0] - reference.values[issue + ahead, :, 0])[known]
        assert result["mae"] == pytest.approx(errors.mean(), abs=1e-4)
        assert result["count"] == known.sum()


def test_a_new_bundle_appears_alone(make, tmp_path):
    lines = []
    bundle = export_bundle(make(), tmp_path / "deep" / "er" / "new.bundle", lines.append)

    assert bundle.path == tmp_path / "deep" / "er" / "new.bundle"
    assert [path.name for path in bundle.path.parent.iterdir()] == ["new.bundle"]
    assert set(content(bundle.path)) == {MANIFEST, STEP, GOLDEN}
    assert any("verifying" in line for line in lines)


def test_an_existing_bundle_is_replaced_whole(checkpoint, copied):
    longer = replace(checkpoint, training={"seed": 9})

    bundle = export_bundle(longer, copied)

    assert set(content(copied)) == {MANIFEST, STEP, GOLDEN}
    assert bundle.manifest.training == {"seed": 9}
    assert [path.name for path in copied.parent.iterdir()] == ["copy.bundle"]


def test_a_recording_off_the_round_minutes_streams_on_its_own_grid(checkpoint, tmp_path):
    late = replace(checkpoint.reference, timestamps=checkpoint.reference.timestamps + 140)

    bundle = export_bundle(replace(checkpoint, reference=late), tmp_path / "late.bundle")

    stream = Stream.open(bundle)
    for values, timestamp in zip(late.values[:3], late.timestamps[:3].tolist(), strict=True):
        assert stream.push(values, timestamp).issued_s == timestamp
    stream.close()


def test_an_empty_folder_is_filled(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()

    assert verify(export_bundle(checkpoint, tmp_path / "empty"))


def test_a_step_that_forecasts_something_else_leaves_nothing(checkpoint, exported_bundle, tmp_path, monkeypatch):
    step = onnx.load(exported_bundle.path / STEP)
    monkeypatch.setattr(export.bundle, "export_step", lambda model, metadata: step)
    with torch.no_grad():
        checkpoint.model.decoder.head.bias += 0.01  # the reference changes, the step graph does not

    with pytest.raises(CheckFailed, match="float64 reference"):
        export_bundle(checkpoint, tmp_path / "new.bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_verification_leaves_the_previous_bundle_as_it_was(checkpoint, copied, monkeypatch):
    monkeypatch.setattr(export.bundle, "TOLERANCE_STD", 0.0)
    monkeypatch.setattr(export.bundle, "TOLERANCE_ROUNDING", 0.0)
    before = content(copied)

    with pytest.raises(CheckFailed, match="tolerance 0"):
        export_bundle(checkpoint, copied)
    assert content(copied.parent) == {f"copy.bundle/{name}": data for name, data in before.items()}
    assert [path.name for path in copied.parent.iterdir()] == ["copy.bundle"]


def test_a_model_that_magnifies_rounding_is_held_to_its_own(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export.bundle, "TOLERANCE_STD", 0.0)
    golden = make_golden(checkpoint)

    made = export_bundle(checkpoint, tmp_path / "new.bundle")

    assert 0 < rounding(checkpoint, golden)[0] == made.manifest.tolerance[0] / 3
    assert made.manifest.parity["fp32"]["max_abs_error"] <= made.manifest.tolerance[0] < 5e-5 * 12


def test_a_model_for_which_float32_is_not_enough_is_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export.bundle, "MAX_ROUNDING_STD", 1e-9)

    with pytest.raises(CheckFailed, match="magnifies rounding"):
        export_bundle(checkpoint, tmp_path / "new.bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_fails_brings_the_previous_bundle_back(checkpoint, copied, monkeypatch):
    before, rename = content(copied), os.replace

    def full(source, target):
        if Path(source).name == "copy.bundle" and Path(target) == copied:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)

    with pytest.raises(StunetError, match="No space left on device"):
        export_bundle(checkpoint, copied)
    assert content(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == ["copy.bundle"]


def refuse_work(*_):
    raise AssertionError("work began before the target was checked")


@pytest.mark.parametrize("files", [["notes.txt"], [MANIFEST, "index.html"], [".hidden"]])
def test_another_folder_is_refused_before_any_work(checkpoint, tmp_path, monkeypatch, files):
    monkeypatch.setattr(export.bundle, "export_step", refuse_work)
    folder = tmp_path / "site"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")

    with pytest.raises(BundleError, match="a folder with other files"):
        export_bundle(checkpoint, folder)
    assert set(content(tmp_path)) == {f"site/{name}" for name in files}


def test_a_file_is_refused_before_any_work(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export.bundle, "export_step", refuse_work)
    (tmp_path / "model.pt").write_text("precious")

    with pytest.raises(BundleError, match="is a file"):
        export_bundle(checkpoint, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_text() == "precious"


@pytest.mark.parametrize("out", ["a file/new.bundle", "n" * 300])
def test_a_place_that_cannot_be_written_is_a_user_error(checkpoint, tmp_path, monkeypatch, out):
    monkeypatch.setattr(export.bundle, "export_step", refuse_work)
    (tmp_path / "a file").write_text("")

    with pytest.raises(StunetError, match="cannot be written"):
        export_bundle(checkpoint, tmp_path / out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_a_user_error(checkpoint, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StunetError, match="cannot be written"):
            export_bundle(checkpoint, tmp_path / "new.bundle")
    finally:
        tmp_path.chmod(0o700)


def test_a_reference_stream_shorter_than_a_window_and_its_labels_gives_no_scores(exported_bundle, make):
    assert score_reference(exported_bundle, make(intervals=8)) == []
    assert len(score_reference(exported_bundle, make(intervals=9))) == 3


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_an_altered_step_does_not_load(copied):
    flip_a_byte(copied / STEP)

    with pytest.raises(BundleError, match=r"step\.onnx was altered"):
        Bundle.load(copied)


def test_an_altered_golden_stream_does_not_verify(copied):
    flip_a_byte(copied / GOLDEN)

    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        verify(Bundle.load(copied))


@pytest.mark.parametrize("field", ["sensor_ids", "contract", "bundle_id"])
def test_an_altered_manifest_does_not_load(copied, field):
    manifest = json.loads((copied / MANIFEST).read_text())
    if field == "sensor_ids":
        manifest[field].reverse()
    elif field == "contract":
        manifest[field]["states"][2]["delay"] = manifest[field]["states"][2]["taps"][0] = 3
    else:
        manifest[field] = "0" * 64
    (copied / MANIFEST).write_text(sealed(manifest))

    with pytest.raises(BundleError, match="does not belong"):
        Bundle.load(copied)


def test_a_manifest_cut_short_does_not_load(copied):
    text = (copied / MANIFEST).read_text()
    (copied / MANIFEST).write_text(text[: len(text) // 2])

    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(copied)


ON_A_DEVICE = """
import sys
for name in ("torch", "onnx", "onnxscript", "scipy", "export", "training"):
    sys.modules[name] = None
from runtime.verify import verify
from stunet_deploy.bundle import Bundle
print(bool(verify(Bundle.load(sys.argv[1]))))
"""


def test_a_device_without_torch_and_onnx_verifies_it(exported_bundle, pytestconfig):
    done = subprocess.run(
        [sys.executable, "-c", ON_A_DEVICE, exported_bundle.path],
        env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout.strip(), done.stderr) == ("True", "")
