"""A dry run: what would run, and all that is wrong with it, without touching anything."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from stunet_deploy.bundle import GOLDEN
from stunet_deploy.cli import main

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'


def test_a_dry_run_says_what_would_run_and_all_that_is_wrong(write_config, recording, capsys, tmp_path):
    source, http = f'kind = "replay"\npath = "{recording.name}"', 'kind = "http"\nurl = "http://127.0.0.1:9/in"'
    good = write_config(source, [STDOUT, 'kind = "csv"\nfolder = "out"'])
    before = sorted(tmp_path.iterdir())

    assert main(["run", "--config", str(good), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["stream", "state", "from", "to", "to"]
    assert sorted(tmp_path.iterdir()) == before

    weighted = write_config('kind = "stdin"', [STDOUT], extra='assembler.rules.speed.weight = "count"')
    assert main(["run", "--config", str(weighted), "--dry-run"]) == 0
    assert "  single readings of speed, trend, count\n" in capsys.readouterr().out

    recording.write_text("nothing\n")
    bad = write_config(source, [http, 'kind = "csv"\nfolder = "recording.csv/x"'], extra='precision = "fp8"')
    assert main(["run", "--config", str(bad), "--dry-run", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert len(said["plan"]) == 5
    for problem, named in zip(said["problems"], ["fp8", "nothing", "127.0.0.1:9", "recording.csv/x"], strict=True):
        assert named in problem["came"]


def test_a_dry_run_refuses_a_bundle_that_is_not_whole(write_config, recording, build_example, example, capsys):
    config = write_config(f'kind = "replay"\npath = "{recording.name}"', [STDOUT])
    bundle = build_example((2, 1), (3,)).bundle
    (bundle.path / GOLDEN).unlink()
    config.write_text(config.read_text().replace(str(example.bundle.path), str(bundle.path)))

    assert main(["run", "--config", str(config), "--dry-run"]) == 2
    assert f"without {GOLDEN}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_a_parquet_sink_without_pyarrow_names_the_extra(write_config, recording, monkeypatch, capsys, arguments):
    config = write_config(f'kind = "replay"\npath = "{recording.name}"', ['kind = "parquet"\nfolder = "out"'])
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert main(["run", "--config", str(config), *arguments]) == 2
    assert "pip install 'stunet-deploy[parquet]'" in capsys.readouterr().err


def test_a_dry_run_beside_the_running_service_notes_what_it_uses(
    write_config, start, pipe, build_example, example, capsys
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = write_config(STDIN, [STDOUT], top=f"[http]\nport = {port}")
    running = start(config)
    other = build_example((2, 1), (3,)).bundle
    for bundle in (example.bundle, other):  # as it runs, and as it would be reloaded
        config.write_text(config.read_text().replace(str(example.bundle.path), str(bundle.path)))
        assert main(["run", "--config", str(config), "--dry-run", "--json"]) == 0
        said = capsys.readouterr()
        state, page = json.loads(said.out)["notes"]
        assert "running service uses" in state
        assert f"port {port} is taken" in page
        assert f"note: {state}" in said.err
    running.finish()

    config.write_text(config.read_text().replace(str(other.path), str(example.bundle.path)))
    assert main(["run", "--config", str(config), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        assert main(["run", "--config", str(config), "--dry-run"]) == 2
