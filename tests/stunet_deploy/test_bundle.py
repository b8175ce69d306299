from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.errors import BundleError
from stunet_deploy.files import sha256
from stunet_deploy.keys import PublicKey, SigningKey
from stunet_deploy.manifest import MANIFEST, sealed
from stunet_deploy.precisions import FLOAT32, STEP
from stunet_deploy.signature import SIGNATURE, Trust, sign
from tests.manifests import WHOLE


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    (tmp_path / STEP).write_bytes(b"step graph")
    time = np.arange(4)
    cells = np.ones((4, 2, 1), np.float32)
    golden = Golden(time, cells, cells > 0, time[2:], np.ones((2, 3, 2, 1), np.float32))
    golden.save(tmp_path / GOLDEN)
    manifest = replace(
        WHOLE,
        parity={FLOAT32: WHOLE.parity[FLOAT32]},
        accuracy={},
        files={name: sha256((tmp_path / name).read_bytes()) for name in (STEP, GOLDEN)},
        bundle_id=WHOLE.identity(b"step graph"),
    )
    (tmp_path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.load(tmp_path)


def test_golden_round_trip(bundle):
    golden = bundle.golden()
    np.testing.assert_array_equal(golden.scored, [2, 3])
    assert golden.observed.dtype == np.bool_


def test_files_are_those_of_the_manifest(bundle):
    bundle.check_files()
    (bundle.path / GOLDEN).write_bytes(b"altered")
    Bundle.load(bundle.path)
    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        bundle.check_files()
    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        bundle.golden()
    (bundle.path / STEP).write_bytes(b"another graph")
    with pytest.raises(BundleError, match=r"step\.onnx was altered"):
        Bundle.load(bundle.path)
    (bundle.path / STEP).unlink()
    with pytest.raises(BundleError, match=r"without step\.onnx"):
        Bundle.load(bundle.path)


def test_damaged_golden_with_a_right_hash_is_refused(bundle):
    (bundle.path / GOLDEN).write_bytes(b"no zip")
    files = {**bundle.manifest.files, GOLDEN: sha256(b"no zip")}
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle(bundle.path, replace(bundle.manifest, files=files)).golden()


#: Facts of which each changes what a forecast means, and nothing but them.
OTHERWISE: dict[str, Any] = {
    "model": "srnn",
    "config": {"hidden": 5},
    "sensor_ids": ["b", "a"],
    "features": ["flow", "speed"],
    "units": ["km/h", ""],
    "targets": ["flow"],
    "target_units": ["h"],
    "limits": [[0, 91], [-1, 1]],
    "no_data": [[2046], []],
    "mean": [51, 0],
    "std": [9.5, 1],
    "interval_s": 600,
    "phase_s": 120,
    "stamp": "end",
    "timezone": "UTC",
    "horizon": None,  # of the contract too, see below
    "window": 11,
    "latitude": [34.1, 34.0],
    "longitude": [-118.1, -118.0],
    "contract": None,
}


def write_manifest(bundle: Bundle, change: dict[str, Any]) -> str:
    """Change facts of a bundle's manifest and seal it anew, as who wants to harm would; return what loading says."""
    facts = json.loads(bundle.manifest.to_json()) | change
    (bundle.path / MANIFEST).write_text(sealed(facts), encoding="utf-8")
    with pytest.raises(BundleError) as refused:
        Bundle.load(bundle.path)
    return refused.value.came


def test_of_a_signed_bundle_every_file_is_compared(bundle):
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    trust = Trust((PublicKey(bundle.path / "agency.pub", key.public),))
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.load(bundle.path, trust=trust)
    sign(bundle.path, (bundle.path / MANIFEST).read_bytes(), {}, key)
    assert Bundle.load(bundle.path).signed is None
    opened = Bundle.load(bundle.path, trust=trust)
    assert opened.signed is not None
    assert opened.manifest == bundle.manifest

    for name in (SIGNATURE, MANIFEST, *bundle.manifest.files):
        whole = (bundle.path / name).read_bytes()
        for altered in (b"", whole[:-1], whole + b"\n", whole[:9] + bytes([whole[9] ^ 1]) + whole[10:]):
            (bundle.path / name).write_bytes(altered)
            with pytest.raises(BundleError):
                Bundle.load(bundle.path, trust=trust)
        (bundle.path / name).unlink()
        with pytest.raises(BundleError):
            Bundle.load(bundle.path, trust=trust)
        (bundle.path / name).write_bytes(whole)
    Bundle.load(bundle.path, trust=trust)


def test_a_manifest_that_was_sealed_anew_has_another_signer(bundle):
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    trust = Trust((PublicKey(bundle.path / "agency.pub", key.public),))
    sign(bundle.path, (bundle.path / MANIFEST).read_bytes(), {}, key)
    resealed = replace(bundle.manifest, site=replace(bundle.manifest.site, units=("km/h", "")))
    resealed = replace(resealed, bundle_id=resealed.identity(bundle.read(STEP)))
    (bundle.path / MANIFEST).write_text(resealed.to_json(), encoding="utf-8")

    Bundle.load(bundle.path)
    with pytest.raises(BundleError, match="is not the one"):
        Bundle.load(bundle.path, trust=trust)


@pytest.mark.parametrize("fact", OTHERWISE)
def test_the_identity_covers_all_that_a_forecast_means(bundle, fact):
    facts = json.loads(bundle.manifest.to_json())
    change = {fact: OTHERWISE[fact]}
    if fact == "horizon":
        facts["contract"]["outputs"][0]["shape"][1] = 4
        change = {"horizon": 4, "contract": facts["contract"]}
    elif fact == "contract":
        facts["contract"]["states"][0] |= {"delay": 3, "taps": [3]}
        change = {"contract": facts["contract"]}
    elif fact == "features":
        change["targets"] = ["flow"]

    assert "does not belong to its step.onnx" in write_manifest(bundle, change)


def test_the_identity_covers_every_fact_that_is_no_measurement(bundle):
    measured = {"tolerance", "training", "accuracy", "parity", "versions", "files", "bundle_id", "schema", "checksum"}
    assert set(json.loads(bundle.manifest.to_json())) - set(OTHERWISE) == measured


def test_a_step_that_explains_itself_tells_what_was_altered(bundle):
    step = onnx.helper.make_model(onnx.helper.make_graph([], "step", [], []))
    onnx.helper.set_model_props(step, bundle.manifest.essentials())
    content = step.SerializeToString()
    (bundle.path / STEP).write_bytes(content)
    files = {**bundle.manifest.files, STEP: sha256(content)}
    whole = replace(bundle.manifest, files=files, bundle_id=bundle.manifest.identity(content))
    (bundle.path / MANIFEST).write_text(whole.to_json(), encoding="utf-8")
    told = Bundle.load(bundle.path)

    assert 'units is ["km/h", ""], in step.onnx ["mph", ""]' in write_manifest(told, {"units": ["km/h", ""]})
    identity = replace(whole, window=6).identity(content)
    assert "window is 6, in step.onnx 12" in write_manifest(told, {"window": 6, "bundle_id": identity})
    (told.path / MANIFEST).write_text(whole.to_json().replace('"end"', '"start"').replace("300", "900"))
    with pytest.raises(BundleError, match=r"that was altered \(interval_s is 900, in step.onnx 300\)"):
        Bundle.load(told.path)


def test_a_bundle_of_schema_1_keeps_its_identity_and_says_what_that_leaves_out(bundle):
    before = replace(bundle.manifest, schema=1)
    described = json.dumps([before.contract.to_json(), ["a", "b"]], sort_keys=True)
    identity = sha256((sha256(b"step graph") + described).encode())
    (bundle.path / MANIFEST).write_text(replace(before, bundle_id=identity).to_json(), encoding="utf-8")

    found = Bundle.load(bundle.path).manifest
    assert (found.schema, found.bundle_id) == (1, identity)
    assert "export the model again" in found.remarks[0]
    assert bundle.manifest.remarks == ()
    assert replace(found, window=6).identity(b"step graph") == identity
    assert replace(found, schema=2).identity(b"step graph") == bundle.manifest.bundle_id


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path, kind in (
        (tmp_path, "a folder without"),
        (tmp_path / "file", "a file without"),
        (tmp_path / "none", "none: no such folder"),
    ):
        with pytest.raises(BundleError, match=kind):
            Bundle.load(path)
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(tmp_path)
