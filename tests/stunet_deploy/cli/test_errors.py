"""What goes wrong is said in three clauses, with an exit code, and never as a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.messages import LONGEST_MESSAGE, read_json_lines
from stunet_deploy.cli import main
from stunet_deploy.toml_files import read_toml
from tests.paths import ROOT

from .conftest import Place, write_speeds

CASES = {
    "missing recording": ("evaluate {bundle} --data {folder}/no.csv", "no.csv"),
    "missing model": ("evaluate {folder}/no.pt --data {speeds}", "no.pt"),
    "missing graph": ("train --data {speeds} --out {tmp}/m.pt", "without a graph"),
    "graph of others": ("train --data {speeds} --graph {tmp}/others.csv --out {tmp}/m.pt", "others.csv"),
    "folder in place of a model": ("train --data {speeds} --out {tmp}", "which is a folder"),
    "no folder for the model": ("train --data {speeds} --out {tmp}/no/m.pt", "does not exist"),
    "unknown setting": ("train --data {speeds} --out {tmp}/m.pt --config {tmp}/bad.toml", "hiden"),
    "broken settings": ("train --data {speeds} --out {tmp}/m.pt --config {edges}", "edges.csv"),
    "nothing to resume": ("train --data {speeds} --out {tmp}/m.pt --resume", "--resume"),
    "unknown zone": ("evaluate {bundle} --data {speeds} --timezone Mars/Base", "Mars/Base"),
    "other sensors": ("evaluate {bundle} --data {tmp}/foreign.csv", "ramp"),
    "other sensors in a run": ("run {bundle} --replay {tmp}/foreign.csv", "pole"),
    "a share beyond all": ("evaluate {bundle} --data {speeds} --hide 0.1 1.5", "1.5"),
    "blocks of nothing": ("evaluate {bundle} --data {speeds} --hide-blocks 6", "--hide-blocks without --hide"),
    "blocks too short": ("evaluate {bundle} --data {speeds} --hide 0.1 --hide-blocks 0.01", "0.01 hours"),
    "no seed": ("evaluate {bundle} --data {speeds} --hide 0.1 --seed -3", "seed -3"),
    "a graph for no trees": ("evaluate {bundle} --data {speeds} --graph {edges}", "--graph without --trees"),
    "backend for a model": ("evaluate {model} --data {speeds} --backend tensorrt", "--backend tensorrt"),
    "no such bundle": ("verify {folder}/no.bundle", "no.bundle: no such folder"),
    "no bundle": ("verify {folder}", "without manifest.json"),
    "a file for a bundle": ("run {speeds} --replay {speeds}", "without manifest.json"),
    "a foreign model": ("inspect {speeds}", "not a readable checkpoint"),
    "a foreign model to export": ("export {speeds}", "not a readable checkpoint"),
    "unknown backend": ("verify {bundle} --backend abacus", "abacus"),
    "server of later": ("run {bundle} --replay {speeds} --backend triton://box:8001/speed", "not built in yet"),
    "a bundle and nothing to forecast from": ("run {bundle}", "without --replay"),
    "empty span": ("run {bundle} --replay {speeds} --from 2031-01-01", "no interval"),
    "no time": ("run {bundle} --replay {speeds} --from yesterday", "yesterday"),
    "two answers": ("run {bundle} --replay {speeds} --json-lines --json", "--json-lines"),
    "demo without time": ("demo --out {tmp}/demo --minutes 0", "--minutes"),
}


@pytest.mark.parametrize(("command", "named"), CASES.values(), ids=CASES)
def test_three_clauses_and_exit_code_2(
    command: str, named: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "others.csv").write_text("from,to,weight\nx,y,1\n")
    (tmp_path / "bad.toml").write_text("[model]\nhiden = 8\n")
    write_speeds(tmp_path / "foreign.csv")
    foreign = (tmp_path / "foreign.csv").read_text().replace("ramp", "pole")
    (tmp_path / "foreign.csv").write_text(foreign)
    words = command.format(**{name: str(path) for name, path in vars(place).items()}, tmp=tmp_path).split()

    assert main(words) == 2

    captured = capsys.readouterr()
    clauses = [line for line in captured.err.splitlines() if line.startswith(("error:", "expected:", "to do:"))]
    assert [clause.partition(":")[0] for clause in clauses] == ["error", "expected", "to do"]
    assert all(clause.partition(":")[2].strip() for clause in clauses)
    assert named in clauses[0]
    assert captured.out == ""


@pytest.mark.parametrize(
    "words", ["run --help", "data inspect µ.csv", "data inspect µ.csv --json", "data inspect →.csv"]
)
def test_a_terminal_without_the_characters_gets_their_numbers(words: str, tmp_path: Path) -> None:
    (tmp_path / "µ.csv").write_text("time,µ1\n2012-03-01T00:00,1\n2012-03-01T00:05,2\n", encoding="utf-8")
    program = "import sys; from stunet_deploy.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )

    assert b"Traceback" not in done.stderr
    assert done.returncode == (2 if "→" in words else 0)
    if "--json" in words:
        assert json.loads(done.stdout)["series"]["first_sensor"] == "µ1"


def test_a_byte_order_mark_before_settings_and_messages_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('targets = ["speed"]\n', encoding="utf-8-sig")
    message = '{"timestamp": "2012-03-01T08:00:00Z", "values": {"a": 1}}'

    assert read_toml(tmp_path / "own.toml") == {"targets": ["speed"]}
    assert list(read_json_lines([f"\ufeff{message}", message])) == list(read_json_lines([message] * 2))


def test_a_bad_line_of_json_is_named(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    good = '{"timestamp": "2012-03-01T08:00:00Z", "values": {"north": 50, "ramp": null}}\n'
    lines = [good, '{"timestamp": "2012-03-01T08:05:00Z", "values": {"north": NaN}}\n', "{}\n"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))

    assert main(["run", str(place.bundle), "--replay", "-", "--json-lines"]) == 2

    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2  # NaN is a reading that is not there
    assert "line 3" in captured.err


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * (2 * LONGEST_MESSAGE)))

    assert main(["run", str(place.bundle), "--replay", "-"]) == 2
    assert f"line 1: a message of {LONGEST_MESSAGE + 1:,} bytes" in capsys.readouterr().err


def test_unknown_words_are_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["dance"], [], ["train", "--data", "x", "--out", "y", "--max-minutes", "-1"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)


def test_a_reader_that_has_seen_enough_ends_the_run_quietly(place: Place) -> None:
    command = [sys.executable, "-m", "stunet_deploy", "run", str(place.bundle), "--replay", str(place.speeds)]
    run = subprocess.Popen(
        [*command, "--json-lines"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stderr is not None

    assert run.stdout.readline().startswith("{")
    run.stdout.close()
    errors = run.stderr.read()
    run.stderr.close()

    assert run.wait() == 141
    assert errors == ""


@pytest.mark.parametrize(
    ("blocked", "arguments", "extra"),
    [
        ("torch", ["inspect", "{model}"], "stunet-deploy[train]"),
        (
            "matplotlib",
            ["evaluate", "{bundle}", "--data", "{speeds}", "--plots", "{folder}/none"],
            "stunet-deploy[train]",
        ),
        ("lightgbm", ["evaluate", "{bundle}", "--data", "{speeds}", "--trees", "1"], "stunet-deploy[baselines]"),
        ("onnxruntime", ["verify", "{bundle}"], "stunet-deploy[cpu]"),
        ("onnxruntime", ["export", "{model}", "--out", "{folder}/none.bundle"], "stunet-deploy[cpu]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    blocked: str, arguments: list[str], extra: str, place: Place
) -> None:
    code = (
        f"import sys; sys.modules[{blocked!r}] = None; from stunet_deploy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [word.format(**vars(place)) for word in arguments]

    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 2
    assert extra in done.stderr
    assert "Traceback" not in done.stderr
