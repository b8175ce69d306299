"""Files made by the software at commit d794eaa, before its modules moved: they load, and say what they said.

``made_before`` holds checkpoints of three models with their bundles, and the folder of a durable stream whose process
was killed inside an interval, with the forecasts that the stream would have made had it lived.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export.bundle import export_bundle
from runtime.aggregation import Assembler
from runtime.durable.stream import DurableStream
from runtime.options import StreamOptions
from runtime.stream import Stream
from runtime.verify import verify
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.manifest import SCHEMA

FILES = Path(__file__).with_name("made_before")
MODELS = ("stunet", "stunet-recurrent", "srnn")
#: Of a manifest, what depends on the machine or on versions.
MEASURED = ("versions", "parity", "accuracy", "tolerance", "files", "checksum")
STREAM_START_S, INTERVAL_S, SENSORS = 1_332_705_600, 3600, 6


def readings(step: int) -> list[tuple[str, dict[str, float]]]:
    """Return the single readings of an interval, as the killed stream was given them."""
    rng = np.random.default_rng([17, step])
    made = []
    for node in range(SENSORS):
        if rng.random() < 0.9:
            speed, flow = round(rng.uniform(20, 70), 2), round(rng.uniform(20, 40), 2)
            made.append((f"s{node}", {"speed": float(speed), "flow": float(flow)}))
    return made


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "stunet" else pytest.mark.slow) for name in MODELS]
)
def test_a_checkpoint_gives_the_bundle_that_it_gave(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(FILES / f"{name}.pt")
    made = export_bundle(checkpoint, tmp_path / "again.bundle")

    before, now = (json.loads((path / "manifest.json").read_text()) for path in (FILES / f"{name}.bundle", made.path))
    assert now.pop("no_data") == []  # came since
    assert (before.pop("schema"), now.pop("schema")) == (1, SCHEMA)
    assert before.keys() == now.keys()
    assert before["config"].items() <= now["config"].items()  # settings that came since have the values of then
    others = (*MEASURED, "bundle_id", "config")
    assert {key: value for key, value in before.items() if key not in others} == {
        key: value for key, value in now.items() if key not in others
    }
    assert before["files"].keys() == now["files"].keys()
    old, new = onnx.load(FILES / f"{name}.bundle" / "step.onnx"), onnx.load(made.path / "step.onnx")
    for part in ("input", "output"):
        assert list(getattr(old.graph, part)) == list(getattr(new.graph, part))
    # The nodes may be others; on a Wednesday (the days on either side of a weekend's midnight were once mixed up) the
    # numbers are the same.
    rng = np.random.default_rng(0)
    given = {
        spec.name: rng.normal(size=spec.with_batch(2)).astype(np.float32)
        for spec in checkpoint.model.contract.step_inputs
    }
    given["values"] = rng.uniform(20, 60, given["values"].shape).astype(np.float32)
    given["observed"] = (rng.random(given["observed"].shape) < 0.8).astype(np.float32)
    given["time_of_week"] = np.full((2, 1), 2.6 * 86_400, np.float32)
    results = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, given)
        for path in (FILES / f"{name}.bundle" / "step.onnx", made.path / "step.onnx")
    ]
    for output, *both in zip(checkpoint.model.contract.output_names, *results, strict=True):
        np.testing.assert_allclose(both[1], both[0], rtol=1e-5, atol=1e-5, err_msg=output)


def test_a_bundle_proves_itself() -> None:
    bundle = Bundle.load(FILES / "stunet.bundle")
    assert verify(bundle)
    assert "export the model again" in bundle.manifest.remarks[0]


def test_a_killed_stream_goes_on_from_its_snapshot_and_journal(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FILES / "killed", tmp_path / "state"))
    bundle = Bundle.load(FILES / "stunet.bundle")
    stream = Stream.open(bundle, options=StreamOptions(max_gap=5, stuck_after=4))
    durable = DurableStream(stream, folder, every=5, assembler=Assembler(bundle.manifest, grace_s=10))
    found: list[dict[str, Any]] = []
    # Three readings of interval 12 had arrived before the kill.
    rest = [(12, place, reading) for place, reading in enumerate(readings(12)) if place >= 3]
    for step in range(12, 16):
        if step > 12:
            rest = [(step, place, reading) for place, reading in enumerate(readings(step))]
        for _, place, (sensor, values) in rest:
            time = STREAM_START_S + INTERVAL_S * step + 60 * place + 1
            durable.add(sensor, time, values, now=time + 1)
        end = STREAM_START_S + INTERVAL_S * (step + 1)
        found += [json.loads(forecast.to_json_line()) for forecast in durable.due(end + 20)]
    durable.close()

    expected = [json.loads(line) for line in (FILES / "forecasts.ndjson").read_text().splitlines()]
    assert len(found) == len(expected) == 4
    assert not durable.recovery.lossy
    for one, other in zip(found, expected, strict=True):
        assert {key: one[key] for key in ("bundle_id", "issued_at", "reasons", "observed_share", "sensors")} == {
            key: other[key] for key in ("bundle_id", "issued_at", "reasons", "observed_share", "sensors")
        }
        np.testing.assert_allclose(one["values"]["speed"], other["values"]["speed"], rtol=0, atol=2e-3)
