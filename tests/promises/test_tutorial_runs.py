"""The tutorial, its notebook and the training example run as they stand, with less data and fewer epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.commands import run, run_commands, run_python, write_cut
from tests.paths import ROOT

TUTORIAL = ROOT / "docs" / "tutorial"
NOTEBOOK = TUTORIAL / "first-day.ipynb"
PAGE = (TUTORIAL / "first-service.md").read_text(encoding="utf-8")
#: What a test runs less of than a reader, and does not wait for.
SHORTER = {
    "SENSORS, DAYS = 20, 14": "SENSORS, DAYS = 6, 5",
    "--epochs 20": "--epochs 1",
    "speed = 300 ": "speed = 0 ",
    "port = 8080": "port = 0",
}

EXECUTE = """
import sys, nbclient, nbformat

notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=600).execute()
nbformat.write(notebook, sys.argv[1])
"""


def shorter(text: str) -> str:
    for whole, part in SHORTER.items():
        text = text.replace(whole, part)
    return text


def outputs(notebook: Path) -> list[str]:
    """What each cell of code shows, in order: names of streams and types of data."""
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    return [
        ",".join(sorted({kind for output in cell["outputs"] for kind in output.get("data", [output.get("name")])}))
        for cell in cells
    ]


def test_the_notebook_is_stored_with_its_pictures_and_small() -> None:
    shown = outputs(NOTEBOOK)

    assert sum("image/png" in kinds for kinds in shown) == 3
    assert NOTEBOOK.stat().st_size < 400_000


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_is_stored_with(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    copy = tmp_path / NOTEBOOK.name
    copy.write_text(shorter(NOTEBOOK.read_text(encoding="utf-8")), encoding="utf-8")

    run_python("-c", EXECUTE, copy.name, folder=tmp_path)

    assert outputs(copy) == outputs(NOTEBOOK)


@pytest.mark.slow
def test_the_tutorial_goes_from_a_csv_file_to_a_service(tmp_path: Path) -> None:
    for name, content in re.findall(r"^```\w+ (\S+)\n(.*?)^```", PAGE, re.M | re.S):
        (tmp_path / name).write_text(shorter(content), encoding="utf-8")
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)).splitlines()
    run_python("make_csv.py", folder=tmp_path)

    answers = run_commands([command for command in commands if command.startswith("stunet")], tmp_path)

    assert [command.split()[:2] for command in answers][-1] == ["stunet", "run"]
    assert "2025-03-30T23:55:00Z" in "".join(answers.values())
    forecasts = "".join(path.read_text() for path in sorted((tmp_path / "forecasts").glob("*.csv")))
    assert forecasts.count("2025-03-30T23:55:00Z,2025-03-31T00:00:00Z,5,speed") == 1


def test_the_mqtt_service_of_the_tutorial_reads_its_message(tmp_path: Path) -> None:
    from runtime.messages import Record, read_message
    from runtime.service.config import read_config

    (config,) = re.findall(r"^```toml mqtt.toml\n(.*?)^```", PAGE, re.M | re.S)
    (tmp_path / "mqtt.toml").write_text(config, encoding="utf-8")
    ((topic, message),) = re.findall(r'^mosquitto_pub .*-t (\S+) -m "(.*)"$', PAGE, re.M)

    (stream,) = read_config(tmp_path / "mqtt.toml").stream
    assert stream.source.topics == (topic,)
    read = read_message(message.replace("\\", "").replace("$stamp", "1742774400"))
    assert isinstance(read, Record)
    assert f"stunet/{stream.name}/forecast" in PAGE


@pytest.mark.slow
def test_the_training_example_makes_a_verified_bundle(tmp_path: Path) -> None:
    write_cut(tmp_path / "stunet_deploy" / "data" / "freeway.npz", sensors=6, days=5)
    (tmp_path / "config.toml").write_text("[model]\nhidden = 4\n[training]\nepochs = 1\nbatch = 64\n", encoding="utf-8")

    answer = run(ROOT / "examples" / "01_train.sh", "--config", "config.toml", folder=tmp_path)

    assert "passed on onnxruntime in fp32" in answer
