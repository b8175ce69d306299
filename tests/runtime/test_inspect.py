from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runtime.inspect import explain, inspect
from stunet_deploy.bundle import GOLDEN, Bundle
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError
from stunet_deploy.precisions import STEP


def test_a_bundle_is_described_as_json(example):
    described = json.loads(json.dumps(inspect(example.bundle)))
    assert list(described)[:5] == ["contract", "files", "precisions", "engines", "accuracy"]
    assert StepContract.from_json(described["contract"]) == example.bundle.manifest.contract
    assert described["contract"]["slots"] == 6
    assert described["contract"]["state_bytes"] == 6 * 3 * 5 * 2 * 4
    assert described["files"].keys() == {STEP, GOLDEN}
    assert described["files"][STEP]["bytes"] == (example.bundle.path / STEP).stat().st_size
    assert described["precisions"]["fp32"]["file"] == STEP
    assert described["engines"] == []


def test_a_bundle_is_explained_in_plain_words(example):
    results = [{"target": "speed", "horizon_minutes": 5, "mae": 2.7182}, {"horizon_minutes": 15, "mae": None}]
    manifest = replace(example.bundle.manifest, accuracy={"fp32": {"results": results}})
    text = explain(Bundle(example.bundle.path, manifest))
    assert "speed at 5 sensors, 5 to 15 minutes ahead, every 5 minutes" in text
    assert "speed 0 to 80 mph" in text
    assert "3 states in 6 slots" in text
    assert "MAE 2.72 mph at 5 min, carried" in text
    assert "to 0.001 mph of the float64 reference" in text
    assert "not measured" in explain(example.bundle)


def test_an_altered_bundle_is_not_described(build_example):
    bundle = build_example((1,)).bundle
    (bundle.path / GOLDEN).unlink()
    with pytest.raises(BundleError, match="without golden"):
        inspect(bundle)
