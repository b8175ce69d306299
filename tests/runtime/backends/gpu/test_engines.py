from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.backends.gpu.engines import EngineKey, find_engine, note_path, read_engine, stored_engines, this_system
from runtime.backends.gpu.flavor import Flavor
from runtime.inspect import explain, inspect
from stunet_deploy.errors import BackendError, BundleError
from stunet_deploy.files import sha256
from stunet_deploy.keys import PublicKey, SigningKey
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.signature import Trust, sign

PLAN = b"a plan that nobody deserialises here"
FULL = Flavor("tensorrt", ModuleType("tensorrt"), "10.13.3.9")
RTX = Flavor("tensorrt-rtx", ModuleType("tensorrt_rtx"), "1.7.1.116")
LEAN = Flavor("tensorrt-lean", ModuleType("tensorrt_lean"), "10.16.1.11")
KEY = EngineKey("tensorrt", "10.13.3.9", ("8.7",), *this_system(), "fp32", (1, 1, 64))


MEASURED = {"measured_by": "emulated", "tolerance": [3e-3], "max_abs_error": 1e-3, "mean_abs_error": 1e-4}


@pytest.fixture
def bundle(build_example):
    """Return a bundle that was exported in fp32 and tf32."""
    made = build_example((1,)).bundle
    accuracy = {"tf32": {"results": [], "loss": None}}
    return replace(made, manifest=replace(made.manifest, parity={"tf32": MEASURED}, accuracy=accuracy))


@pytest.fixture
def store(bundle):
    """Return a function that puts an engine of a key into the bundle, with changes to its note."""

    def store(key=KEY, plan=PLAN, **changes):
        note = {
            "key": key.to_json(),
            "sha256": sha256(plan),
            "bundle_id": bundle.manifest.bundle_id,
            "graph_sha256": bundle.manifest.files["step.onnx"],
        }
        bundle.engines.mkdir(exist_ok=True)
        path = bundle.engines / key.name
        path.write_bytes(plan)
        note_path(path).write_text(json.dumps(note | changes))
        return path

    return store


def test_a_key_names_the_file_and_survives_json():
    key = replace(KEY, flavor="tensorrt-rtx", version="1.7.1.116", compute_capabilities=("8.6", "12.0"))
    assert key.name.startswith("tensorrt-rtx_1.7.1.116_sm86-sm120_")
    assert key.name.endswith("_fp32_batch1-1-64.engine")
    assert EngineKey.from_json(json.loads(json.dumps(key.to_json()))) == key
    assert replace(key, version_compatible=True).name != key.name


def test_an_engine_for_this_machine_is_found_whole(bundle, store):
    path = store()
    found = find_engine(bundle, FULL, "8.7", batch=64)
    assert (found.stored.path, found.plan) == (path, PLAN)


def test_the_engine_tuned_for_the_batch_is_preferred(bundle, store):
    wide = store()
    narrow = store(replace(KEY, batch=(1, 1, 4)))
    twelve = store(replace(KEY, batch=(1, 12, 64)))
    assert [find_engine(bundle, FULL, "8.7", batch=rows).stored.path for rows in (1, 12, 40)] == [
        narrow,
        twelve,
        twelve,
    ]
    assert find_engine(bundle, FULL, "8.7", batch=1).stored.path != wide


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "10.3.0"}, "of tensorrt 10.3.0"),
        ({"flavor": "tensorrt-rtx"}, "of tensorrt-rtx 10.13.3.9"),
        ({"compute_capabilities": ("8.6", "8.9")}, "for compute capability 8.6, 8.9"),
        ({"machine": "sparc"}, "sparc"),
        ({"precision": "tf32"}, "is tf32"),
        ({"batch": (2, 4, 8)}, "for batch 2 to 8"),
    ],
)
def test_an_engine_for_another_machine_is_named_with_the_command_that_builds_one(bundle, store, changed, why):
    path = store(replace(KEY, **changed))
    with pytest.raises(BackendError) as raised:
        find_engine(bundle, FULL, "8.7")
    assert f"{path.name} is " in raised.value.came
    assert why in raised.value.came
    assert "tensorrt 10.13.3.9, compute capability 8.7" in raised.value.expected
    assert raised.value.action == f"stunet build {bundle.path} --flavor tensorrt --precision fp32"


def test_no_engine_names_the_command_with_what_it_must_be_for(bundle):
    with pytest.raises(BackendError, match="there is none") as raised:
        find_engine(bundle, RTX, "8.9", precision="tf32", batch=100)
    assert raised.value.action == (
        f"stunet build {bundle.path} --flavor rtx --precision tf32 --compute-capability 8.9 --batch 1 100 100"
    )


def test_a_precision_that_was_not_exported_names_the_export(bundle):
    with pytest.raises(BundleError, match=r"stunet-export model\.pt --precision fp16"):
        find_engine(bundle, FULL, "8.7", precision="fp16")


