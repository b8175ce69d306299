"""TensorRT-RTX parses and builds every exported graph, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.bundle import export_bundle
from export.engine import PORTABLE, build_engine, engine_summary
from export.engine_compiler import compile_engine, rtx_capabilities
from runtime.backends.gpu.driver import find_device
from runtime.backends.gpu.engines import find_engine, note_path
from runtime.backends.gpu.flavor import FULL, LEAN, Flavor
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import BackendError, ConfigError, StunetError
from stunet_deploy.files import sha256
from stunet_deploy.precisions import PRECISIONS
from tests.paths import ROOT

from .conftest import NETWORKS, Exported
from .engine_proof import assert_builds, assert_clean, key_for


@pytest.fixture(scope="session")
def bundle_of_all(make: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of every precision, whatever a random network loses by them."""
    out = tmp_path_factory.mktemp("all") / "model.bundle"
    return export_bundle(make(), out, precisions=PRECISIONS, force=True)


@pytest.fixture
def bundle(bundle_of_all: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy of that bundle that a test may build in."""
    return Bundle.load(shutil.copytree(bundle_of_all.path, tmp_path / "model.bundle"))


@pytest.mark.parametrize(
    "name", ["two scales", *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "two scales")]
)
def test_every_network_is_clean_and_builds_ahead_of_time_in_every_precision(
    name: str, export: Callable[[str], Exported], rtx: Flavor, tmp_path: Path
) -> None:
    """One test for what needs the same graph: exporting it takes longer than all of this."""
    exported = export(name)
    model = exported.checkpoint.model

    assert_clean(exported.proto, tmp_path, reads_time=model.config.time_features != "none")
    assert_builds(exported.proto, model.contract, rtx)


@pytest.mark.parametrize(
    "capability", [PORTABLE[0], *(pytest.param(other, marks=pytest.mark.slow) for other in PORTABLE[1:])]
)
def test_every_precision_builds_for_each_kind_of_gpu(capability: str, bundle: Bundle, rtx: Flavor) -> None:
    assert bundle.manifest.precisions == PRECISIONS
    built = {
        precision: build_engine(bundle, rtx, precision, compute_capabilities=[capability]) for precision in PRECISIONS
    }

    for precision, engine in built.items():
        assert engine.stored.note["tf32"] == (precision == "tf32")
        found = find_engine(bundle, rtx, capability, precision=precision, batch=bundle.manifest.window)
        assert found.stored.path == engine.stored.path


def test_an_engine_has_a_plain_plan_and_a_note_that_explains_it(bundle: Bundle, rtx: Flavor) -> None:
    built = build_engine(bundle, rtx)

    stored = built.stored
    note = json.loads(note_path(stored.path).read_text())
    capabilities = stored.key.compute_capabilities
    assert capabilities == PORTABLE or find_device() is not None
    assert stored.path.name == key_for(rtx, capabilities=capabilities).name
    assert note["sha256"] == sha256(stored.path.read_bytes())
    assert note["graph_sha256"] == bundle.manifest.files["step.onnx"]
    assert (note["bundle_id"], note["level"]) == (bundle.manifest.bundle_id, 3)
    assert note["seconds"] > 0
    assert any("Engine generation completed" in line for line in note["log"])
    assert sorted(path.name for path in bundle.engines.iterdir()) == [stored.path.name, note_path(stored.path).name]
    assert json.loads(json.dumps(engine_summary(built)))["reused"] is False


def test_a_matching_engine_is_reused_and_another_one_replaced(bundle: Bundle, rtx: Flavor) -> None:
    first = build_engine(bundle, rtx)
    written = first.stored.path.stat().st_mtime_ns

    again = build_engine(bundle, rtx)
    assert (again.reused, again.stored.path.stat().st_mtime_ns) == (True, written)

    assert not build_engine(bundle, rtx, rebuild=True).reused
    assert not build_engine(bundle, rtx, level=1).reused  # not what was asked for before
    first.stored.path.write_bytes(b"cut short")
    assert not build_engine(bundle, rtx, level=1).reused
    assert len(find_engine(bundle, rtx, first.stored.key.compute_capabilities[0]).plan) > 10_000


def test_a_graph_that_tensorrt_cannot_read_is_an_error_with_its_reason(
    rtx: Flavor, export: Callable[[str], Exported]
) -> None:
    with pytest.raises(BackendError, match="cannot read the graph in fp32") as raised:
        compile_engine(rtx, b"no graph", export("GCGRU").checkpoint.model.contract, key_for(rtx))

    assert "Failed to parse" in raised.value.came


def test_a_batch_or_gpu_that_cannot_be_is_refused(bundle: Bundle, rtx: Flavor) -> None:
    cases = [
        ({"batch": (0, 1, 2)}, "batch 0 1 2"),
        ({"batch": (1, 8, 4)}, "batch 1 8 4"),
        ({"level": 6}, "level 6"),
        ({"compute_capabilities": ["8.7"]}, "compute capability 8.7"),
        ({"version_compatible": True}, "version-compatible engine of tensorrt-rtx"),
    ]
    for options, came in cases:
        with pytest.raises(ConfigError) as raised:
            build_engine(bundle, rtx, **options)
        assert came in raised.value.came
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(rtx_capabilities(rtx))
    with pytest.raises(ConfigError, match="builds nothing"):
        build_engine(bundle, Flavor(LEAN, rtx.module, "10.3.0"))


def test_the_full_builder_asks_the_driver_first(bundle: Bundle, rtx: Flavor) -> None:
    if find_device() is not None:
        pytest.skip("there is a GPU")

    with pytest.raises(BackendError, match="driver"):
        build_engine(bundle, Flavor(FULL, rtx.module, "10.3.0"))

    assert not bundle.engines.exists()


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_full_disk_leaves_nothing_half_written(bundle: Bundle, rtx: Flavor) -> None:
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from stunet_deploy.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "build", bundle.path, "--flavor", "rtx"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "free some space" in done.stderr
    assert list(bundle.engines.iterdir()) == []


def test_a_bundle_that_cannot_be_written_to_says_so(bundle: Bundle, rtx: Flavor) -> None:
    bundle.engines.write_text("in the way")

    with pytest.raises(StunetError, match="engines") as raised:
        build_engine(bundle, rtx)

    assert "free some space, or build in a copy" in raised.value.action
