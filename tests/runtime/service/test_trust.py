"""A service whose config names keys: real processes, which take signed bundles alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from stunet_deploy.bundle import GOLDEN
from stunet_deploy.files import sha256
from stunet_deploy.keys import make_key, read_signing_key
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.precisions import STEP
from stunet_deploy.signature import SIGNATURE, sign
from tests.paths import ROOT
from tests.waiting import LONG_S, wait_for

from .test_swap import forecasts_of, point_to

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'
TRUST = '[bundle]\ntrust = ["keys/agency.pub", "keys/old.pub"]'


@pytest.fixture
def keys(tmp_path):
    """Return a folder of keys, two of which the config names."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("agency", "old", "foreign"):
        make_key(folder / name, b"")
    return folder


@pytest.fixture
def signed(build_example, keys):
    """Return a function that makes a bundle of other states and signs it."""

    def make(name, *taps):
        bundle = build_example(*taps).bundle
        if name is not None:
            key = read_signing_key(keys / name, lambda: b"")
            sign(bundle.path, (bundle.path / MANIFEST).read_bytes(), {}, key)
        return bundle

    return make


def command(config, *arguments):
    return [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config), *arguments]


class Process:
    """A service in a process of its own: what it says, and what it forecasts."""

    def __init__(self, config):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command(config), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.said, self.forecasts = [], []
        self._readers = [
            threading.Thread(target=lambda: self.said.extend(iter(self.process.stderr.readline, ""))),
            threading.Thread(target=lambda: self.forecasts.extend(iter(self.process.stdout.readline, ""))),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, lines):
        """Send intervals, and wait until there is a forecast for each of them and the earlier ones."""
        wanted = len(self.forecasts) + len(lines)
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()
        wait_for(lambda: len(self.forecasts) == wanted or self.process.poll() is not None, lambda: self.said)

    def reload(self, *words):
        """Send SIGHUP and wait for a line with all the words."""
        begin = len(self.said)
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(*words, begin=begin)

    def wait_for(self, *words, begin=0):
        """Wait for a line with all the words."""
        wait_for(lambda: any(all(word in line for word in words) for line in self.said[begin:]), lambda: self.said)

    def end(self):
        """Stop it and return its exit code."""
        self.process.terminate()
        code = self.process.wait(LONG_S)
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        return code


@pytest.fixture
def begin():
    """Return a function that starts a service; what a failed test leaves is killed."""
    begun = []

    def start(config):
        begun.append(Process(config))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.end()


def altered(name):
    def alter(bundle):
        data = bytearray((bundle.path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle.path / name).write_bytes(data)

    return alter


def resealed(bundle):
    """Put another golden stream and its hash into the manifest, as anybody can."""
    (bundle.path / GOLDEN).write_bytes(b"other")
    text = (bundle.path / MANIFEST).read_text()
    data = json.loads(text)
    data["files"][GOLDEN] = sha256(b"other")
    whole = json.dumps(data | {"checksum": ""}, indent=1, sort_keys=True) + "\n"
    (bundle.path / MANIFEST).write_text(whole.replace('"checksum": "', f'"checksum": "{sha256(whole.encode())}', 1))


REFUSED = {
    "unsigned": (None, lambda bundle: None, "is not signed"),
    "foreign": ("foreign", lambda bundle: None, "signed by key"),
    "sealed anew": ("agency", resealed, "is not the one"),
    **{name: ("agency", altered(name), name) for name in (STEP, GOLDEN, MANIFEST, SIGNATURE)},
}


@pytest.mark.parametrize(("signer", "alter", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_trusted_key_has_signed_is_refused_at_every_door(
    write_config, begin, signed, lines, readings, signer, alter, said
):
    good, bad = signed("agency", (2, 1), (3,)), signed(signer, (4,))
    alter(bad)
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 1000", top=TRUST)
    point_to(config, bad.path)
    for arguments in ([], ["--dry-run"]):
        done = subprocess.run(
            command(config, *arguments), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr

    point_to(config, good.path)
    service = begin(config)
    service.wait_for("is signed by agency.pub (key ")
    service.send(lines[:5])
    point_to(config, bad.path)
    service.reload("ERROR", said, "the old one goes on, but the next start would fail")
    service.send(lines[5:10])
    assert service.end() == 0

    found = [np.array(json.loads(line)["values"]["speed"], np.float32) for line in service.forecasts]
    np.testing.assert_array_equal(found, forecasts_of(good, readings)[:10])


def test_a_new_bundle_of_a_trusted_key_is_taken_and_a_key_that_is_gone_is_said(
    write_config, begin, signed, keys, lines
):
    first, second = signed("old", (2, 1), (3,)), signed("agency", (4,))
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 1000", top=TRUST)
    point_to(config, first.path)
    dry = subprocess.run(command(config, "--dry-run"), cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    assert "\n  signed by old.pub (key " in dry.stdout
    service = begin(config)
    service.send(lines[:3])

    config.write_text(config.read_text().replace(', "keys/old.pub"', ""))
    service.reload("ERROR", "signed by key", "the old one goes on, but the next start would fail")
    point_to(config, second.path)
    service.reload("goes on with bundle")
    service.wait_for("is signed by agency.pub (key ")
    (keys / "agency.pub").write_bytes((keys / "agency").read_bytes())
    service.reload("ERROR", "agency.pub with PRIVATE KEY", "next start would fail")
    service.send(lines[3:5])
    assert service.end() == 0

    assert json.loads(service.forecasts[0])["bundle_id"] != json.loads(service.forecasts[-1])["bundle_id"]


def test_the_running_model_with_a_manifest_that_was_not_signed_is_said(write_config, begin, signed, keys, lines):
    running = signed(None, (2, 1), (3,))
    other = running.path.with_name("other")
    shutil.copytree(running.path, other)
    manifest = replace(running.manifest, training={"note": "another"}).to_json()
    (other / MANIFEST).write_text(manifest)
    sign(other, manifest.encode(), {}, read_signing_key(keys / "agency", lambda: b""))
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 1000")
    point_to(config, running.path)
    service = begin(config)
    service.send(lines[:2])

    point_to(config, other)
    config.write_text(f"{TRUST}\n{config.read_text()}")
    service.reload("ERROR", "the running model with another manifest.json", "the next start would run the new one")
    assert service.end() == 0


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        ("trust = []", "trust = []"),
        ('trust = "keys/agency.pub"', "bundle.trust = 'keys/agency.pub'"),
        ('trusted = ["keys/agency.pub"]', "unknown key bundle.trusted"),
        ('trust = ["keys/nobody.pub"]', "nobody.pub (No such file"),
        ('trust = ["keys/agency"]', "agency with PRIVATE KEY"),
    ],
)
def test_keys_that_cannot_be_trusted_end_every_start(write_config, signed, trust, said):
    config = write_config(STDIN, [STDOUT], top=f"[bundle]\n{trust}")
    point_to(config, signed("agency", (1,)).path)
    for arguments in ([], ["--dry-run"]):
        done = subprocess.run(
            command(config, *arguments), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