def test_the_lean_runtime_takes_compatible_engines_of_its_version_or_older(bundle, store):
    store()
    with pytest.raises(BackendError) as raised:
        find_engine(bundle, LEAN, "8.7")
    assert raised.value.action.endswith("--precision fp32 --version-compatible")
    path = store(replace(KEY, version_compatible=True))
    assert find_engine(bundle, LEAN, "8.7").stored.path == path
    for version, fits in {"10.13.3.9": True, "11.4.0": True, "10.3.0": False, "12.0": False}.items():
        lean = replace(LEAN, version=version)
        if fits:
            assert find_engine(bundle, lean, "8.7").stored.path == path
        else:
            with pytest.raises(BackendError):
                find_engine(bundle, lean, "8.7")


@pytest.mark.parametrize(
    ("plan", "changes", "why"),
    [
        (PLAN[:-1], {"sha256": sha256(PLAN)}, "altered or cut short"),
        (PLAN, {"sha256": sha256(b"another")}, "altered or cut short"),
        (PLAN, {"bundle_id": "0" * 64}, "built from the bundle 000000000000"),
        (PLAN, {"graph_sha256": "0" * 64}, "built from another step.onnx"),
    ],
)
def test_a_damaged_or_foreign_engine_is_refused_before_it_is_loaded(bundle, store, plan, changes, why):
    store(plan=plan, **changes)
    with pytest.raises(BundleError, match=why) as raised:
        find_engine(bundle, FULL, "8.7")
    assert raised.value.action == f"stunet build {bundle.path} --flavor tensorrt --precision fp32 --rebuild"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"key": {}}', '{"key": {"flavor": 3}, "sha256": 1}', None])
def test_an_engine_with_a_damaged_note_is_refused(bundle, store, damage):
    path = store()
    if damage is None:
        note_path(path).unlink()
    else:
        note_path(path).write_text(damage)
    with pytest.raises(BundleError, match=r"note|damaged") as raised:
        find_engine(bundle, FULL, "8.7")
    assert f"stunet build {bundle.path}" in raised.value.action


def test_with_trust_an_engine_has_to_be_one_that_was_signed(bundle, store):
    path = store()
    manifest = (bundle.path / MANIFEST).read_bytes()
    key = SigningKey(Ed25519PrivateKey.generate())
    trust = Trust((PublicKey(bundle.path / "agency.pub", key.public),))

    sign(bundle.path, manifest, {}, key)
    with pytest.raises(BundleError, match="which no trusted signature of the bundle names"):
        find_engine(replace(bundle, signed=trust.check(bundle.path, manifest)), FULL, "8.7")

    sign(bundle.path, manifest, {path.name: sha256(PLAN)}, key)
    trusted = replace(bundle, signed=trust.check(bundle.path, manifest))
    assert find_engine(trusted, FULL, "8.7").plan == PLAN

    store(plan=b"another plan, with a note that fits")
    assert find_engine(bundle, FULL, "8.7").plan != PLAN
    with pytest.raises(BundleError, match="which no trusted signature of the bundle names"):
        find_engine(trusted, FULL, "8.7")
    assert "NOT VALID" in explain(trusted)


def test_a_renamed_engine_is_not_what_its_note_says(bundle, store):
    path = store()
    other = path.with_name(replace(KEY, version="10.3.0").name)
    path.rename(other)
    note_path(path).rename(note_path(other))
    with pytest.raises(BundleError, match="describes another engine"):
        read_engine(other)
    good, bad = stored_engines(bundle)
    assert (good, len(bad)) == ([], 1)


def test_engines_are_listed_with_what_they_are_for_and_whether_they_are_whole(bundle, store):
    store()
    broken = store(replace(KEY, precision="tf32"), sha256="0" * 64)
    unknown = bundle.engines / "sm99.engine"
    unknown.write_bytes(b"plan")
    entries = {entry["file"]: entry for entry in json.loads(json.dumps(inspect(bundle)))["engines"]}
    good = entries[KEY.name]
    assert {name: good[name] for name in ("flavor", "version", "compute_capabilities", "precision", "batch")} == {
        "flavor": "tensorrt",
        "version": "10.13.3.9",
        "compute_capabilities": ["8.7"],
        "precision": "fp32",
        "batch": [1, 1, 64],
    }
    assert (good["bytes"], good["valid"], good["problem"]) == (len(PLAN), True, None)
    assert good["built"]["sha256"] == sha256(PLAN)
    assert not entries[broken.name]["valid"]
    assert "altered or cut short" in entries[broken.name]["problem"]
    assert (entries["sm99.engine"]["valid"], entries["sm99.engine"]["built"]) == (False, None)
    text = explain(bundle)
    assert "fp32 for compute capability 8.7 by tensorrt 10.13.3.9, batch 1 to 64" in text
    assert "sm99.engine: NOT VALID" in text
