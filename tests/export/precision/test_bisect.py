"""The layer where a precision departs most."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.bundle import export_bundle
from export.precision.bisect import bisect
from stunet_deploy.bundle import Bundle
from stunet_deploy.cli import main
from stunet_deploy.errors import BundleError, ConfigError
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST


@pytest.fixture(scope="module")
def precise(make, shared) -> Bundle:
    """Return a bundle with every precision; tests must not change its files."""

    def export(folder: Path) -> None:
        export_bundle(make(), folder / "model.bundle", precisions=["fp16", "bf16", "int8", "tf32"], max_loss=1.0)

    return Bundle.load(shared.folder("precise", export) / "model.bundle")


def ruin(bundle: Bundle, name: str, factor: float, folder: Path) -> Bundle:
    """Return a copy of a bundle whose int8 graph has one constant multiplied."""
    folder.mkdir()
    for file in bundle.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    graph = onnx.load(folder / "step.int8.onnx")
    (tensor,) = [tensor for tensor in graph.graph.initializer if tensor.name == name]
    array = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(graph, folder / "step.int8.onnx")
    files = {**bundle.manifest.files, "step.int8.onnx": sha256((folder / "step.int8.onnx").read_bytes())}
    manifest = replace(bundle.manifest, files=files)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.load(folder)


@pytest.mark.parametrize(
    "layer",
    [
        "encoder.contracting.0.cell.gate_weight",
        "encoder.contracting.1.cell.input_weight",
        "encoder.expanding.0.cell.candidate_weight",
    ],
)
def test_the_ruined_layer_is_named_first(precise, tmp_path, layer):
    damaged = ruin(precise, f"{layer}.scale", 5.0, tmp_path / "damaged.bundle")

    first, second, *_ = bisect(damaged, "int8")

    assert first.layer == layer
    assert first.own == pytest.approx(4, rel=0.3)
    assert first.own > 2 * second.own
    assert bisect(precise, "int8")[0].own < 0.5


def test_the_command_line_names_it(precise, tmp_path, capsys):
    layer = "encoder.contracting.1.cell.candidate_weight"
    damaged = ruin(precise, f"{layer}.scale", 5.0, tmp_path / "damaged.bundle")

    verdict = main(["verify", str(damaged.path), "--precision", "int8"])
    assert verdict == 1
    assert f"next: stunet verify {damaged.path} --precision int8 --bisect" in capsys.readouterr().err

    assert main(["verify", str(damaged.path), "--precision", "int8", "--bisect", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["precision"] == "int8"
    assert found["layers"][0]["layer"] == layer
    assert main(["verify", str(damaged.path), "--precision", "int8", "--bisect"]) == 0
    assert layer in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32"])
def test_a_precision_without_kernels_here_is_compared_by_its_emulation(precise, precision):
    found = bisect(precise, precision)

    limit = 0.05 if precision == "bf16" else 0.01
    assert 0 < found[0].own < limit
    assert [departure.own for departure in found] == sorted((d.own for d in found), reverse=True)


def test_fp32_and_what_was_not_exported_are_refused(precise, exported_bundle):
    with pytest.raises(ConfigError, match="fp32"):
        bisect(precise, "fp32")
    for precision in ("int8", "tf32"):
        with pytest.raises(BundleError, match=f"--precision {precision}"):
            bisect(exported_bundle, precision)
