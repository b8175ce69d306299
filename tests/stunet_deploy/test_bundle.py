from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stunet_deploy.bundle import GOLDEN, Bundle, Golden
from stunet_deploy.contract import StateSpec, StepContract, TensorSpec
from stunet_deploy.errors import BundleError
from stunet_deploy.files import sha256
from stunet_deploy.keys import PublicKey, SigningKey
from stunet_deploy.manifest import MANIFEST, Manifest, bundle_id
from stunet_deploy.precisions import STEP
from stunet_deploy.signature import SIGNATURE, Trust, sign
from stunet_deploy.site import Site

CONTRACT = StepContract(
    (TensorSpec("values", ("batch", "node"), (None, 2)),),
    (TensorSpec("forecast", ("batch", "horizon", "node"), (None, 3, 2)),),
    (StateSpec("hidden", ("batch", "node"), (None, 2), delay=2),),
)
MANIFEST_FIELDS = Manifest(
    contract=CONTRACT,
    model="stunet",
    config={"hidden": 4},
    site=Site(("a", "b"), ("speed",), ("mph",), 300, latitude=(34.0, 34.1), no_data=((2046.0, -1.0),)),
    targets=("speed",),
    limits=((0.0, 90.0),),
    mean=(50.0,),
    std=(9.0,),
    horizon=3,
    window=12,
    tolerance=(1e-3,),
)


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    (tmp_path / STEP).write_bytes(b"step graph")
    time = np.arange(4)
    cells = np.ones((4, 2, 1), np.float32)
    golden = Golden(time, cells, cells > 0, time[2:], np.ones((2, 3, 2, 1), np.float32))
    golden.save(tmp_path / GOLDEN)
    manifest = replace(
        MANIFEST_FIELDS,
        files={name: sha256((tmp_path / name).read_bytes()) for name in (STEP, GOLDEN)},
        bundle_id=bundle_id(b"step graph", CONTRACT, ("a", "b")),
    )
    (tmp_path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.load(tmp_path)


def test_manifest_round_trip(bundle):
    text = bundle.manifest.to_json()
    assert Manifest.from_json(text) == bundle.manifest
    assert Manifest.from_json(text).to_json() == text
    assert bundle.manifest.horizons_min == (5, 10, 15)


def test_a_lone_graph_can_explain_itself():
    essentials = MANIFEST_FIELDS.essentials()
    assert json.loads(essentials["stunet.sensor_ids"]) == ["a", "b"]
    assert StepContract.from_json(json.loads(essentials["stunet.contract"])) == CONTRACT


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


def test_sensor_ids_belong_to_the_graph(bundle):
    swapped = replace(bundle.manifest, site=replace(bundle.manifest.site, sensor_ids=("b", "a")))
    (bundle.path / MANIFEST).write_text(swapped.to_json(), encoding="utf-8")
    with pytest.raises(BundleError, match="do not belong to this"):
        Bundle.load(bundle.path)


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
    resealed = replace(bundle.manifest, site=replace(bundle.manifest.site, units=("km/h",)))
    (bundle.path / MANIFEST).write_text(resealed.to_json(), encoding="utf-8")

    Bundle.load(bundle.path)
    with pytest.raises(BundleError, match="is not the one"):
        Bundle.load(bundle.path, trust=trust)


WITHOUT_CHECKSUM = re.sub(r'"checksum": "[0-9a-f]{64}",', "", MANIFEST_FIELDS.to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "missing or unknown field"),
        (WITHOUT_CHECKSUM.replace('"horizon"', '"horizont"'), "missing or unknown field"),
        (WITHOUT_CHECKSUM.replace('"delay": 2', '"delay": 0'), "a delay of at least 1"),
    ],
)
def test_damaged_manifests_are_refused(bundle, text, message):
    (bundle.path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle.path)


def test_every_bit_of_a_manifest_that_is_changed_is_noticed():
    manifest = replace(MANIFEST_FIELDS, training={"checksum": "", "note": "é 1e-05"})
    whole = manifest.to_json().encode()
    assert Manifest.from_json(whole.decode()) == manifest
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises((BundleError, UnicodeDecodeError)):
            Manifest.from_json(damaged.decode())


def test_a_manifest_written_before_there_was_a_checksum_is_read():
    assert Manifest.from_json(WITHOUT_CHECKSUM) == MANIFEST_FIELDS


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
