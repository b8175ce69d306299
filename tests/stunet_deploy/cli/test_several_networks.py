"""Models of several networks by command: learnt together, continued on another, used there as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.cli import main


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Another network, its counts of ten minutes and its graph."""
    folder = tmp_path_factory.mktemp("counts")
    rng = np.random.default_rng(8)
    time = np.arange(400)
    flow = 300 + 120 * np.sin(2 * np.pi * time / 144)[:, None] + rng.normal(0, 15, (400, 3))
    stamps = np.datetime64("2014-05-05T00:00:00") + time * np.timedelta64(600, "s")
    lines = [f"{stamp},{','.join(f'{value:.0f}' for value in row)}" for stamp, row in zip(stamps, flow, strict=True)]
    (folder / "counts.csv").write_text("\n".join(["timestamp,a,b,c", *lines]) + "\n", encoding="utf-8")
    (folder / "line.csv").write_text("from,to,distance\na,b,300\nb,c,500\n", encoding="utf-8")
    return [folder / "counts.csv", folder / "line.csv"]


@pytest.fixture(scope="module")
def both(
    place: Any, counts: list[Path], run_stunet: Callable[[list[str]], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint of a training on both networks."""
    model = tmp_path_factory.mktemp("both") / "both.pt"
    data, graph = map(str, counts)
    zones = ["--timezone", "Europe/Berlin", "--epochs", "1"]
    run_stunet([*place.train_arguments(model), "--data", data, "--graph", graph, *zones])
    return model


def test_networks_learnt_together_give_a_model_of_the_first(
    place: Any, both: Path, answer: Callable[..., Any], tmp_path: Path
) -> None:
    described = answer("inspect", both)
    assert (described["sensors"], described["timezone"]) == (5, "America/Los_Angeles")
    answer("export", both, "--out", tmp_path / "both.bundle")
    assert answer("verify", tmp_path / "both.bundle")["passed"]
    (beside,) = Checkpoint.load(both).training["beside"]
    assert (beside["data"].split()[0], beside["sensors"]) == ("counts.csv", 3)
    assert (both.parent / "both.log.csv").is_file()
    assert not (both.parent / "both.pt.state").exists()
    scored = answer("evaluate", both, "--data", place.speeds)["results"]
    assert {result["model"] for result in scored} > {"stunet", "persistence"}


def test_a_start_is_used_as_it_is_or_continued_elsewhere(
    both: Path,
    counts: list[Path],
    answer: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    run_stunet: Callable[[list[str]], str],
) -> None:
    data, graph = map(str, counts)
    there = ["train", "--start-from", str(both), "--data", data, "--graph", graph, "--out", str(tmp_path / "there.pt")]

    made = json.loads(run_stunet([*there, "--epochs", "0", "--json"]))
    said = capsys.readouterr().err
    assert made["epochs"] == made["best_epoch"] == 0
    assert "look at: counts.csv" in said
    assert "the weights are of intervals of 300 s, the recording has 600 s" in said
    assert answer("inspect", tmp_path / "there.pt")["sensors"] == 3
    answer("export", tmp_path / "there.pt", "--out", tmp_path / "there.bundle")
    assert answer("verify", tmp_path / "there.bundle")["passed"]

    # Below a preset's architecture lies that of the start: only what a file says may contradict it.
    trained = json.loads(run_stunet([*there, "--preset", "small", "--epochs", "1", "--json"]))
    assert trained["epochs"] == 1
    for text, code in (("hidden = 4", 0), ("hidden = 5", 2)):
        (tmp_path / "file.toml").write_text(f"[model]\n{text}\n", encoding="utf-8")
        assert main([*there, "--epochs", "0", "--config", str(tmp_path / "file.toml")]) == code
    assert "another hidden than the model to start from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (["--data", "{counts}"], "1 --graph for 2 --data"),
        (["--data", "{counts}", "--graph", "{line}", "--timezone", "UTC", "--timezone", "UTC"], "3 --timezone for 2"),
        (["--data", "{counts}", "--graph", "{line}", "--model", "srnn"], "2 networks for a Structural-RNN"),
        (["--data", "{counts}", "--graph", "{counts}"], "counts.csv"),
        (["--start-from", "{both}", "--model", "srnn"], "give --model stunet"),
    ],
)
def test_networks_that_do_not_go_together_are_refused(
    place: Any,
    counts: list[Path],
    both: Path,
    tmp_path: Path,
    added: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["train", "--data", place.speeds, "--graph", place.edges, "--timezone", "America/Los_Angeles"]
    given = [text.format(counts=counts[0], line=counts[1], both=both) for text in added]

    assert main([*map(str, arguments), "--out", str(tmp_path / "model.pt"), *given]) == 2

    said = capsys.readouterr().err
    assert message in said
    assert all(clause in said for clause in ("error:", "expected:", "to do:"))
    assert list(tmp_path.iterdir()) == []
