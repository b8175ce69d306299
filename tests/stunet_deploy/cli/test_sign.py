"""``stunet sign`` and ``--trust`` as a user types them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stunet_deploy.bundle import GOLDEN
from stunet_deploy.cli import main
from stunet_deploy.cli.sign import PASSPHRASE
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.signature import SIGNATURE
from tests.paths import ROOT

from .conftest import Place
from .test_without_torch import stunet

Answer = Callable[..., Any]


@pytest.fixture
def bundle(place: Place, tmp_path: Path) -> Path:
    """Return a copy of the bundle to sign."""
    return shutil.copytree(place.bundle, tmp_path / "model.bundle", ignore=shutil.ignore_patterns("engines"))


@pytest.fixture
def key(tmp_path: Path, answer: Answer) -> Path:
    """Return a new private key without a passphrase."""
    answer("sign", "--new-key", tmp_path / "agency")
    return tmp_path / "agency"


def test_who_has_signed_is_said_by_every_verb_that_trusts(
    bundle: Path, key: Path, place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    public = f"{key}.pub"
    made = answer("sign", bundle, "--key", key)
    assert (made["files"], made["signatures"]) == ([MANIFEST], 1)

    assert answer("verify", bundle, "--trust", public)["signed_by"] == [{"key": made["key"], "file": public}]
    assert "signed_by" not in answer("verify", bundle)
    by = {"by": [{"key": made["key"], "file": public}], "checked": True, "problem": None}
    assert answer("inspect", bundle, "--trust", public)["signatures"] == by
    by = {"by": [{"key": made["key"], "file": None}], "checked": False, "problem": None}
    assert answer("inspect", bundle)["signatures"] == by
    assert answer("run", bundle, "--replay", place.speeds, "--trust", public)["intervals"] > 0
    capsys.readouterr()
    for arguments, said in (
        (["verify", bundle, "--trust", public], f"signed by agency.pub (key {made['key'][:16]})\npassed"),
        (["inspect", bundle, "--trust", public], f"signed     by agency.pub (key {made['key'][:16]})\n"),
        (["inspect", bundle], f"signed     by key {made['key'][:16]}, not checked"),
        (["inspect", place.bundle], "signed     by nobody"),
    ):
        assert main([*map(str, arguments)]) == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["verify", "run", "inspect", "build"])
@pytest.mark.parametrize("fault", ["unsigned", "foreign", GOLDEN, MANIFEST, SIGNATURE])
def test_every_verb_that_trusts_refuses(
    bundle: Path, key: Path, place: Place, answer: Answer, capsys: pytest.CaptureFixture[str], verb: str, fault: str
) -> None:
    if fault == "foreign":
        answer("sign", "--new-key", key.with_name("foreign"))
        answer("sign", bundle, "--key", key.with_name("foreign"))
    elif fault != "unsigned":
        answer("sign", bundle, "--key", key)
        with (bundle / fault).open("ab") as file:
            file.write(b"\n")
    more = ["--replay", str(place.speeds)] if verb == "run" else []

    assert main([verb, str(bundle), "--trust", f"{key}.pub", *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")


def test_inspect_says_that_a_signature_file_is_damaged(bundle: Path, answer: Answer) -> None:
    (bundle / SIGNATURE).write_text("{")
    found = answer("inspect", bundle)["signatures"]
    assert (found["by"], found["checked"]) == ([], False)
    assert "is damaged" in found["problem"]


def test_a_bundle_that_is_not_whole_is_not_signed(bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / GOLDEN).write_bytes(b"altered")
    assert main(["sign", str(bundle), "--key", str(key)]) == 2
    assert f"{GOLDEN} was altered" in capsys.readouterr().err
    assert not (bundle / SIGNATURE).exists()


def test_a_passphrase_comes_from_the_environment_where_nobody_types(
    bundle: Path, tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PASSPHRASE, "wörd")
    assert answer("sign", "--new-key", tmp_path / "key")["encrypted"]
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    answer("sign", bundle, "--key", tmp_path / "key")
    for word, said in (("word", "wrong passphrase"), (None, f"set {PASSPHRASE}")):
        monkeypatch.setenv(PASSPHRASE, word) if word else monkeypatch.delenv(PASSPHRASE)
        assert main(["sign", str(bundle), "--key", str(tmp_path / "key")]) == 2
        assert said in capsys.readouterr().err
    answer("verify", bundle, "--trust", tmp_path / "key.pub")


@pytest.mark.skipif(os.name != "posix", reason="no terminals to open")
@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["wörd\n", "wörd\n"], 0, "public key"),
        (["\n"], 0, "has no passphrase"),
        (["word\n", "ward\n"], 2, "two passphrases"),
        (["\x04"], 2, "no passphrase"),
        (["word\n", "\x03"], 130, "interrupted"),
    ],
)
def test_a_passphrase_is_typed_on_a_terminal_and_not_shown(
    tmp_path: Path, typed: list[str], code: int, said: str
) -> None:
    import fcntl
    import pty
    import termios

    mine, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stunet_deploy", "sign", "--new-key", tmp_path / "key"],
        **{name: terminal for name in ("stdin", "stdout", "stderr")},  # type: ignore[call-overload]
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    shown = ""

    def read() -> bool:
        nonlocal shown
        try:
            part = os.read(mine, 4096)
        except OSError:  # the other end is closed
            return False
        shown += part.decode()
        return bool(part)

    for prompt, words in zip(["passphrase (empty for none): ", "once more: "], typed, strict=False):
        while prompt not in shown:
            assert read(), shown
        os.write(mine, words.encode())
    while read():
        pass
    os.close(mine)

    assert process.wait() == code, shown
    assert said in shown
    assert "rd\r" not in shown
    assert (tmp_path / "key").exists() == (code == 0)
    if code == 0:
        assert (b"ENCRYPTED" in (tmp_path / "key").read_bytes()) == (len(typed) == 2)


def test_a_key_that_others_may_read_is_remarked(bundle: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    assert "chmod" not in capsys.readouterr().err
    key.chmod(0o640)
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    assert f"chmod 600 {key}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a bundle without --key"),
        (["model.bundle"], "a bundle without --key"),
        (["--key", "agency"], "--key without a bundle"),
        (["model.bundle", "--new-key", "new"], "--new-key with another option"),
        (["model.bundle", "--key", "agency.pub"], "agency.pub with PUBLIC KEY"),
        (["model.bundle", "--key", "nobody"], "nobody (No such file"),
        (["nothing.bundle", "--key", "agency"], "no such folder"),
        (["--new-key", "agency"], "no key is replaced"),
        (["--new-key", "nowhere/key"], "cannot be written"),
    ],
)
def test_what_cannot_be_signed_or_made_is_said(
    bundle: Path,
    key: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.read_bytes() for path in key.parent.rglob("*") if path.is_file()}
    monkeypatch.chdir(bundle.parent)
    assert main(["sign", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in key.parent.rglob("*") if path.is_file()} == before


def test_trust_is_refused_where_nothing_would_be_checked(
    bundle: Path, key: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    public = f"{key}.pub"
    for arguments in (
        ["run", "--config", "service.toml", "--trust", public],
        ["inspect", str(place.model), "--trust", public],
        ["inspect", str(bundle), "--cost", "--trust", public],
    ):
        assert main(arguments) == 2
        assert "--trust" in capsys.readouterr().err


def test_an_export_in_place_of_a_signed_bundle_says_that_it_is_not_signed(
    bundle: Path, key: Path, place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("sign", bundle, "--key", key)
    assert main(["export", str(place.model), "--out", str(bundle)]) == 0
    assert f"this one is not yet: stunet sign {bundle}" in capsys.readouterr().err
    assert not (bundle / SIGNATURE).exists()
    assert main(["export", str(place.model), "--out", str(bundle)]) == 0
    assert "stunet sign" not in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
def test_an_engine_that_was_built_after_signing_is_said_until_it_is_signed(
    bundle: Path, key: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    public = f"{key}.pub"
    answer("sign", bundle, "--key", key)
    build = ["build", str(bundle), "--flavor", "rtx", "--compute-capability", "8.6", "--level", "0", "--trust", public]
    assert main([*build, "--batch", "1", "1", "8"]) == 0
    (engine,) = (path.name for path in (bundle / "engines").glob("*.engine"))
    assert f"no signature of the bundle names {engine} as it is" in capsys.readouterr().err
    assert main(["verify", str(bundle), "--trust", public]) == 0
    assert f"no trusted signature names {engine}: with trust it is refused" in capsys.readouterr().err
    (listed,) = answer("inspect", bundle, "--trust", public)["engines"]
    assert not listed["valid"]

    assert answer("sign", bundle, "--key", key)["files"] == [f"engines/{engine}", MANIFEST]
    capsys.readouterr()
    assert main(["verify", str(bundle), "--trust", public]) == 0
    assert "note:" not in capsys.readouterr().err
    (listed,) = answer("inspect", bundle, "--trust", public)["engines"]
    assert listed["valid"]
    with (bundle / "engines" / engine).open("ab") as file:
        file.write(b"more")
    assert main(["verify", str(bundle), "--trust", public]) == 2
    assert "altered after it was signed" in capsys.readouterr().err
    assert main(["sign", str(bundle), "--key", str(key)]) == 2
    assert "altered or cut short" in capsys.readouterr().err


def test_cryptography_is_imported_only_where_a_key_is_used(bundle: Path, key: Path, place: Place) -> None:
    blocked = ("cryptography",)
    for arguments in (["verify", bundle], ["inspect", bundle], ["run", bundle, "--replay", place.speeds]):
        done = stunet(blocked, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
    for arguments in (
        ["verify", bundle, "--trust", f"{key}.pub"],
        ["sign", bundle, "--key", key],
        ["sign", "--new-key", f"{key}2"],
    ):
        done = stunet(blocked, *arguments)
        assert done.returncode == 2
        assert "pip install 'stunet-deploy[sign]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(os.listdir(key.parent)) == ["agency", "agency.pub", "model.bundle"]
