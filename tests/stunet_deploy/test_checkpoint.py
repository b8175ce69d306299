"""A checkpoint comes back as it was, and any other file is refused without running anything."""

from __future__ import annotations

import functools
import io
import json
import operator
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import SCHEMA, Checkpoint
from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.errors import CheckpointError, ConfigError, StunetError
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from tests.paths import ROOT

SIGNAL = Signal(("speed", "flow"), ("flow",), (52.1, 310.7), (12.3, 96.1), (0.0, 0.0), (84.3, 700.0))
NODES, TIME = 5, 20


@pytest.fixture(scope="module")
def checkpoint(build_model) -> Checkpoint:
    """A model of two scales with random weights, and a reference stream of odd numbers."""
    config = STUNetConfig(scales=((1, 2), (1, 3)), hidden=4, horizon=3, chebyshev_order=2, pooling="mean")
    adjacency = np.roll(np.eye(NODES), 1, axis=1) * np.linspace(0.3, 1, NODES)
    rng = np.random.default_rng(5)
    observed = rng.random((TIME, NODES, 2)) < 0.8
    values = np.where(observed, rng.uniform(0, 84, observed.shape), 0).astype(np.float32)
    site = Site(
        sensor_ids=tuple("abcde"),
        features=SIGNAL.features,
        units=("mi/h", "veh/h"),
        interval_s=300,
        stamp="end",
        timezone="America/Los_Angeles",
        latitude=(34.1, 34.2, 34.3, 34.4, 35.0),
        longitude=(-118.1, -118.2, -118.3, -118.4, -118.0),
    )
    return Checkpoint(
        model=build_model(config, adjacency, signal=SIGNAL),
        reference=Series(values, observed, 1_330_588_800 + 300 * np.arange(TIME), site),
        training={"seed": 7, "data": "metr-la.h5", "config": {"epochs": 3}, "errors": [2.5, 1 / 3]},
    )


@pytest.fixture
def saved(checkpoint, tmp_path) -> Path:
    path = tmp_path / "model.pt"
    checkpoint.save(path)
    return path


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def forecasts(checkpoint: Checkpoint) -> np.ndarray:
    stream = checkpoint.reference
    inputs = StepInputs(
        torch.from_numpy(stream.values)[None],
        torch.from_numpy(stream.observed)[None].float(),
        torch.linspace(0, 6e5, TIME)[None, :, None],
    )
    with torch.no_grad():
        return checkpoint.model(inputs, checkpoint.model.initial_lines(1))[0].numpy()


def arrays_of(series: Series) -> dict[str, np.ndarray]:
    return {name: getattr(series, name) for name in ("timestamps", "values", "observed")}


def test_everything_comes_back_exactly(checkpoint, saved):
    read = Checkpoint.load(saved)

    assert (read.model.config, read.model.signal) == (checkpoint.model.config, checkpoint.model.signal)
    assert (read.site, read.training) == (checkpoint.site, checkpoint.training)
    assert read.model.contract == checkpoint.model.contract
    for found, expected in (
        (read.model.state_dict(), checkpoint.model.state_dict()),
        (read.model.hierarchy.to_arrays(), checkpoint.model.hierarchy.to_arrays()),
        (arrays_of(read.reference), arrays_of(checkpoint.reference)),
    ):
        assert found.keys() == expected.keys()
        for name, array in found.items():
            assert array.dtype == expected[name].dtype, name
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    np.testing.assert_array_equal(forecasts(read), forecasts(checkpoint))


def test_a_model_is_read_ready_to_forecast(checkpoint, saved):
    model = Checkpoint.load(saved).model
    assert not any(module.training for module in model.modules())


def test_reading_and_writing_again_changes_nothing(saved, tmp_path):
    again = tmp_path / "again.pt"
    Checkpoint.load(saved).save(again)
    before, after = content(saved), content(again)
    assert before["meta"] == after["meta"]
    for part in ("weights", "graph", "stream"):
        assert before[part].keys() == after[part].keys()
        assert all(torch.equal(tensor, after[part][name]) for name, tensor in before[part].items())


def test_coordinates_are_optional(checkpoint, tmp_path):
    site = replace(checkpoint.site, latitude=None, longitude=None)
    replace(checkpoint, reference=replace(checkpoint.reference, site=site)).save(tmp_path / "model.pt")
    assert Checkpoint.load(tmp_path / "model.pt").site == site


