"""One strict reading of a manifest: what is impossible is refused by name, whatever its checksum says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest

from benchmarks.faults.alterations import ALTERATIONS
from benchmarks.faults.manifests import resealed
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BundleError
from stunet_deploy.manifest import Manifest, sealed
from tests.manifests import WHOLE
from tests.paths import ROOT

FACTS = json.loads(WHOLE.to_json())
SCHEMA = json.loads((ROOT / "docs" / "reference" / "manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def altered(*path: Any, to: Any) -> str:
    """Return the whole manifest with one value changed and its checksum made right; ``...`` takes the value away."""
    facts = json.loads(WHOLE.to_json())
    at = facts
    for key in path[:-1]:
        at = at[key]
    if to is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return sealed(facts)


def test_a_manifest_that_was_written_is_read_back() -> None:
    text = WHOLE.to_json()
    assert Manifest.from_json(text) == WHOLE
    assert Manifest.from_json(text).to_json() == text
    assert WHOLE.horizons_min == (5, 10, 15)
    VALIDATOR.validate(FACTS)


def test_a_lone_graph_can_explain_itself() -> None:
    essentials = WHOLE.essentials()
    assert json.loads(essentials["stunet.sensor_ids"]) == ["a", "b"]
    assert StepContract.from_json(json.loads(essentials["stunet.contract"])) == WHOLE.contract
    assert WHOLE.contradictions(essentials) == []


#: By path: what no manifest may hold there.
IMPOSSIBLE: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...] = (
    (("schema",), (0, 3, 2.0, "2", True, None)),
    (("model",), ("", 5, None, "x" * 1001, "a\x1bb")),
    (("config",), ([], None, "x")),
    (("config", "st_graph"), (5, "", "[]", "{}", "[" * 5000)),
    (("sensor_ids",), ("ab", [], ["a"], ["a", "a"], ["a", ""], ["a", 7], ["a", None], ["a", "b\0"], ["a", "b" * 1001])),
    (("features",), (["speed"], ["speed", "speed"], ["flow", "pace"], ["speed", 2])),
    (("units",), (["mph"], ["mph", None], [])),
    (("targets",), ([], ["pace"], ["speed", "speed"], "speed", [f"t{number}" for number in range(5000)])),
    (("target_units",), (["a", "b"], [5], "a", None)),
    (("limits",), ([], [[0, 1]], [[90, 0], [-1, 1]], [[1, 1], [-1, 1]], [[0, None], [-1, 1]], [[0, 1e39], [-1, 1]])),
    (("limits", 0), ([0], [0, 1, 2], "01", [-3e38, 3e38], [True, 5])),
    (("mean",), ([50], [50, None], [50, 1e39], ["50", "0"], [True, 1])),
    (("std",), ([9], [9, 0], [9, -1], [9, None], None)),
    (("no_data",), ([[1]], [1, 2], [["x"], []], [[1e39], []], None)),
    (("tolerance",), ([], [0], [-1], [1e39], [None], 0.1)),
    (("interval_s",), (0, -300, 300.0, "300", True, None, 10**30, 366 * 86_400 + 1)),
    (("phase_s",), (-1, 300, 1.5, None)),
    (("stamp",), ("middle", "", None, 1)),
    (("timezone",), ("", "Mars/Base", "/etc/hostname", "../UTC", 5, "Europe", "x" * 300, "a\0b")),
    (("horizon",), (0, -3, 4, "3", 3.0, 10**12, None)),
    (("window",), (0, -5, 12.0, 10**12, None)),
    (("latitude",), ([1], None, ["a", "b"], [1, None], 5)),
    (("files",), ({}, [], {"golden.npz": "a" * 64}, None)),
    (("files", "step.onnx"), ("0" * 63, "0" * 65, "g" * 64, 5, None)),
    (("files", "../step.onnx"), ("0" * 64,)),
    (("files", "a/b"), ("0" * 64,)),
    (("files", "manifest.json"), ("0" * 64,)),
    (("files", "step.fp16.onnx"), (...,)),
    (("bundle_id",), ("", "0" * 63, None, "F" * 64)),
    (("versions",), ({"python": 3}, [], {"a\n": ""}, {f"p{number}": "1" for number in range(1001)})),
    (("training",), ([], None)),
    (("parity",), ([], {"fp64": {}}, {"fp32": {}}, None)),
    (("parity", "fp16"), (..., {}, None, [])),
    (("parity", "fp16", "tolerance"), (..., [], [0], [1, 1], "1")),
    (("parity", "fp16", "max_abs_error"), (..., None, -1, "0")),
    (("parity", "tf32"), ({"measured_by": "x", "max_abs_error": 0, "mean_abs_error": 0, "tolerance": [1]},)),
    (("accuracy", "fp16"), (..., {}, None, {"results": []})),
    (("accuracy", "fp32", "results", 0), ({}, None, [])),
    (("accuracy", "fp32", "results", 0, "target"), ("pace", None, ...)),
    (("accuracy", "fp32", "results", 0, "horizon_minutes"), (0, None, ...)),
    (("accuracy", "fp32", "results", 0, "mae"), (-1, "1", ...)),
    (("contract",), ({}, [], {"inputs": [], "outputs": [], "states": []})),
    (("contract", "inputs", 0, "shape"), ([None, 3, 2], [None, 2], [2, 2, 2], [None, None, 2])),
    (("contract", "inputs", 0, "name"), ("value", "observed", "", 5)),
    (("contract", "outputs", 0, "shape"), ([None, 4, 2, 1], [None, 3, 2, 2])),
    (("contract", "states", 0, "shape"), ([None, 2, 0], [None, 2, -4], [None, 2, 2**40], [None, None, 4], [None, 2])),
    (("contract", "states", 0, "axes"), ([], ["batch", "a", "b" * 1001], ["node", "a", "b"], ["batch"] * 9)),
    (("contract", "states", 0, "delay"), (0, -1, 2**40, 1.0, None, 3)),
    (("contract", "states", 0, "taps"), ([], [1, 2], [2, 2], [2, 0], [3], "2")),
    (("contract", "states", 0, "dtype"), ("float64", "float99", None)),
    (("contract", "states", 1, "name"), ("hidden", "x" * 1001, 7)),
    (("further",), (1,)),
    (("contract", "further"), (1,)),
)
CASES = [(path, value) for path, values in IMPOSSIBLE for value in values]
#: A list of no taps means the delay alone.
POSSIBLE_AFTER_ALL = ((("contract", "states", 0, "taps"), []),)


@pytest.mark.parametrize(
    ("path", "value"), [case for case in CASES if case not in POSSIBLE_AFTER_ALL], ids=lambda part: repr(part)[:60]
)
def test_what_is_impossible_is_refused_although_the_checksum_is_right(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(BundleError) as refused:
        Manifest.from_json(altered(*path, to=value))
    assert "altered" not in refused.value.came
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("field", FACTS)
def test_every_field_is_required(field: str) -> None:
    facts = {name: fact for name, fact in FACTS.items() if name != field}
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n" if field == "checksum" else sealed(facts)
    with pytest.raises(BundleError):
        Manifest.from_json(text)
    assert not VALIDATOR.is_valid(facts)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace('"horizon": 3', '"horizon": 3,\n "horizon": 3'), "'horizon' twice"),
        (lambda text: text.replace('"epochs": 2', '"epochs": 2, "epochs": 2'), "'epochs' twice"),
        *((lambda text, word=word: text.replace("50.0", word), word) for word in ("NaN", "Infinity", "-Infinity")),
        (lambda text: text.replace("50.0", "1e999"), "beyond those of 64 bits"),
        (lambda text: text.replace('"epochs": 2', '"epochs": ' + "9" * 10**6), "of 1,000,000 digits"),
        (lambda text: text.replace('"a wave"', '"\\ud800"'), "surrogates not allowed"),
        (lambda text: text.replace('"a wave"', "[" + "0," * 2**21 + "0]"), "very many values"),
        (lambda text: text.replace('"a wave"', "[" * 30 + "]" * 30), "more than 24 deep"),
        (lambda text: text.replace('"a wave"', "[" * 200_000 + "]" * 200_000), "without end"),
        (lambda text: "\ufeff" + text, "BOM"),
        (lambda text: text + "{}", "Extra data"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: '"schema"', "damaged"),
        (lambda text: "7", "damaged"),
        (lambda text: "{}", "damaged"),
    ],
)
def test_what_not_every_reader_of_json_reads_alike_is_refused(change: Callable[[str], str], reason: str) -> None:
    text = resealed(change(WHOLE.to_json()))
    with pytest.raises(BundleError, match=reason):
        Manifest.from_json(text)


def test_every_bit_of_a_manifest_that_is_changed_is_noticed() -> None:
    manifest = replace(
        WHOLE, training={"checksum": "", "note": "é 1e-05"}, parity={}, accuracy={}, files={}, versions={}
    )
    manifest = replace(manifest, files={"step.onnx": "0" * 64})
    whole = manifest.to_json().encode()
    assert Manifest.from_json(whole.decode()) == manifest
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises((BundleError, UnicodeDecodeError)):
            Manifest.from_json(damaged.decode())


def test_a_manifest_written_before_there_was_a_checksum_is_read() -> None:
    text = re.sub(r'"checksum": "[0-9a-f]{64}",', "", replace(WHOLE, schema=1).to_json())
    assert Manifest.from_json(text) == replace(WHOLE, schema=1)


def test_the_schema_refuses_nothing_that_is_read() -> None:
    """Of manifests altered in every way, the JSON schema refuses many, and the reading these and more."""
    counted = {"both": 0, "reading": 0, "neither": 0}
    rng = np.random.default_rng(3)
    texts = [altered(*path, to=value) for path, value in CASES]
    for alter in ALTERATIONS.values():
        texts += [text for text in (alter(WHOLE.to_json(), rng) for _ in range(20)) if isinstance(text, str)]
    for text in (resealed(text) for text in texts if len(text) < 100_000):  # the validator is slow on long lists
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError):
            facts = None
        try:
            Manifest.from_json(text)
        except BundleError:
            refused = True
        else:
            refused = False
        valid = VALIDATOR.is_valid(facts)
        # Of an earlier schema other rules hold.
        if isinstance(facts, dict) and facts.get("schema") == 1:
            continue
        assert valid or refused, [error.message[:300] for error in VALIDATOR.iter_errors(facts)]
        counted["both" if not valid else "reading" if refused else "neither"] += 1
    assert min(counted.values()) > 20, counted
