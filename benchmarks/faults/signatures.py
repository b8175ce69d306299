"""Signatures: a signed bundle altered by somebody who knows how it is made, but does not have the key.

Whoever can write to the disk can also write the right hash and the right checksum, so that nothing but the signature
is left. A failure is each copy that is opened with trust, and each that ends in anything but a refusal with its reason:

* one bit of ``signature.json``, or a cut, or bytes too many;
* a digit of the manifest, with its checksum made right again;
* one bit of any other file, with its hash and the checksum made right again;
* the same, signed anew by a stranger, who may also write that the signature is the owner's.

A few copies of each kind are also given to ``stunet verify --trust``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.faults.damage import cut_or_longer, flipped
from benchmarks.faults.network import in_memory
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BundleError
from stunet_deploy.files import sha256
from stunet_deploy.keys import make_key, read_signing_key
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.signature import SIGNATURE, Trust, sign, signatures_of

_COMMANDS = 2  # copies of each kind that are also given to the program

Alteration = Callable[[Path, int, np.random.Generator], None]


def signatures(bundle: Bundle, copies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Alter so many copies in each way."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        folder = Path(scratch)
        owner, stranger = (make_key(folder / name, b"").path.with_suffix("") for name in ("owner", "stranger"))
        trust = owner.with_name("owner.pub")
        whole = shutil.copytree(bundle.path, folder / "whole")
        _sign(whole, owner)
        Bundle.load(whole, trust=Trust.read([trust]))  # nothing would be shown if this were refused too

        def by_a_stranger(copy: Path, number: int, rng: np.random.Generator) -> None:
            _file(copy, number, rng)
            (copy / SIGNATURE).unlink()
            _sign(copy, stranger)
            if number % 2:
                theirs, ours = (signatures_of(path)[0].key for path in (copy, whole))
                text = (copy / SIGNATURE).read_text(encoding="utf-8")
                (copy / SIGNATURE).write_text(text.replace(theirs, ours), encoding="utf-8")

        kinds: dict[str, Alteration] = {
            f"a bit of {SIGNATURE} of a signed bundle": _signature,
            "a digit of the manifest of a signed bundle, sealed anew": _manifest,
            "a bit of any other file of a signed bundle, with its hash, sealed anew": _file,
            "the same, signed by a stranger": by_a_stranger,
        }
        for kind, alter in kinds.items():
            failures, unnoticed = [], 0
            for number in range(copies):
                copy = shutil.copytree(whole, folder / "bundle")
                alter(copy, number, rng)
                failure = _failure(copy, trust) or (_command_failure(copy, trust) if number < _COMMANDS else None)
                if failure is not None:
                    failures.append(f"copy {number}: {failure}")
                unnoticed += _opens(copy)
                shutil.rmtree(copy)
            seen = f"{unnoticed} would be opened without trust"
            yield Row(kind, copies, failures, seen)


def _sign(folder: Path, key: Path) -> None:
    sign(folder, (folder / MANIFEST).read_bytes(), {}, read_signing_key(key, lambda: b""))


def _signature(copy: Path, number: int, rng: np.random.Generator) -> None:
    whole = (copy / SIGNATURE).read_bytes()
    changed = flipped(whole, number, rng) if number % 10 else cut_or_longer(whole, rng)
    (copy / SIGNATURE).write_bytes(changed)


def _manifest(copy: Path, number: int, rng: np.random.Generator) -> None:
    """Change a digit."""
    text = _unsealed(copy)
    place = int(rng.choice([found.start() for found in re.finditer(r"\d", text)]))
    digit = (int(text[place]) + int(rng.integers(1, 10))) % 10
    _write_sealed(copy, f"{text[:place]}{digit}{text[place + 1 :]}")


def _file(copy: Path, number: int, rng: np.random.Generator) -> None:
    """Change a bit of a file, and its hash in the manifest."""
    text = _unsealed(copy)
    files = json.loads(text)["files"]
    name = sorted(files)[number % len(files)]
    changed = flipped((copy / name).read_bytes(), number, rng)
    (copy / name).write_bytes(changed)
    _write_sealed(copy, text.replace(files[name], sha256(changed)))


def _unsealed(copy: Path) -> str:
    """Return the text of a manifest with an empty checksum."""
    text = (copy / MANIFEST).read_text(encoding="utf-8")
    return text.replace(json.loads(text)["checksum"], "", 1)


def _write_sealed(copy: Path, text: str) -> None:
    seal = '\n "checksum": "'
    (copy / MANIFEST).write_text(text.replace(seal, seal + sha256(text.encode()), 1), encoding="utf-8")


def _opens(copy: Path) -> bool:
    """Return whether the hashes and the checksum let a copy pass."""
    try:
        Bundle.load(copy).check_files()
    except BundleError:
        return False
    return True


def _failure(copy: Path, key: Path) -> str | None:
    """Return what is wrong if a copy is opened with trust, or ends in another error."""
    try:
        Bundle.load(copy, trust=Trust.read([key]))
    except BundleError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "opened"


def _command_failure(copy: Path, key: Path) -> str | None:
    command = [sys.executable, "-m", "stunet_deploy", "verify", str(copy), "--trust", str(key)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr:
        return None
    return f"stunet verify: exit code {done.returncode}, {done.stderr[-300:]}"