def refused(path: Path, message: str) -> CheckpointError:
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.load(path)
    assert caught.value.came
    assert caught.value.action
    return caught.value


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "model.pt", "no file")
    refused(tmp_path, "no file")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    refused(saved, "not a readable checkpoint")


def test_a_file_with_a_damaged_index_is_refused(saved):
    data = bytearray(saved.read_bytes())
    data[-40:] = bytes(40)
    saved.write_bytes(data)
    refused(saved, "not a readable checkpoint")


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", "{}")
    return buffer.getvalue()


def torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"a,b,c\n1,2,3\n",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        zip_file(),
        pickle.dumps({"weights": [1, 2]}),
        torch_file(torch.zeros(3)),
        torch_file({"weight": torch.zeros(3)}),
        torch_file({"meta": "text"}),
        torch_file({"meta": "[]"}),
        torch_file({"meta": json.dumps({"schema": SCHEMA})}),
    ],
    ids=["csv", "hdf5", "zip", "pickle", "tensor", "weights alone", "no json", "json list", "no format"],
)
def test_a_foreign_file_is_refused(tmp_path, data):
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    assert "weights_only" not in str(refused(path, "not a readable checkpoint"))


def edited(path: Path, edit) -> Path:
    """Write the checkpoint again with its content, and the JSON in it, changed by ``edit(content, meta)``."""
    changed = content(path)
    meta = json.loads(changed["meta"])
    edit(changed, meta)
    changed["meta"] = json.dumps(meta)
    torch.save(changed, path)
    return path


@pytest.mark.parametrize("schema", [SCHEMA + 1, "2", None])
def test_another_schema_is_refused_by_its_number(saved, schema):
    refused(
        edited(saved, lambda content, meta: meta.update(schema=schema)),
        f"has schema {schema}; expected schema 3 to {SCHEMA}",
    )


def test_a_memory_of_an_earlier_schema_is_refused(saved):
    refused(
        edited(saved, lambda content, meta: (meta.update(schema=5), meta["config"].update(memory=True))),
        "has schema 5, whose memory of a week had other slots; expected schema 6 or later",
    )


def test_another_format_is_refused(saved):
    refused(edited(saved, lambda content, meta: meta.update(format="other")), "schema")


def drop(*path):
    return lambda content, meta: functools.reduce(operator.getitem, path[:-1], content | {"meta": meta}).pop(path[-1])


def put(value, *path):
    def edit(content, meta):
        functools.reduce(operator.getitem, path[:-1], content | {"meta": meta})[path[-1]] = value

    return edit


CONTRADICTIONS = {
    "no config": drop("meta", "config"),
    "no signal": drop("meta", "signal"),
    "no site": drop("meta", "site"),
    "no training": drop("meta", "training"),
    "no weights": lambda content, meta: content.pop("weights"),
    "no graph": lambda content, meta: content.pop("graph"),
    "no stream": lambda content, meta: content.pop("stream"),
    "a weight missing": drop("weights", "decoder.head.bias"),
    "an unknown weight": put(torch.zeros(1), "weights", "tail.bias"),
    "a weight of another shape": put(torch.zeros(2), "weights", "decoder.head.bias"),
    "a weight that is no tensor": put("zero", "weights", "decoder.head.bias"),
    "a graph array missing": drop("graph", "levels.1.basis"),
    "a graph array of another shape": put(torch.zeros(1, 2, 2), "graph", "levels.0.basis"),
    "an unknown setting": put(1, "meta", "config", "depth"),
    "a setting out of range": put(0, "meta", "config", "hidden"),
    "another hidden size": put(8, "meta", "config", "hidden"),
    "another horizon": put(4, "meta", "config", "horizon"),
    "fewer scales than graphs": put([[1, 2]], "meta", "config", "scales"),
    "another order than the graph's": put(3, "meta", "config", "chebyshev_order"),
    "signals without limits": drop("meta", "signal", "low"),
    "no deviation": put([12.3, 0], "meta", "signal", "std"),
    "fewer sensors": put(["a", "b"], "meta", "site", "sensor_ids"),
    "a sensor twice": put(["a", "b", "c", "d", "a"], "meta", "site", "sensor_ids"),
    "fewer units": put(["mi/h"], "meta", "site", "units"),
    "another stamp": put("middle", "meta", "site", "stamp"),
    "no such zone": put("America/Nowhere", "meta", "site", "timezone"),
    "no interval": put(0, "meta", "site", "interval_s"),
    "fewer coordinates": put([34.1], "meta", "site", "latitude"),
    "an array missing": drop("stream", "observed"),
    "fewer times": put(torch.arange(3), "stream", "timestamps"),
    "times off the grid": put(torch.arange(TIME), "stream", "timestamps"),
    "a stream of other sensors": put(torch.zeros(TIME, 3, 2), "stream", "values"),
}


