"""What is said of a recording beside its file goes with the model: names, units, codes for no data."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.stream import Stream
from stunet_deploy.cli import main
from tests.stunet_deploy.cli.conftest import SENSORS, Place

CODE = 2046


@pytest.fixture
def spoilt(place: Place, tmp_path: Path) -> Path:
    """Return the small network's recording with a code in every empty cell."""
    lines = place.speeds.read_text().splitlines()
    rows = [[cell or str(CODE) for cell in line.split(",")] for line in lines]
    path = tmp_path / "spoilt.csv"
    path.write_text("\n".join(map(",".join, rows)))
    return path


def arguments(place: Place, data: Path, out: Path) -> list[str]:
    given = place.train_arguments(out)
    given[given.index("--data") + 1] = str(data)
    return given


def test_a_model_knows_the_codes_of_its_recording(
    place: Place, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Callable[..., Any]
) -> None:
    model, bundle = tmp_path / "model.pt", tmp_path / "model.bundle"
    said = ["--no-data", str(CODE), "--feature", "velocity", "--unit", "km/h"]
    assert main([*arguments(place, spoilt, model), *said]) == 0
    shown = capsys.readouterr().err
    assert "codes for no data read as missing" in shown
    assert "called" not in shown
    assert main(["export", str(model)]) == 0

    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["no_data"], manifest["features"], manifest["units"]) == ([[CODE]], ["velocity"], ["km/h"])
    assert manifest["limits"][0][1] < 100

    assert main(["inspect", str(bundle)]) == 0
    assert f"anything outside counts as missing, as do {CODE} of velocity" in capsys.readouterr().out

    # The same readings with empty cells are the same recording, to an evaluation and to a stream.
    with_codes, empty = (answer("evaluate", model, "--data", data)["results"] for data in (spoilt, place.speeds))
    assert with_codes == empty
    assert (
        answer("run", bundle, "--replay", spoilt)["last_forecast"]["values"]
        == (answer("run", bundle, "--replay", place.speeds)["last_forecast"]["values"])
    )
    with closing(Stream.open(bundle)) as one, closing(Stream.open(bundle)) as other:
        coded = one.push(np.array([60, CODE, 61, 62, CODE], np.float32), "2012-03-05T00:00:00Z")
        empty = other.push([60, None, 61, 62, None], "2012-03-05T00:00:00Z")
        assert np.array_equal(coded.values, empty.values)
        assert one.counters.outside_limits == 0


def test_a_code_that_nobody_names_is_remarked_and_learnt_from_by_nothing(
    place: Place, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.pt"
    assert main(arguments(place, spoilt, model)) == 0
    assert f"are exactly {CODE}, far from all others" in capsys.readouterr().err

    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["inspect", str(place.model), "--json"]) == 0
    assert found["accuracy"] == json.loads(capsys.readouterr().out)["accuracy"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--no-data", "none"], "none; expected a number"),
        (["--no-data", "speed=nan"], "expected a number"),
        (["--no-data", "1e308"], "expected a number"),
        (["--no-data", "flow=0"], "the feature 'flow', which speeds.csv does not have"),
        (["--unit", "mph", "--unit", "km/h"], "one unit, or one for each feature"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "data inspect"])
def test_what_cannot_be_meant_is_refused(
    verb: str, said: list[str], words: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.pt"
    given = place.train_arguments(out) if verb == "train" else ["data", "inspect", str(place.speeds)]
    try:
        code = main([*given, *said])
    except SystemExit as refused:
        code = refused.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_what_is_said_of_a_graph_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "--no-data", "3", str(place.edges)]) == 2
    assert "edges.csv, which holds graph" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("hours", [6, 24, 48, 168])
def test_coarse_intervals_go_all_the_way(hours: int, place: Place, tmp_path: Path, answer: Callable[..., Any]) -> None:
    stamps = np.datetime64("2015-01-05T00:00") + np.arange(260) * np.timedelta64(hours, "h")
    waves = 100 + 20 * np.sin(np.arange(260) / 8)
    rows = [
        ",".join([str(stamp), *[f"{wave + node:.1f}" for node in range(5)]])
        for stamp, wave in zip(stamps, waves, strict=True)
    ]
    data = tmp_path / "visits.csv"
    data.write_text("\n".join(["time," + ",".join(SENSORS), *rows[:100], *rows[101:]]))  # one is absent
    model = tmp_path / "model.pt"
    given = arguments(place, data, model)
    given[given.index("--timezone") + 1] = "Europe/Berlin"
    assert main([*given, "--feature", "visits"]) == 0
    assert main(["export", str(model)]) == 0
    found = answer("run", tmp_path / "model.bundle", "--replay", data)
    assert (found["intervals"], found["counters"]["resets"]) == (260, 0)
    assert answer("evaluate", model, "--data", data)["results"][0]["count"] > 0
