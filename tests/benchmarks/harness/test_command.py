"""What every benchmark has from the harness: options, short form, page, recordings and runs that are kept."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, page, table
from benchmarks.harness.store import Store
from stunet_deploy.series.series import read_series
from tests.paths import ROOT


def command() -> Command:
    made = Command("benchmarks.speed.example", "An example.")
    made.option("--rounds", 100, "how often", quick=2)
    made.option("--sizes", (1, 2), "which sizes", quick=(1,))
    made.option("--bundle", None, "which bundle", kind=Path)
    return made


def test_the_short_form_has_defaults_of_its_own_and_a_folder_of_its_own() -> None:
    whole, short = command().parse([]), command().parse(["--quick", "--sizes", "3", "4"])

    assert (whole.rounds, whole.sizes, whole.out) == (100, (1, 2), ROOT / "benchmarks" / "results")
    assert (short.rounds, short.sizes, short.out) == (2, [3, 4], ROOT / "out" / "quick")


def test_a_page_names_its_command_without_folders() -> None:
    options = command().parse(["--rounds", "7", "--out", "/elsewhere/results", "--bundle", "/elsewhere/a.bundle"])

    assert options.command == "python -m benchmarks.speed.example --rounds 7 --bundle a.bundle"


def test_the_page_can_be_written_anew_from_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def report(result: dict[str, Any]) -> str:
        return page("Example", f"`{result['command']}`", f"{result['rounds']} rounds", machine(result["environment"]))

    options = ["--rounds", "7", "--out", str(tmp_path)]
    command().run(lambda options: {"rounds": options.rounds}, report, options)
    written, data = ((tmp_path / f"example.{kind}").read_text(encoding="utf-8") for kind in ("md", "json"))
    (tmp_path / "example.md").unlink()
    command().run(lambda options: pytest.fail("measured"), report, ["--page-only", "--out", str(tmp_path)])

    assert (tmp_path / "example.md").read_text(encoding="utf-8") == written
    assert (tmp_path / "example.json").read_text(encoding="utf-8") == data
    assert "`python -m benchmarks.speed.example --rounds 7`\n\n7 rounds\n\n" in written
    assert json.loads(data)["environment"]["python"] in written
    assert capsys.readouterr().out.count(written) == 2


def test_small_weeks_stand_in_for_the_real_ones(tmp_path: Path) -> None:
    made = command()
    made.weeks()

    first, second = made.parse(["--quick", "--out", str(tmp_path)]).weeks

    assert (first.name, second.name) == ("metr-la", "pemsd7-m")
    assert first.series().values.shape == second.series().values.shape == (432, 6, 1)
    assert not set(first.series().sensor_ids) & set(second.series().sensor_ids)


def test_a_recording_that_is_absent_ends_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = command()
    made.recording()

    with pytest.raises(SystemExit, match="2"):
        made.parse(["--data", str(tmp_path / "none.npz")])

    assert "none.npz; set STUNET_DATA" in capsys.readouterr().err
    assert len(read_series(made.parse(["--quick", "--out", str(tmp_path)]).data).sensor_ids) == 6


def test_runs_are_found_again_by_their_settings(tmp_path: Path) -> None:
    known = {"seed": 0, "config": {"scales": ((2, 2),)}}
    Store(tmp_path / "runs.json").add(known | {"mae": 1.5})

    (found,) = Store(tmp_path / "runs.json").find(known)

    assert found["mae"] == 1.5
    assert Store(tmp_path / "runs.json").find(known | {"seed": 1}) == []


def test_runs_that_are_kept_are_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "runs.json")
    store.add({"seed": 1, "mae": 1.5})
    wanted = [([("seed", seed)],) for seed in (0, 1, 2)]  # `dict` makes both the identity and the run of it

    store.complete(wanted, dict, dict, 1, lambda one: f"seed {one['seed']}")

    kept = Store(tmp_path / "runs.json").runs
    assert kept == [{"seed": 1, "mae": 1.5}, {"seed": 0}, {"seed": 2}]
    assert capsys.readouterr().out.splitlines() == ["1/2 seed 0", "2/2 seed 2"]


def test_a_table_is_markdown() -> None:
    assert (
        table(["way", "ms"], [["step", 1], ["window", "–"]])
        == "| way | ms |\n| --- | --- |\n| step | 1 |\n| window | – |"
    )


@pytest.mark.parametrize("room", ["accuracy", "speed", "field", "paper"])
def test_what_is_a_command_runs_as_one(room: str) -> None:
    """A module that declares a command is run by ``python -m``, and the readme of the benchmarks names it."""
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "benchmarks" / room).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if f'Command("benchmarks.{room}.' in text or "Command(MODULE" in text:
            last = ast.parse(text).body[-1]
            assert isinstance(last, ast.If), path
            assert ast.unparse(last.test) == "__name__ == '__main__'", path
            assert f"`{room}.{path.stem}`" in readme