@pytest.mark.parametrize("edit", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_content_that_contradicts_itself_is_refused(saved, edit):
    refused(edited(saved, edit), "contradicts itself")


def test_a_stream_and_site_of_another_network_are_refused(checkpoint, tmp_path):
    stream = checkpoint.reference
    other = Checkpoint(
        checkpoint.model,
        stream.aligned(("a", "b"), SIGNAL.features),
    )
    other.save(tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "2 sensors; expected 5")


class Payload:
    """Creates a file when it is unpickled carelessly."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("form", ["pickle", "torch", "weight", "meta"])
def test_a_malicious_file_runs_nothing(saved, tmp_path, form):
    proof = tmp_path / "proof"
    payload = Payload(proof)
    if form == "pickle":
        saved.write_bytes(pickle.dumps(payload))
    else:
        changed = content(saved)
        if form == "torch":
            changed["extra"] = payload
        elif form == "weight":
            changed["weights"]["decoder.head.bias"] = payload
        else:
            changed["meta"] = payload
        torch.save(changed, saved)

    refused(saved, "not a readable checkpoint")
    assert not proof.exists()

    # The payload is real: an unrestricted reader runs it.
    pickle.loads(saved.read_bytes()) if form == "pickle" else torch.load(saved, weights_only=False)
    assert proof.is_dir()


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_that_cannot_be_written_leaves_the_old_file(checkpoint, saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        replace(checkpoint, training={"seed": object()}).save(saved)
    assert saved.read_bytes() == before
    assert listing(saved.parent) == ["model.pt"]


def test_a_missing_folder_is_an_error_of_the_user(checkpoint, tmp_path):
    with pytest.raises(StunetError, match="cannot be written"):
        checkpoint.save(tmp_path / "nowhere" / "model.pt")
    assert listing(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import StunetError

checkpoint = Checkpoint.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    checkpoint.save(sys.argv[1])
except StunetError as error:
    print(error)
"""


def test_a_write_that_fails_half_way_leaves_the_old_file(saved):
    before = saved.read_bytes()

    done = subprocess.run([sys.executable, "-c", FULL_DISK, saved], cwd=ROOT, capture_output=True, text=True)

    assert "model.pt cannot be written" in done.stdout, done.stderr
    assert saved.read_bytes() == before
    assert listing(saved.parent) == ["model.pt"]


@pytest.mark.parametrize("fill", ["forecast", "last", "mean"])
def test_another_fill_has_the_same_weights_and_matters_only_where_readings_are_missing(checkpoint, fill):
    other = checkpoint.with_fill(fill)

    assert (checkpoint.model.config.fill, other.model.config.fill) == ("usual", fill)
    assert other.with_fill("usual").model.contract == checkpoint.model.contract
    assert (other.site, other.training) == (checkpoint.site, checkpoint.training)
    for name, weight in checkpoint.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], weight, rtol=0, atol=0)
    assert np.abs(forecasts(other) - forecasts(checkpoint)).max() > 0.01
    whole = replace(checkpoint.reference, observed=np.ones_like(checkpoint.reference.observed))
    seen, otherwise = replace(checkpoint, reference=whole), replace(other, reference=whole)
    np.testing.assert_allclose(forecasts(otherwise), forecasts(seen), atol=1e-3)


def test_zeros_are_no_fill_to_change_from_or_to(checkpoint, build_model):
    with pytest.raises(ConfigError, match="zeros in both or in none"):
        checkpoint.with_fill("zeros")
    config = replace(checkpoint.model.config, fill="zeros", mask_channel=False)
    literature = replace(checkpoint, model=build_model(config, np.roll(np.eye(NODES), 1, axis=1), signal=SIGNAL))
    with pytest.raises(ConfigError, match="a model with fill 'zeros'"):
        literature.with_fill("last")
    assert literature.with_fill("zeros").model.config.fill == "zeros"
