"""Names from outside forge no line: not of a verb, not of the log, not of the metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from unicodedata import category
from urllib.request import urlopen

import onnx
import pytest

from stunet_deploy.bundle import GOLDEN
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.precisions import STEP
from tests.paths import ROOT

HOSTILE = "ring\nERROR ring: fake\r\x1b[2J\x00\x9b31m\u202e\u2028<b>é"
#: The same as far as a manifest may have it, which may not hold control characters.
NAME = "ring\u2028ERROR ring: fake\u202e\u2066<b>é"
STREAM = """
[[stream]]
name = "ring"
bundle = "bundle"
state = "state"
[stream.source]
kind = "stdin"
[[stream.sink]]
kind = "stdout"
"""


@pytest.fixture
def hostile(build_example, tmp_path):
    """Write a bundle in which every name is hostile as far as it may be, and return its folder."""
    bundle = build_example((1,)).bundle
    manifest = bundle.manifest
    sensors = tuple(f"{NAME}{node}" for node in range(len(manifest.sensor_ids)))
    site = replace(manifest.site, sensor_ids=sensors, features=(NAME, "trend"), units=(NAME, ""))
    altered = replace(
        manifest,
        site=site,
        targets=(NAME,),
        model=NAME,
        versions={NAME: NAME},
        training={NAME: NAME},
        accuracy={"fp32": {"results": [{"target": NAME, "horizon_minutes": 5, "mae": 2.0}]}},
    )
    step = onnx.load(bundle.path / STEP)
    del step.metadata_props[:]
    onnx.helper.set_model_props(step, altered.essentials())
    content = step.SerializeToString()
    (bundle.path / STEP).write_bytes(content)
    files = {**manifest.files, STEP: sha256(content)}
    altered = replace(altered, files=files, bundle_id=altered.identity(content))
    (bundle.path / MANIFEST).write_text(altered.to_json())
    bundle.path.rename(tmp_path / "bundle")
    return tmp_path / "bundle"


def run(*arguments, folder, given=""):
    command = [sys.executable, "-m", "stunet_deploy", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=environment, input=given.encode(), capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def assert_honest(text):
    for line in text.split("\n"):
        assert all(character.isprintable() or category(character) == "Zs" for character in line), ascii(line)
        assert not line.startswith("ERROR")


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize("verb", ["inspect", "verify", "run"])
def test_a_verb_shows_hostile_names_as_escapes(hostile, verb, more):
    replay = ("--replay", hostile / GOLDEN) if verb == "run" else ()
    code, out, err = run(verb, hostile, *replay, *more, folder=hostile.parent)
    assert code == 0, err
    assert_honest(out)
    assert_honest(err)
    assert "\\u202e" in out
    if more and verb != "verify":  # which names a sensor only
        assert NAME in map(str, leaves(json.loads(out)))


def leaves(data):
    """Yield every text of a JSON value."""
    if isinstance(data, dict):
        data = [*data, *data.values()]
    if isinstance(data, list):
        for each in data:
            yield from leaves(each)
    else:
        yield data


MESSAGES = [
    HOSTILE,
    json.dumps(HOSTILE),
    json.dumps({"timestamp": HOSTILE, "values": {}}),
    json.dumps({"timestamp": "2012-03-01T08:00:00Z", "values": {HOSTILE: 1}}),
    json.dumps({"timestamp": "2012-03-01T08:00:00Z", "values": {f"{NAME}0": {f"{HOSTILE}x": 1}}}),
    json.dumps({"timestamp": "2012-03-01T08:00:00Z", "values": {f"{NAME}0": {HOSTILE: HOSTILE}}}),
    json.dumps({"timestamp": "2012-03-01T08:00:00Z", "values": {f"{NAME}0": {NAME: 30}}}),
]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_a_service_logs_hostile_names_as_escapes(hostile, form):
    config = hostile.parent / "service.toml"
    config.write_text(f'log = "{form}"\n{STREAM}')
    code, out, err = run("run", "--config", config, folder=hostile.parent, given="\n".join(MESSAGES) + "\n")
    assert code == 0, err
    assert_honest(out)
    assert_honest(err)
    assert "refused" in err
    assert len(out.splitlines()) == 1


def test_metrics_and_health_show_them_as_escapes(hostile, start):
    config = hostile.parent / "service.toml"
    config.write_text(
        f"[http]\nport = 0\n{STREAM}".replace('"stdin"', f'"replay"\npath = "bundle/{GOLDEN}"\nspeed = 1')
    )
    running = start(config)
    running.wait_for(lambda status: status.last is not None)
    for path in ("metrics", "api/streams", "healthz", "forecast", "api/network"):
        with urlopen(f"{running.service.url}{path}") as answer:
            text = answer.read().decode()
        assert "\x1b" not in text
        assert not any(line.startswith("ERROR") for line in text.split("\n"))
    running.finish()
