from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from runtime.verify import verify
from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.errors import BackendError, BundleError
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST


def with_golden(bundle: Bundle, golden: Golden) -> Bundle:
    golden.save(bundle.path / GOLDEN)
    files = {**bundle.manifest.files, GOLDEN: sha256((bundle.path / GOLDEN).read_bytes())}
    (bundle.path / MANIFEST).write_text(replace(bundle.manifest, files=files).to_json(), encoding="utf-8")
    return Bundle.load(bundle.path)


def test_a_right_bundle_passes_and_says_by_how_much(example):
    verification = verify(example.bundle)
    assert verification
    data = json.loads(json.dumps(verification.to_json(), allow_nan=False))
    first = ["passed", "backend", "precision", "intervals", "max_abs_error", "mean_abs_error", "tolerance", "worst"]
    assert list(data)[:8] == first
    assert (data["passed"], data["backend"], data["intervals"], data["scored"]) == (True, "onnxruntime", 60, 30)
    assert 0 <= data["mean_abs_error"] <= data["max_abs_error"] < 1e-4
    assert len(data["course"]["max"]) == 10


def test_a_wrong_forecast_fails_and_is_located(build_example):
    bundle = build_example((1,), (3, 1)).bundle
    golden = bundle.golden()
    golden.forecast[7, 2, 4, 0] += 0.5
    verification = verify(with_golden(bundle, golden))
    assert not verification
    assert verification.max_abs_error == pytest.approx(0.5, abs=1e-4)
    worst = verification.to_json()["worst"]
    assert (worst["issued_at"], worst["sensor"], worst["horizon_min"]) == ("2012-03-01T09:10:00Z", "s4", 15)
    assert worst["expected"] - worst["found"] == pytest.approx(0.5, abs=1e-4)


def test_every_target_has_a_tolerance_of_its_own(build_example):
    bundle = build_example((1,), (3, 1), targets=("speed", "trend")).bundle
    assert verify(bundle)
    golden = bundle.golden()
    golden.forecast[4, 0, 1, 0] += 5e-4  # half of what a speed may be off
    golden.forecast[9, 1, 3, 1] -= 1e-4  # five times what a trend may be off
    verification = verify(with_golden(bundle, golden))
    assert not verification
    assert verification.tolerance == 2e-5
    assert verification.max_abs_error == pytest.approx(1e-4, rel=0.1)
    assert (verification.worst["target"], verification.worst["sensor"]) == ("trend", "s3")


def test_every_file_is_checked(build_example):
    bundle = build_example((1,)).bundle
    (bundle.path / GOLDEN).write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered"):
        verify(bundle)


def test_a_golden_stream_of_another_shape_is_refused(build_example):
    bundle = build_example((1,)).bundle
    golden = bundle.golden()
    for wrong in (
        replace(golden, values=golden.values[:, :4]),
        replace(golden, forecast=golden.forecast[:5]),
        replace(golden, scored=golden.scored + 2),
        replace(golden, scored=np.zeros_like(golden.scored)),
    ):
        with pytest.raises(BundleError, match="scored intervals among them"):
            verify(with_golden(bundle, wrong))


def test_a_backend_that_is_not_there_is_an_error(example):
    with pytest.raises(BackendError, match="unknown backend 'tensorflow'"):
        verify(example.bundle, "tensorflow")
