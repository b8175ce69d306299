"""A Structural-RNN by command: trained, scored, exported, verified, streamed and drawn like any other model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stunet_deploy.cli import main

CONFIG = """
[model]
edge_embedding = [4]
edge_hidden = 4
node_embedding = [4]
node_hidden = 8
head = [8]
window = 6
{model}
[training]
epochs = 1
batch = 8
chunk = 12
warm_up = 4
threads = 1
"""
OPTIONS = {
    "two types of sensors, profile": "horizon = 2\nprofile = true",
    "roll-out, attention": 'horizon = 2\nprofile = false\ndecoder = "recurrent"\ncell = "gru"\n'
    'edge_state = "per_edge"\ncombine = "attention"',
}


@pytest.fixture(scope="module")
def trained(place: Any, run_stunet: Callable[[list[str]], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a Structural-RNN of one type of sensors."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "srnn.toml").write_text(CONFIG.format(model="horizon = 2"), encoding="utf-8")
    run_stunet([*place.train_arguments(folder / "model.pt", folder / "srnn.toml"), "--model", "srnn"])
    return folder / "model.pt"


@pytest.mark.slow
@pytest.mark.parametrize("model", OPTIONS.values(), ids=OPTIONS)
def test_the_whole_way(
    model: str, place: Any, answer: Callable[..., Any], tmp_path: Path, run_stunet: Callable[[list[str]], str]
) -> None:
    config, types = tmp_path / "srnn.toml", tmp_path / "types.csv"
    checkpoint, bundle = tmp_path / "model.pt", tmp_path / "model.bundle"
    config.write_text(CONFIG.format(model=model), encoding="utf-8")
    types.write_text("sensor_id,type\nnorth,road\neast,road\nsouth,road\nwest,road\nramp,ramp\n", encoding="utf-8")
    data = ("--data", place.speeds)

    run_stunet([*place.train_arguments(checkpoint, config), "--model", "srnn", "--types", str(types)])
    scored = json.loads(run_stunet(["evaluate", str(checkpoint), *map(str, data), "--json"]))["results"]
    run_stunet(["export", str(checkpoint), "--out", str(bundle)])
    verified = answer("verify", bundle)
    from_bundle = answer("evaluate", bundle, *data)["results"]
    runs = [answer("run", bundle, "--replay", place.speeds, "--mode", mode) for mode in ("carry", "window")]

    assert verified["passed"]
    assert {result["model"] for result in scored} > {"srnn", "persistence"}
    for ours, theirs in zip(from_bundle, scored, strict=True):
        assert ours["mae"] == pytest.approx(theirs["mae"], rel=1e-4), (ours["model"], ours["protocol"])
    assert [run["intervals"] for run in runs] == [600, 600]
    for made in (checkpoint, bundle):
        assert answer("inspect", made)["model"] == "srnn"
        text = inspected(made)
        assert "road × 4  1 channel" in text
        assert "temporal ramp" in text
        assert "node.road.hidden" in text


def inspected(what: Path | str) -> str:
    import io
    from contextlib import redirect_stdout

    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["inspect", str(what)]) == 0
    return out.getvalue()


def test_an_st_graph_is_drawn(answer: Callable[..., Any], tmp_path: Path) -> None:
    described = answer("inspect", "body-five-parts")

    assert described["nodes"]["arm"] == ["left_arm", "right_arm"]
    text = inspected("skeleton-cmu")
    assert text.startswith("CMU skeleton, 38 joints: 38 nodes, 37 edges, 117 channels\n")
    file = tmp_path / "one.toml"
    file.write_text('node_types = ["a"]\nnodes = [{ name = "x", type = "a", slice = [0, 1] }]\n', encoding="utf-8")
    assert "no edge types" in inspected(file)


def test_a_broken_st_graph_is_an_error_in_three_clauses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.toml"
    file.write_text('node_types = ["a"]\nnodes = [{ name = "x", type = "b", slice = [0, 1] }]\n', encoding="utf-8")

    assert main(["inspect", str(file)]) == 2
    assert "undeclared type 'b'" in capsys.readouterr().err


def test_types_of_sensors_are_for_the_family_that_knows_them(
    place: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    types = tmp_path / "types.csv"
    types.write_text("sensor_id,type\nnorth,road\n", encoding="utf-8")

    assert main([*place.train_arguments(tmp_path / "model.pt"), "--types", str(types)]) == 2
    assert "--model srnn" in capsys.readouterr().err
    config = tmp_path / "srnn.toml"
    config.write_text(CONFIG.format(model=""), encoding="utf-8")
    srnn = [*place.train_arguments(tmp_path / "model.pt", config), "--model", "srnn"]
    assert main([*srnn, "--types", str(types)]) == 2
    assert "4 sensors without a type" in capsys.readouterr().err


def test_a_trained_model_on_another_network(
    place: Any, trained: Path, answer: Callable[..., Any], tmp_path: Path, run_stunet: Callable[[list[str]], str]
) -> None:
    """Four of the sensors under other names, joined in a line: exported and verified without further training."""
    first, other = trained, tmp_path / "other.pt"
    lines = [line.rsplit(",", 1)[0] for line in place.speeds.read_text(encoding="utf-8").splitlines()]
    lines[0] = "timestamp,n,e,s,w"
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "line.csv").write_text("from,to,distance\nn,e,300\ne,s,500\ns,w,400\n", encoding="utf-8")
    there = ["--data", tmp_path / "other.csv", "--graph", tmp_path / "line.csv", "--out", other]

    made = answer("train", "--start-from", first, "--epochs", "0", *there)
    assert made["epochs"] == made["best_epoch"] == 0
    assert made["log"] is None
    assert answer("inspect", other)["sensors"] == 4
    bundle = tmp_path / "other.bundle"
    answer("export", other, "--out", bundle)
    assert answer("verify", bundle)["passed"]

    trained = json.loads(run_stunet(["train", "--start-from", str(first), "--epochs", "1", *map(str, there), "--json"]))
    assert trained["epochs"] == 1
    assert main(["train", "--model", "srnn", "--start-from", str(place.model), *map(str, there)]) == 2


def test_a_node_is_explained(
    place: Any,
    trained: Path,
    answer: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, out = trained, tmp_path / "east.png"

    found = answer("inspect", model, "--explain", "east", "--data", place.speeds, "--intervals", "40", "--out", out)
    assert (found["intervals"], found["warm_up"], found["outputs"]) == (40, 6, ["speed"])
    assert set(found["factors"]) == {"spatial upstream", "spatial downstream", "temporal sensor", "node sensor"}
    edges = {(one["edge_type"], one["neighbour"]) for one in found["contributions"]}
    assert edges == {("upstream", None), ("upstream", "north"), ("downstream", None), ("downstream", "south")}
    assert out.read_bytes().startswith(b"\x89PNG")

    own = answer("inspect", model, "--explain", "ramp")
    assert own["intervals"] == 288
    assert own["plot"] is None
    capsys.readouterr()
    assert main(["inspect", str(model), "--explain", "east", "--intervals", "3"]) == 0
    assert "    north " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "east"], "family 'stunet'"),
        (["--out", "x.png"], "--out without --explain"),
        (["--explain", "east", "--out", "x.jpg"], "a .png file"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    place: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(place.model), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert main(["inspect", str(place.bundle), "--explain", "east"]) == 2
    assert "the checkpoint" in capsys.readouterr().err


def test_a_picture_of_many_edges_shows_the_largest() -> None:
    from stunet_deploy.cli.pictures.explanation import MOST_EDGES, draw
    from stunet_deploy.models.srnn.explanation import Contribution, Explanation

    rng = np.random.default_rng(3)
    count = MOST_EDGES + 5
    traces = {name: rng.uniform(-1, 1, (7, 3)).astype(np.float32) for name in [*map(str, range(count)), "t", "n"]}
    changes = [np.full((7, 2, 1), size, np.float32) for size in (100, *range(count))]
    contributions = [Contribution("near", f"p{n - 1}" if n else None, change) for n, change in enumerate(changes)]
    found = Explanation("p", ("x",), changes[0], traces, tuple(contributions))
    figure = draw(found, 300 * np.arange(7), "UTC", "m")

    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 1 + MOST_EDGES + 2 + 1
    labels = [label.get_text() for label in panels[-1].get_yticklabels()]
    assert labels[:2] == ["near: all", f"near: p{count - 1}"]
    assert len(labels) == 1 + MOST_EDGES
    assert panels[-1].get_title().endswith("; 5 smaller ones left out")
